"""Files as chunks of columns: what all readers have in common, and which reader a file takes."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from specprod.errors import ChecksumError, InputError, MissingColumnError, ValueRejectedError
from specprod.files.checksums import add
from specprod.survey.identifiers import whole_numbers

if TYPE_CHECKING:
    from specprod.files.unpacking import Fingerprint

__all__ = ["Chunk", "TableReader"]


class Chunk(Mapping[str, npt.NDArray[Any]]):
    """Some rows of a file, as a mapping of names to columns; a column is taken out of them when it is asked for.

    As in FITS, upper and lower case are the same in names, unless columns differ in nothing else.

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
    place : mapping, optional
        File and HDU, for messages.
    """

    def __init__(
        self,
        names: list[str],
        start: int,
        size: int,
        index: npt.NDArray[np.int64] | None = None,
        place: Mapping[str, Any] | None = None,
    ) -> None:
        self.names = names
        self.start = start
        self.size = size
        self.index = index
        self.place = place or {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and find_name(self.names, name) is not None

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        found = find_name(self.names, name)
        if found is None:
            raise MissingColumnError("there is no such column", column=name, **self.place)
        return self._column(found)

    @property
    def colnames(self) -> list[str]:
        """Names of the columns, as astropy's tables call them."""
        return self.names

    @property
    def nrows(self) -> int:
        """Number of the rows that count."""
        return self.size if self.index is None else self.index.size

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row in the file of each row that counts, counted from 0."""
        return self.start + (np.arange(self.size) if self.index is None else self.index)

    def integers(self, name: str) -> npt.NDArray[np.int64]:
        """Take a column of integers, such as TARGETID.

        Raises
        ------
        MissingColumnError
        ValueRejectedError
            If it holds anything else, or numbers beyond 64 bits.
        """
        values = self[name]
        with self.located():
            return whole_numbers(values, name)

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Take a column of numbers, such as MJD.

        Raises
        ------
        MissingColumnError
        ValueRejectedError
            If it holds anything else.
        """
        values = self[name]
        if values.dtype.kind not in "fiu":
            raise ValueRejectedError("expected numbers", column=name, **self.place)
        return np.asarray(values, dtype=np.float64)

    @contextlib.contextmanager
    def located(self) -> Iterator[None]:
        """Name file, HDU and row of the file in errors of those who look at these rows."""
        try:
            yield
        except InputError as error:
            if error.file is None and self.place:
                error.file, error.hdu = str(self.place["file"]), self.place["hdu"]
                error.row = None if error.row is None else int(self.rows[error.row])
            raise

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Self:
        """Leave out all rows but these, given as indexes into the rows that count so far."""
        return self._taken(np.asarray(rows, dtype=np.int64))

    def _under(self, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Index of some of the rows that count."""
        return chosen if self.index is None else self.index[chosen]

    @abstractmethod
    def _column(self, name: str) -> npt.NDArray[Any]:
        """Take out a column, by the name that the file has for it."""

    @abstractmethod
    def _taken(self, chosen: npt.NDArray[np.int64]) -> Self:
        """Return some of the rows that count."""


def find_name(names: Sequence[str], name: str) -> str | None:
    """Find a name of a column, in the case of letters of the file; None if there is none."""
    if name in names:
        return name
    return next((other for other in names if other.upper() == name.upper()), None)


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
    primary_header : mapping
        Keywords of the first HDU of the file, where it has HDUs.
    row_bytes : int
        Size of a row in the file, about.
    header_sum : int or None
        Checksum of the header, in FITS.
    fingerprint : Fingerprint
        What the file was when it was opened.
    """

    path: Path
    hdu: str | int | None
    names: list[str]
    header: Mapping[str, Any]
    primary_header: Mapping[str, Any]
    row_bytes: int
    header_sum: int | None = None
    fingerprint: Fingerprint
    #: Whether the checksums of chunks add up to that of the rows that they cover.
    adds_checksums: bool = False

    @abstractmethod
    def read(self, start: int, stop: int) -> Chunk:
        """Read the rows from `start` on, `stop` not included."""

    def view(self, start: int = 0, stop: int | None = None) -> Chunk:
        """Give some rows, by default all, for taking a few columns or a few rows out of them.

        Where the file allows it, only what is taken is read, and then; so that the file is open as long as the rows.
        """
        return self.read(start, self.nrows if stop is None else stop)

    def require(self, *names: str) -> None:
        """Make sure that the table has some columns.

        Raises
        ------
        MissingColumnError
        """
        for name in names:
            if find_name(self.names, name) is None:
                raise MissingColumnError("there is no such column", file=self.path, hdu=self.hdu, column=name)

    def chunks(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Yield the rows from `start` on in chunks of `size` rows, the last one perhaps shorter."""
        for first in range(start, self.nrows, size):
            yield self.read(first, first + size)

    @abstractmethod
    def checksum(self, start: int, stop: int) -> int:
        """Compute the share of some rows in the checksum of the file.

        The shares of ranges that cover the rows of a FITS table add up to its DATASUM; see
        `specprod.files.checksums.add`.
        """

    def checksum_of(self, chunk: Chunk) -> int:
        """Compute the share of a chunk that was read from this table."""
        return self.checksum(chunk.start, chunk.start + chunk.size)

    @abstractmethod
    def datasum(self) -> int:
        """Compute the checksum of the data, by the rule of the FITS keyword DATASUM."""

    @property
    def keywords(self) -> Mapping[str, Any]:
        """What the file says of all rows: the keywords of the table, and those of the first HDU that it has not."""
        return ChainMap(dict(self.header), dict(self.primary_header))

    @property
    def claimed_datasum(self) -> int | None:
        """The checksum of the data by the file itself; None if it does not say.

        Raises
        ------
        ChecksumError
            If it says nothing that could be one.
        """
        text = str(self.header.get("DATASUM") or "").strip() if self.header_sum is not None else ""
        if not text:
            return None
        if not (text.isascii() and text.isdigit()):
            raise ChecksumError(f"DATASUM is {text!r}, expected a number", file=self.path, hdu=self.hdu)
        return int(text)

    @property
    def has_heap(self) -> bool:
        """Whether data follow the rows, which are no part of the checksums of rows."""
        return self.header_sum is not None and bool(self.header.get("PCOUNT"))

    def check_header(self) -> None:
        """Check the header by its CHECKSUM, if it has one.

        The sum of an HDU, in ones' complement, is zero (FITS standard 4.0, section 4.4.2.7, appendix J): here that of
        the header, and DATASUM for that of the data; only where there is no DATASUM, the data are read.

        Raises
        ------
        ChecksumError
        """
        claimed = str(self.header.get("CHECKSUM") or "").strip()
        if self.header_sum is None or not claimed:
            return
        data = self.claimed_datasum
        found = add(self.header_sum, self.datasum() if data is None else data)
        if found not in (0, 0xFFFFFFFF):
            raise ChecksumError(
                f"its header is not what CHECKSUM {claimed!r} and DATASUM {data} in it say: the sum is {found}, "
                f"expected {0xFFFFFFFF}; something in it was changed or damaged",
                file=self.path,
                hdu=self.hdu,
            )

    def check_data(self, found: int) -> None:
        """Compare a checksum of all data, such as `datasum` computes, with the one that the header has, if it has one.

        Raises
        ------
        ChecksumError
        """
        claimed = self.claimed_datasum
        if claimed is not None and found != claimed:
            message = f"its data have the checksum {found}, but its header says DATASUM {claimed}"
            raise ChecksumError(message, file=self.path, hdu=self.hdu)

    @abstractmethod
    def changed(self) -> str | None:
        """Say in what way the file is no longer what it was when it was opened; None if it is."""

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
