"""Rows of a tile, ready to be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.loading.rules import KeysOfChunk, apply_rules
from specprod.model import SchemaMixin, Tile
from specprod.model.base import TableLike
from specprod.model.converting import Columns, Converter, column_names, number_of_rows

__all__ = ["TableCounts", "TileRows", "converted", "joined"]


@dataclass(frozen=True, eq=False)
class TileRows:
    """All that a tile brings into the database.

    Attributes
    ----------
    tileid : int
    tables : dict of class to Columns
    complete : bool
        Whether the targets and assignments are among the tables; they are not in an update.
    redesigned : bool
        Whether the spectra told that the tile has other targets than those in the database.
    files : list of pathlib.Path
        Files of the tile itself: of its spectra and its fiber assignment.
    uncatalogued : int
        Targets that are in no catalogue.
    missing_bricks : int
        Absent catalogues of bricks without which its photometry was read.
    """

    tileid: int
    tables: dict[type[SchemaMixin], Columns] = field(default_factory=dict)
    complete: bool = True
    redesigned: bool = False
    files: list[Path] = field(default_factory=list)
    uncatalogued: int = 0
    missing_bricks: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        """What the ledger is to know of the tile besides files and counts, as JSON has it."""
        return {
            "complete": self.complete,
            "uncatalogued": self.uncatalogued,
            "missing_bricks": self.missing_bricks,
            "lastnight": [int(night) for night in self.tables[Tile]["lastnight"].tolist()]
            if Tile in self.tables
            else [],
        }


@dataclass(frozen=True)
class TableCounts:
    """What became of the rows of a table.

    Attributes
    ----------
    inserted, updated, removed, unchanged : int
        Numbers of rows.
    """

    inserted: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0

    def __add__(self, other: TableCounts) -> TableCounts:
        return TableCounts(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.removed + other.removed,
            self.unchanged + other.unchanged,
        )


def converted(
    cls: type[SchemaMixin],
    data: TableLike,
    given: Mapping[str, Any] | None = None,
    *,
    file: str | None = None,
    hdu: str | None = None,
    rows: npt.NDArray[np.int64] | None = None,
) -> Columns:
    """Convert rows as loads of tiles do: proper motions that are NaN become 0, and keys must be unique.

    Parameters
    ----------
    cls : class
    data : astropy.table.Table, Chunk or mapping
    given : mapping, optional
        Values for all rows.
    file, hdu : str, optional
        Where the data come from, for messages.
    rows : numpy.ndarray of int64, optional
        Row in the file of each.

    Raises
    ------
    MissingColumnError, ValueRejectedError, ConstraintError
    """
    converter = Converter(cls, column_names(data), given, file=file, hdu=hdu, nan_zero=True)
    numbers = np.arange(number_of_rows(data)) if rows is None else rows
    columns, _ = apply_rules(converter, data, numbers, [KeysOfChunk(cls)])
    converter.report()
    return columns


def joined(*parts: Columns) -> Columns:
    """Put the rows of some parts of one table behind each other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
