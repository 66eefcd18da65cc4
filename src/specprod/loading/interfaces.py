"""What a load is given, and what it tells others: files, pieces of them, progress, the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from specprod.files.tables import Chunk, TableReader
from specprod.model import SchemaMixin
from specprod.model.converting import Rejects

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from specprod.database.writing import Counts

__all__ = ["FileLoad", "Ledger", "NoLedger", "NoProgress", "Piece", "Progress", "RowFilter"]

#: Rows of a chunk that stay, as indexes into it.
RowFilter = Callable[[Chunk], npt.NDArray[np.integer[Any]]]


@dataclass(frozen=True, eq=False)
class FileLoad:
    """One file to be loaded into one table.

    Attributes
    ----------
    path : pathlib.Path
    hdu : str, int or tuple of str
        See `specprod.files.open_table`.
    table : class
    given : mapping
        Values for all rows, such as ``survey="main"``.
    row_filter : callable, optional
        Gives the indexes of the rows of a chunk that stay. All by default. If it has an attribute ``certain`` that is
        true, the keys of what it leaves are in no other row of the table.
    only_new : bool
        Whether rows whose key is in the table already are left out; otherwise they are an error.
    nan_zero : bool
        Whether columns that say so take NaN as zero, as loads of tiles do.
    stage : str
        The stage that loads it, for the ledger.
    """

    path: Path
    hdu: str | int | tuple[str, ...]
    table: type[SchemaMixin]
    given: Mapping[str, Any] = field(default_factory=dict)
    row_filter: RowFilter | None = None
    only_new: bool = False
    nan_zero: bool = False
    stage: str = "load"


@dataclass
class Piece:
    """A chunk that is ready to be written.

    Attributes
    ----------
    first, last : int
        Its rows in the file, `last` not included.
    rows : int
        How many of them are to be written.
    prepared : list of (int, list of memoryview)
        What the writer takes: numbers of rows, and their bytes.
    rejects : Rejects
        Rows that violate a rule.
    checksum : int
        Share of the rows in the checksum of the file.
    keys, places : list of numpy.ndarray
        Keys of its rows, and where these stand in the file, slice by slice.
    """

    first: int
    last: int
    rows: int = 0
    prepared: list[tuple[int, list[memoryview]]] = field(default_factory=list)
    rejects: Rejects = field(default_factory=Rejects)
    checksum: int = 0
    keys: list[npt.NDArray[Any]] = field(default_factory=list)
    places: list[npt.NDArray[np.int64]] = field(default_factory=list)


class Progress(Protocol):
    """What a load tells of its progress."""

    def expect(self, load: FileLoad, rows: int) -> None:
        """Take note that a file that is not begun yet has that many rows."""

    def start(self, load: FileLoad, rows: int) -> None:
        """Take note that a file is begun, of which that many rows are left."""

    def advance(self, load: FileLoad, rows: int) -> None:
        """Take note that so many rows of the file are done."""

    def during(self, what: str) -> AbstractContextManager[object]:
        """Take note of work that has no rows, such as that on an index, for as long as it lasts."""


class NoProgress:
    """Tells nothing."""

    def expect(self, load: FileLoad, rows: int) -> None:
        """Do nothing."""

    def start(self, load: FileLoad, rows: int) -> None:
        """Do nothing."""

    def advance(self, load: FileLoad, rows: int) -> None:
        """Do nothing."""

    def during(self, what: str) -> AbstractContextManager[object]:
        """Do nothing."""
        return nullcontext()


class Ledger(Protocol):
    """Keeps what was loaded, in the transaction of the rows themselves."""

    @property
    def keeps_checksums(self) -> bool:
        """Whether pieces need their checksum."""

    def complete(self, load: FileLoad) -> bool:
        """Whether a file is loaded to its end and is what it was."""

    def begin(self, load: FileLoad, reader: TableReader) -> int:
        """Begin a file, and return its first row that is not loaded yet."""

    def has(self, connection: Connection, load: FileLoad, piece: Piece) -> bool:
        """Whether a piece is in the ledger: a commit can succeed although its answer is lost."""

    def record(self, connection: Connection, load: FileLoad, piece: Piece, counts: Counts) -> None:
        """Record a piece, in the transaction of its rows."""

    def finish(self, load: FileLoad, reader: TableReader) -> None:
        """End a file."""

    def announce(self, load: FileLoad, rows: int) -> None:
        """Take note of the number of rows of a file, before any of them is recorded."""

    def changed(self, load: FileLoad) -> bool:
        """Whether rows of a file were loaded that are no longer what they were."""

    def ranges(self, load: FileLoad) -> list[tuple[int, int]]:
        """Give the ranges of rows of a file that are loaded, in order."""

    def forget(self, connection: Connection, load: FileLoad, first: int) -> None:
        """Remove the record of the rows of a file from `first` on, in the transaction in which they are deleted."""


class NoLedger:
    """Keeps nothing, for loads into a database that are not to be resumed."""

    keeps_checksums = False

    def complete(self, load: FileLoad) -> bool:
        """Know of no file."""
        return False

    def begin(self, load: FileLoad, reader: TableReader) -> int:
        """Begin at the first row."""
        return 0

    def has(self, connection: Connection, load: FileLoad, piece: Piece) -> bool:
        """Know of no piece."""
        return False

    def record(self, connection: Connection, load: FileLoad, piece: Piece, counts: Counts) -> None:
        """Do nothing."""

    def finish(self, load: FileLoad, reader: TableReader) -> None:
        """Do nothing."""

    def announce(self, load: FileLoad, rows: int) -> None:
        """Do nothing."""

    def changed(self, load: FileLoad) -> bool:
        """Know of no file."""
        return False

    def ranges(self, load: FileLoad) -> list[tuple[int, int]]:
        """Know of no rows."""
        return []

    def forget(self, connection: Connection, load: FileLoad, first: int) -> None:
        """Do nothing."""
