"""What of a production's files goes into which table: the HDU, and which of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specprod.files.tree import TILES_HDU
from specprod.loading.filters import not_sky
from specprod.loading.pieces import FileLoad, RowFilter
from specprod.model import (
    Exposure,
    Fiberassign,
    Frame,
    Photometry,
    Potential,
    SchemaMixin,
    Target,
    Tile,
    Zpix,
    Ztile,
    table_of,
)

__all__ = ["PARTS", "Part", "part_of", "recorded_part"]


@dataclass(frozen=True)
class Part:
    """What a kind of file gives to a table.

    Attributes
    ----------
    stage : str
    table : class
    hdu : str or tuple of str
    row_filter : callable or None
    only_new : bool
        See `specprod.loading.pieces.FileLoad`.
    """

    stage: str
    table: type[SchemaMixin]
    hdu: str | tuple[str, ...]
    row_filter: RowFilter | None = None
    only_new: bool = False

    def load(self, path: Path, given: Mapping[str, Any] | None = None, row_filter: RowFilter | None = None) -> FileLoad:
        """Give what a file of this kind is loaded by."""
        chosen = row_filter or self.row_filter
        return FileLoad(path, self.hdu, self.table, given or {}, chosen, only_new=self.only_new, stage=self.stage)


#: All of them, in the order of the load.
PARTS = (
    Part("exposures", Tile, TILES_HDU),
    Part("exposures", Exposure, "EXPOSURES"),
    Part("exposures", Frame, "FRAMES"),
    Part("photometry", Photometry, "TRACTORPHOT"),
    Part("targetphot", Photometry, "TARGETPHOT", only_new=True),
    Part("target", Target, "TARGETPHOT"),
    Part("redshift", Ztile, "ZCATALOG", not_sky),
    Part("redshift", Zpix, "ZCATALOG", not_sky),
    Part("fiberassign", Fiberassign, "FIBERASSIGN", not_sky),
    Part("fiberassign", Potential, "POTENTIAL_ASSIGNMENTS", not_sky),
)


def part_of(stage: str, table: type[SchemaMixin]) -> Part:
    """Give what the files of a stage give to a table."""
    return next(part for part in PARTS if part.stage == stage and part.table is table)


def recorded_part(table: str, hdu: str) -> Part | None:
    """Find the part that the ledger names by its table and its HDU."""
    for part in PARTS:
        if table_of(part.table).name == table and part.load(Path()).hdu_name == hdu:
            return part
    return None
