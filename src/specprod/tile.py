"""Loads of single tiles, as a survey observes them, and of tiles again that gained exposures.

A tile is one transaction. `load_tiles` does all; the other functions are for those who need one of its steps. It does
not call them: it reads many tiles together, so that a catalogue is read once for all of them, and it writes a tile at
once, so that rows that are gone leave in the order of the references. But both are made of the same parts for reading,
converting and writing, and of a tile that was not there the steps, taken in their order, leave the same rows.

None keeps a database in a global: each that needs one takes it as the argument ``database``, builds keys that are not
there yet, and commits. Or it joins the transaction of a ``connection`` that it is given; then the keys must be there.
"""

from __future__ import annotations

from collections.abc import Sequence

from specprod.entry import run_command
from specprod.production.finish import update_primary, update_q3c
from specprod.tiles.loaded import Loaded
from specprod.tiles.loading import Record, TileSummary, changed_tiles, load_tiles
from specprod.tiles.steps import (
    load_fiberassign,
    load_observations,
    load_photometry,
    load_redshift,
    load_target,
    load_targetphot,
    potential_photometry,
    potential_targets,
    targetphot,
    tractorphot,
)

__all__ = [
    "Loaded",
    "Record",
    "TileSummary",
    "changed_tiles",
    "load_fiberassign",
    "load_observations",
    "load_photometry",
    "load_redshift",
    "load_target",
    "load_targetphot",
    "load_tiles",
    "main",
    "potential_photometry",
    "potential_targets",
    "targetphot",
    "tractorphot",
    "update_primary",
    "update_q3c",
]


def main(args: Sequence[str] | None = None) -> int:
    """Run ``specprod-load tile``, the load of tiles.

    Parameters
    ----------
    args : sequence of str, optional
        The words after ``specprod-load tile``; those of the process by default.

    Returns
    -------
    int
        For `sys.exit`; the command has said what went wrong.
    """
    return run_command("tile", args)
