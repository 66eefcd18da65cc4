"""Files as chunks of columns: what all readers have in common, and which reader a file takes."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from specprod.errors import FormatError, MissingColumnError, MissingFileError

__all__ = ["Chunk", "TableReader", "open_table", "unpacked"]


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


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give a path whose bytes are not compressed: `path` itself, or a temporary file for one that is gzipped.

    The temporary file stands in ``TMPDIR``, so that memory does not grow with the file.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is truncated or corrupt.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(2) != b"\x1f\x8b":
                yield path
                return
    except FileNotFoundError as error:
        raise MissingFileError("no such file", file=path) from error
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}", file=path) from error
    with tempfile.NamedTemporaryFile(prefix="specprod-", suffix=path.with_suffix("").suffix) as plain:
        try:
            with gzip.open(path, "rb") as packed:
                shutil.copyfileobj(packed, plain, 1 << 20)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FormatError(f"the gzip stream is truncated or corrupt ({error})", file=path) from error
        plain.flush()
        yield Path(plain.name)


def _state(path: Path) -> tuple[Path, int, int] | None:
    """Give what changes if a file does, None for one that is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return path, status.st_size, status.st_mtime_ns


class Unpacker:
    """Unpacks files, and keeps the last one until another is asked for: loads of HDUs of one file follow each other."""

    def __init__(self) -> None:
        self._kept = contextlib.ExitStack()
        self._of: tuple[Path, int, int] | None = None
        self._plain = Path()

    def plain(self, path: Path) -> Path:
        """Give a path whose bytes are not compressed, as `unpacked` does; it is there until the next call."""
        state = _state(path)
        if state is None or state != self._of:
            self.close()
            self._plain = self._kept.enter_context(unpacked(path))
            self._of = state
        return self._plain

    def close(self) -> None:
        """Remove the last one."""
        self._of = None
        self._kept.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_table(
    path: str | Path, hdu: str | int | tuple[str, ...] = 1, *, unpacker: Unpacker | None = None
) -> TableReader:
    """Open a table for reading in chunks.

    Parameters
    ----------
    path : str or path
        A FITS file, plain or gzipped, or one whose images are tile-compressed (``.fz``); an ECSV or a CSV file.
    hdu : str, int or tuple of str
        Name or number of the HDU, or names of which the first that is there counts; text files have none.
    unpacker : Unpacker, optional
        Of a user who reads more than one HDU of a file.

    Returns
    -------
    TableReader
        To be closed by its user; it is a context manager.

    Raises
    ------
    MissingFileError, FormatError, MissingHDUError
    """
    path = Path(path)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".ecsv")):
        from specprod.files.text import TextTable

        return TextTable(path)
    from specprod.files.fits import FitsTable

    return FitsTable(path, hdu, unpacker)
