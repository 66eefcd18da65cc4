"""Binary tables in FITS files.

Headers and rows are read as they are, rows in one piece a chunk, and the columns that are needed are taken out of them:
that reads four to eight times as fast as asking CFITSIO for 90 columns of 200. And a file is opened once, by its
literal name: CFITSIO takes names for expressions, which can even write files.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import FormatError
from specprod.files.checksums import add, datasum
from specprod.files.columns import BinaryColumn, binary_columns
from specprod.files.rows import RowReader
from specprod.files.structure import count, find_hdu
from specprod.files.tables import Chunk, TableReader
from specprod.files.unpacking import Unpacker, open_file

__all__ = ["FitsTable", "read_header"]

_BLOCK = 1 << 22
#: Rows that take more bytes than this are not what a catalogue holds.
_WIDEST = 1 << 26
#: Bytes up to which rows are kept in memory: all of a view, whatever is wanted of them, and those that were chosen.
_SMALL, _CHOSEN = 1 << 23, 1 << 27


class FitsChunk(Chunk):
    """Rows of a binary table, as bytes in memory."""

    def __init__(
        self,
        raw: npt.NDArray[Any],
        columns: Mapping[str, BinaryColumn],
        start: int,
        index: npt.NDArray[np.int64] | None = None,
        place: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(list(columns), start, raw.size, index, place)
        self.raw = raw
        self.columns = columns

    def _column(self, name: str) -> npt.NDArray[Any]:
        field = self.raw[name]
        with self.located():
            return self.columns[name].values(field if self.index is None else field[self.index])

    def _taken(self, chosen: npt.NDArray[np.int64]) -> FitsChunk:
        return FitsChunk(self.raw, self.columns, self.start, self._under(chosen), self.place)


class FitsView(Chunk):
    """Rows of a binary table, of which only what is taken out of them is read, and then.

    Few rows are kept in memory once any column of them was wanted. Of many, each column is read by itself.
    """

    def __init__(
        self,
        rows: RowReader,
        columns: Mapping[str, BinaryColumn],
        start: int,
        size: int,
        index: npt.NDArray[np.int64] | None = None,
        place: Mapping[str, Any] | None = None,
        raw: npt.NDArray[Any] | None = None,
    ) -> None:
        super().__init__(list(columns), start, size, index, place)
        self.columns = columns
        self._rows = rows
        self._raw = raw

    def _column(self, name: str) -> npt.NDArray[Any]:
        whole = self.index is None
        if self._raw is None and self.nrows * self._rows.dtype.itemsize <= (_SMALL if whole else _CHOSEN):
            self._raw = self._rows.read(self.start, self.start + self.size) if whole else self._rows.select(self.rows)
        if self._raw is not None:
            field = self._raw[name]
        else:
            places = (self.start, self.start + self.size) if self.index is None else self.rows
            field = self._rows.column(name, places)
        with self.located():
            return self.columns[name].values(field)

    def _taken(self, chosen: npt.NDArray[np.int64]) -> FitsView:
        # A copy: the rows that were left out are not to stay in memory.
        raw = None if self._raw is None else self._raw[chosen]
        return FitsView(self._rows, self.columns, self.start, self.size, self._under(chosen), self.place, raw)


class FitsTable(TableReader):
    """A binary table in a FITS file.

    Parameters
    ----------
    path : path
        The file, plain or gzipped.
    hdu : str, int or tuple of str
        Name or number of the HDU, or names of which the first that is there counts.
    unpacker : Unpacker, optional
        Keeps the file for the next HDU of it.

    Raises
    ------
    MissingFileError, FormatError, MissingHDUError
    """

    adds_checksums = True

    def __init__(self, path: Path, hdu: str | int | tuple[str, ...], unpacker: Unpacker | None = None) -> None:
        wanted = hdu if isinstance(hdu, tuple) else (hdu,)
        self.path = path
        self._file = unpacker.open(path) if unpacker is not None else open_file(path)
        self.fingerprint = self._file.fingerprint
        self._unit, self.hdu, before = find_hdu(self._file, wanted)
        self.header = self._unit.header
        # What is said of all tables of a file stands in the header of the first HDU.
        self.primary_header = before[0].header if before else {}
        try:
            self._inspect()
        except FormatError as error:
            error.file, error.hdu = str(path), self.hdu
            raise
        self.header_sum = self._unit.header_sum
        place: dict[str, Any] = {"file": path, "hdu": self.hdu}
        self._place = place
        size = self._size

        def shorter(message: str) -> FormatError:
            return FormatError(f"{message} of {size}", **place)

        self._rows = RowReader(self._file, self._start, self._dtype, shorter)

    def _inspect(self) -> None:
        """Find the columns and the rows."""
        header = self.header
        if str(header.get("XTENSION", "")).strip() != "BINTABLE":
            raise FormatError("expected a binary table")
        if header.get("ZTABLE"):
            raise FormatError("a compressed table (ZTABLE); unpack it first with funpack")
        self._start, self._size = self._unit.data, count(header, "NAXIS2")
        width = count(header, "NAXIS1")
        if width > _WIDEST or (not width and self._size):
            raise FormatError(f"NAXIS1 is {width}: rows of so many bytes are not read")
        self._columns, of_columns = binary_columns(header, count(header, "TFIELDS"))
        if of_columns != width:
            raise FormatError(f"the columns take {of_columns} bytes a row, but NAXIS1 is {width}")
        self._dtype = np.dtype(
            {
                "names": list(self._columns),
                "formats": [item.dtype for item in self._columns.values()],
                "offsets": [item.offset for item in self._columns.values()],
                "itemsize": width,
            }
        )
        self.names = list(self._columns)
        self.row_bytes = width
        length, needed = self._file.size, self._start + width * self._size
        # A header may claim a heap of any size; what is not there adds nothing to the checksum.
        self._data_end = min(self._unit.end, length)
        if length < needed:
            raise FormatError(f"truncated: {length} bytes, but its {self._size} rows end at byte {needed}")

    @property
    def nrows(self) -> int:
        """Number of rows."""
        return self._size

    def read(self, start: int, stop: int) -> FitsChunk:
        """Read some rows.

        Parameters
        ----------
        start, stop : int
            The first row, and the one after the last.
        """
        return FitsChunk(self._rows.read(start, min(stop, self._size)), self._columns, start, place=self._place)

    def view(self, start: int = 0, stop: int | None = None) -> FitsView:
        """Give some rows, by default all, of which only what is taken out of them is read."""
        stop = self._size if stop is None else min(stop, self._size)
        return FitsView(self._rows, self._columns, start, max(stop - start, 0), place=self._place)

    def checksum(self, start: int, stop: int) -> int:
        """Compute the share of some rows in DATASUM; the words that it sums need not begin with a row."""
        width = self._dtype.itemsize
        first, last = self._start + start * width, self._start + min(stop, self._size) * width
        before = start * width % 4
        head = self._file.read(first, min(_BLOCK - before, last - first))
        return datasum(chain([bytes(before) + head], self._file.blocks(first + len(head), last)))

    def checksum_of(self, chunk: Chunk) -> int:
        """Compute the share of a chunk that was read from this table, from the bytes in memory."""
        if not isinstance(chunk, FitsChunk):
            return self.checksum(chunk.start, chunk.start + chunk.size)
        data = np.ascontiguousarray(chunk.raw).view(np.uint8)
        before = chunk.start * self._dtype.itemsize % 4
        # Up to the next whole word, and the words from there on.
        first = (4 - before) % 4
        return add(datasum([bytes(before) + data[:first].tobytes()]), datasum([data[first:].data]))

    def datasum(self) -> int:
        """Compute the checksum of the data unit, as FITS defines DATASUM: the ones' complement sum of 32-bit words."""
        return datasum(self._file.blocks(self._start, self._data_end))

    def changed(self) -> str | None:
        """Say in what way the file is no longer what it was when it was opened; None if it is."""
        return self._file.changed()

    def close(self) -> None:
        """Do nothing: the file is closed when neither the reader nor a view of it is left."""


def read_header(path: str | Path, hdu: str | int = 0, *, unpacker: Unpacker | None = None) -> dict[str, Any]:
    """Read the keywords of an HDU, by default of the primary one.

    Raises
    ------
    MissingFileError, FormatError, MissingHDUError
    """
    path = Path(path)
    file = unpacker.open(path) if unpacker is not None else open_file(path)
    return dict(find_hdu(file, (hdu,))[0].header)
