"""Patch the summary files, tiles and exposures, of a production with the values of another.

The functions take tables and return copies; what they change is appended to the `Report` that is given as ``report=``.
"""

from __future__ import annotations

from collections.abc import Sequence

from specprod.entry import run_command
from specprod.patch.columns import match_rows
from specprod.patch.exposures import (
    patch_exposures,
    patch_exposures_efftime_spec,
    patch_frames,
    patch_missing_frames_mjd,
)
from specprod.patch.files import get_data
from specprod.patch.job import PatchOptions, apply_patches, output_files, patch_production
from specprod.patch.report import Change, Report, Unpatched, as_json, write_report
from specprod.patch.tiles import back_patch_inconsistent_values, patch_tiles

__all__ = [
    "Change",
    "PatchOptions",
    "Report",
    "Unpatched",
    "apply_patches",
    "as_json",
    "back_patch_inconsistent_values",
    "get_data",
    "main",
    "match_rows",
    "output_files",
    "patch_exposures",
    "patch_exposures_efftime_spec",
    "patch_frames",
    "patch_missing_frames_mjd",
    "patch_production",
    "patch_tiles",
    "write_report",
]


def main(args: Sequence[str] | None = None) -> int:
    """Run ``specprod-load patch``.

    Parameters
    ----------
    args : sequence of str, optional
        The words after ``specprod-load patch``; those of the process by default.

    Returns
    -------
    int
        For `sys.exit`; the command has said what went wrong.
    """
    return run_command("patch", args)
