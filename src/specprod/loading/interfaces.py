"""What a load tells others: its progress, and the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Connection

from specprod.database.writing import Counts
from specprod.loading.pieces import FileLoad, Piece

if TYPE_CHECKING:
    from specprod.files.tables import TableReader

__all__ = ["Ledger", "NoLedger", "NoProgress", "Progress"]


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

    def announce(self, load: FileLoad, reader: TableReader) -> None:
        """Take note of a file that was opened, before any of its rows is recorded."""

    def changed(self, load: FileLoad) -> bool:
        """Whether rows of a file were loaded that are no longer what they were."""

    def ranges(self, load: FileLoad) -> list[tuple[int, int]]:
        """Give the ranges of rows of a file that are loaded, in order."""

    def checksum(self, load: FileLoad) -> int:
        """Give the checksum of the rows of a file that are loaded."""

    def rejected(self, load: FileLoad) -> int:
        """Give the number of rows of a file that were left out because they violate a rule."""

    def reject(self, connection: Connection, load: FileLoad, rows: Sequence[int]) -> None:
        """Record that rows of a file that were loaded are left out, in the transaction in which they are deleted."""

    def absent(self, table: str, loads: Sequence[FileLoad]) -> list[str]:
        """Name the files that were loaded into a table and are not among these."""

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

    def announce(self, load: FileLoad, reader: TableReader) -> None:
        """Do nothing."""

    def changed(self, load: FileLoad) -> bool:
        """Know of no file."""
        return False

    def ranges(self, load: FileLoad) -> list[tuple[int, int]]:
        """Know of no rows."""
        return []

    def checksum(self, load: FileLoad) -> int:
        """Know of no rows."""
        return 0

    def rejected(self, load: FileLoad) -> int:
        """Know of no rows."""
        return 0

    def reject(self, connection: Connection, load: FileLoad, rows: Sequence[int]) -> None:
        """Do nothing."""

    def absent(self, table: str, loads: Sequence[FileLoad]) -> list[str]:
        """Know of no file."""
        return []

    def forget(self, connection: Connection, load: FileLoad, first: int) -> None:
        """Do nothing."""
