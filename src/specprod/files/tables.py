"""Files as chunks of columns: what all readers have in common, and which reader a file takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from specprod.errors import MissingColumnError

__all__ = ["Chunk", "TableReader"]


class Chunk(Mapping[str, npt.NDArray[Any]]):
    """Some rows of a file; a column is taken out of them when it is asked for.

    Parameters
    ----------
    names : sequence of str
        Columns of the file.
    start : int
        Row in the file of the first row.
    size : int
        Number of rows.
    index : numpy.ndarray of int, optional
        The rows of these that count, after a filter; all by default.
    """

    def __init__(self, names: list[str], start: int, size: int, index: npt.NDArray[np.int64] | None = None) -> None:
        self.names = names
        self.start = start
        self.size = size
        self.index = index

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return self.size if self.index is None else self.index.size

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        raise KeyError(name)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row in the file of each row that counts, counted from 0."""
        return self.start + (np.arange(self.size) if self.index is None else self.index)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Self:
        """Leave out all rows but these, given as indexes into the rows that count so far."""
        chosen = np.asarray(rows, dtype=np.int64)
        return self._with_index(chosen if self.index is None else self.index[chosen])

    @abstractmethod
    def _with_index(self, index: npt.NDArray[np.int64]) -> Self:
        """Return the same rows under another index."""


class TableReader(ABC):
    """A table in a file, read in chunks.

    Attributes
    ----------
    path : pathlib.Path
        The file, as it was asked for.
    hdu : str, int or None
        The HDU, for messages.
    names : list of str
        Its columns.
    header : mapping
        Keywords of the table.
    row_bytes : int
        Size of a row in the file, about.
    """

    path: Path
    hdu: str | int | None
    names: list[str]
    header: Mapping[str, Any]
    row_bytes: int
    #: Whether the checksums of chunks add up to that of the rows that they cover.
    adds_checksums: bool = False

    @abstractmethod
    def read(self, start: int, stop: int) -> Chunk:
        """Read the rows from `start` on, `stop` not included."""

    def view(self, start: int = 0, stop: int | None = None) -> Chunk:
        """Give some rows, by default all, for taking a few columns or a few rows out of them.

        Where the file allows it, they are mapped into memory, and only what is taken is read.
        """
        return self.read(start, self.nrows if stop is None else stop)

    def require(self, *names: str) -> None:
        """Make sure that the table has some columns.

        Raises
        ------
        MissingColumnError
        """
        for name in names:
            if name not in self.names:
                raise MissingColumnError("there is no such column", file=self.path, hdu=self.hdu, column=name)

    def chunks(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Yield the rows from `start` on in chunks of `size` rows, the last one perhaps shorter."""
        for first in range(start, self.nrows, size):
            yield self.read(first, first + size)

    @abstractmethod
    def checksum(self, start: int, stop: int) -> int:
        """Compute the share of some rows in the checksum of the file.

        The shares of ranges that cover the rows of a FITS table add up to its DATASUM; see `specprod.files.fits.add`.
        """

    def checksum_of(self, chunk: Chunk) -> int:
        """Compute the share of a chunk that was read from this table."""
        return self.checksum(chunk.start, chunk.start + chunk.size)

    @abstractmethod
    def datasum(self) -> int:
        """Compute the checksum of the data, by the rule of the FITS keyword DATASUM."""

    @property
    @abstractmethod
    def nrows(self) -> int:
        """Number of rows."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
