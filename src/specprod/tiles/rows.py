"""Rows of a tile, ready to be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import ConstraintError
from specprod.loading.rejects import name_row, repeated
from specprod.model import SchemaMixin, table_of
from specprod.model.base import TableLike
from specprod.model.converting import Columns, Converter, column_names

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
    columns = converter.convert(data, 0 if rows is None else rows)
    converter.report()
    (key,) = (item.name for item in table_of(cls).primary_key.columns)
    twice = repeated(columns[key], [])
    if twice.any():
        place = int(np.flatnonzero(twice)[0])
        raise ConstraintError(
            f"repeats the key of an earlier row: {name_row(cls, columns, twice)}",
            file=file,
            hdu=hdu,
            row=place if rows is None else int(rows[place]),
        )
    return columns


def joined(*parts: Columns) -> Columns:
    """Put the rows of some parts of one table behind each other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
