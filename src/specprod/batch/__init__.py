"""Scripts that load a production, or its tiles, as jobs of SLURM."""

from __future__ import annotations

from collections.abc import Sequence

from specprod.batch.options import BatchOptions
from specprod.batch.scripts import prepare_template, write_scripts
from specprod.entry import run_command
from specprod.survey.constants import FIRST_NIGHT
from specprod.tiles.selection import select_tiles

__all__ = ["FIRST_NIGHT", "BatchOptions", "main", "prepare_template", "select_tiles", "write_scripts"]


def main(args: Sequence[str] | None = None) -> int:
    """Run ``specprod-load batch``, which writes the scripts.

    Parameters
    ----------
    args : sequence of str, optional
        The words after ``specprod-load batch``; those of the process by default.

    Returns
    -------
    int
        For `sys.exit`; the command has said what went wrong.
    """
    return run_command("batch", args)
