"""The repair of template coefficients: productions whose columns coeff_0 … coeff_9 in zpix and ztile are wrong.

The right values are extracted from the catalogues to a patch file, loaded into patch tables in a schema of their own,
counted against the production, and set in one transaction, which can be undone.
"""

from __future__ import annotations

from collections.abc import Sequence

from specprod.coeff.extracting import PATCH_HDU, copy_columns, extract, find_catalogue, patch_name
from specprod.coeff.fixing import Applied, PatchCounts, apply_patch, compare, require_agreement, undo_patch
from specprod.coeff.patching import default_schema, load_patch
from specprod.coeff.tables import FIXES, PatchBase, ZpixBackup, ZpixPatch, ZtileBackup, ZtilePatch
from specprod.entry import run_command

__all__ = [
    "FIXES",
    "PATCH_HDU",
    "Applied",
    "PatchBase",
    "PatchCounts",
    "ZpixBackup",
    "ZpixPatch",
    "ZtileBackup",
    "ZtilePatch",
    "apply_patch",
    "compare",
    "copy_columns",
    "default_schema",
    "extract",
    "find_catalogue",
    "load_patch",
    "main",
    "patch_name",
    "require_agreement",
    "undo_patch",
]


def main(args: Sequence[str] | None = None) -> int:
    """Run ``specprod-load coeff-fix``; the first word names the step, such as ``extract``.

    Parameters
    ----------
    args : sequence of str, optional
        The words after ``specprod-load coeff-fix``; those of the process by default.

    Returns
    -------
    int
        For `sys.exit`; the command has said what went wrong.
    """
    return run_command("coeff-fix", args)
