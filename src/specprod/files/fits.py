"""Binary tables in FITS files.

The structure of a file comes from CFITSIO (fitsio): which HDUs it has, and where. Headers and rows are then read as
they are, rows in one piece a chunk, and the columns that are needed are taken out of them: that reads four to eight
times as fast as asking CFITSIO for 90 columns of 200, and is the reason for not doing so.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import numpy.typing as npt

from specprod.errors import FormatError, MissingHDUError, ValueRejectedError
from specprod.files.checksums import add, datasum
from specprod.files.headers import parse_header
from specprod.files.tables import Chunk, TableReader
from specprod.files.unpacking import Unpacker, unpacked

__all__ = ["FitsTable", "read_header"]

_FORMS = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "A": "S", "E": ">f4", "D": ">f8"}
_WIDTHS = {"L": 1, "X": 0, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_BLOCK = 1 << 22


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _number(header: Mapping[str, Any], keyword: str, default: Any) -> Any:
    """Read a number of a header."""
    value = header.get(keyword, default)
    if isinstance(value, str):
        raise FormatError(f"{keyword} is no number: {value!r}")
    return value


class _Column:
    """Where a column stands in a row, and how its bytes become values."""

    def __init__(self, name: str, form: str, offset: int, header: Mapping[str, Any], number: int) -> None:
        match = re.fullmatch(r"\s*(\d*)([LXBIJKAEDCMPQ]).*", form)
        if match is None:
            raise FormatError(f"unknown TFORM{number} {form!r}", column=name)
        self.name = name
        self.offset = offset
        self.code = match[2]
        self.repeat = int(match[1] or 1)
        self.width = (self.repeat + 7) // 8 if self.code == "X" else self.repeat * _WIDTHS[self.code]
        self.scale = _number(header, f"TSCAL{number}", 1)
        self.zero = _number(header, f"TZERO{number}", 0)
        self.null = _number(header, f"TNULL{number}", None)

    @property
    def dtype(self) -> tuple[Any, ...] | str:
        """The numpy type of the bytes, with the shape of a vector."""
        if self.code not in _FORMS:
            return f"V{self.width}"
        if self.code == "A":
            return f"S{self.repeat}"
        return _FORMS[self.code] if self.repeat == 1 else (_FORMS[self.code], (self.repeat,))

    def values(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn the bytes into values: logicals, unsigned integers, scaled numbers, missing ones."""
        if self.code not in _FORMS or self.repeat == 0:
            if self.code == "A":
                return np.zeros(raw.shape, dtype="S1")
            raise ValueRejectedError(f"columns of the form {self.code} are not supported", column=self.name)
        if self.code == "L":
            return np.ma.masked_array(raw == b"T", mask=raw == b"") if (raw == b"").any() else np.asarray(raw == b"T")
        if self.code in "AED" and self.scale == 1 and self.zero == 0:
            return raw
        missing = None if self.null is None or self.code in "AED" else raw == self.null
        result = self._scaled(raw)
        return result if missing is None or not missing.any() else np.ma.masked_array(result, mask=missing)

    def _scaled(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.scale == 1 and self.zero == 0:
            return raw
        # FITS has no unsigned integers but bytes, and no signed bytes: by convention they are shifted by half their
        # range.
        if self.scale == 1 and self.code in "IJK" and self.zero == 1 << (8 * raw.dtype.itemsize - 1):
            bits = raw.astype(raw.dtype.newbyteorder("=")).view(f"u{raw.dtype.itemsize}")
            return np.asarray(bits ^ bits.dtype.type(self.zero))
        if self.scale == 1 and self.code == "B" and self.zero == -128:
            return np.asarray((raw ^ np.uint8(128)).view(np.int8))
        return np.asarray(raw.astype(np.float64) * self.scale + self.zero)


class FitsChunk(Chunk):
    """Rows of a binary table, as bytes."""

    def __init__(
        self,
        raw: npt.NDArray[Any],
        columns: Mapping[str, _Column],
        start: int,
        index: npt.NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(list(columns), start, raw.size, index)
        self.raw = raw
        self.columns = columns

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        field = self.raw[name]
        return self.columns[name].values(field if self.index is None else field[self.index])

    def _with_index(self, index: npt.NDArray[np.int64]) -> FitsChunk:
        return FitsChunk(self.raw, self.columns, self.start, index)


class FitsTable(TableReader):
    """A binary table in a FITS file.

    Parameters
    ----------
    path : path
        The file, plain or gzipped.
    hdu : str, int or tuple of str
        Name or number of the HDU, or names of which the first that is there counts.
    unpacker : Unpacker, optional
        Keeps what it unpacked for the next HDU of the file.

    Raises
    ------
    MissingFileError, FormatError, MissingHDUError
    """

    adds_checksums = True

    def __init__(self, path: Path, hdu: str | int | tuple[str, ...], unpacker: Unpacker | None = None) -> None:
        self._wanted = hdu if isinstance(hdu, tuple) else (hdu,)
        self.path, self.hdu = path, " or ".join(map(str, self._wanted))
        with contextlib.ExitStack() as stack:
            plain = unpacker.plain(path) if unpacker is not None else stack.enter_context(unpacked(path))
            self._stream = stack.enter_context(plain.open("rb"))
            self._inspect(plain)
            self._stack = stack.pop_all()

    def _error(self, message: str) -> FormatError:
        return FormatError(message, file=self.path, hdu=self.hdu)

    def _count(self, keyword: str) -> int:
        """Take a number out of the header; CFITSIO lets some pass that are none."""
        value = self.header.get(keyword)
        if not isinstance(value, int):
            raise self._error(f"{keyword} is {value!r}, expected a number")
        return value

    def _inspect(self, plain: Path) -> None:
        """Find the HDU, its columns and its place in the file."""
        if self._stream.read(9) != b"SIMPLE  =":
            raise FormatError("not a FITS file", file=self.path)
        try:
            with fitsio.FITS(str(plain)) as file:
                found = next((hdu for hdu in self._wanted if hdu in file), None)
                if found is None:
                    names = ", ".join(str(item.get_extname()) or str(i) for i, item in enumerate(file))
                    raise MissingHDUError(f"no HDU {self.hdu}; the file has {names}", file=self.path)
                self.hdu = found
                offsets = file[found].get_offsets()
            self._stream.seek(offsets["header_start"])
            self.header = parse_header(self._stream.read(offsets["data_start"] - offsets["header_start"]))
        except (OSError, ValueError, KeyError, UnicodeDecodeError, TypeError, SystemError) as error:
            raise self._error(f"cannot be read as FITS: {_first_line(error)}") from error
        if self.header.get("XTENSION", "").strip() != "BINTABLE":
            raise self._error("expected a binary table")
        if self.header.get("ZTABLE"):
            raise self._error("a compressed table (ZTABLE); unpack it first with funpack")
        self._start = offsets["data_start"]
        self._size = self._count("NAXIS2")
        self._columns, width = self._read_columns()
        if width != self._count("NAXIS1"):
            raise self._error(f"the columns take {width} bytes a row, but NAXIS1 is {self.header['NAXIS1']}")
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
        length, needed = plain.stat().st_size, self._start + width * self._size
        # A header may claim a heap of any size; what is not there adds nothing to the checksum.
        self._data_end = min(offsets["data_end"], length)
        if length < needed:
            raise self._error(f"truncated: {length} bytes, but its {self._size} rows end at byte {needed}")

    def _read_columns(self) -> tuple[dict[str, _Column], int]:
        columns: dict[str, _Column] = {}
        offset = 0
        for number in range(1, self._count("TFIELDS") + 1):
            try:
                name = str(self.header[f"TTYPE{number}"]).strip()
                item = _Column(name, str(self.header[f"TFORM{number}"]), offset, self.header, number)
            except KeyError as error:
                raise self._error(f"the header lacks {error}") from error
            except FormatError as error:
                error.file, error.hdu = str(self.path), self.hdu
                raise
            if name in columns:
                raise self._error(f"two columns are named {name}")
            columns[name] = item
            offset += item.width
        return columns, offset

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
        stop = min(stop, self._size)
        self._stream.seek(self._start + start * self._dtype.itemsize)
        raw = np.fromfile(self._stream, dtype=self._dtype, count=max(stop - start, 0))
        if raw.size != max(stop - start, 0):
            raise self._error(f"truncated at row {start + raw.size} of {self._size}")
        return FitsChunk(raw, self._columns, start)

    def view(self, start: int = 0, stop: int | None = None) -> FitsChunk:
        """Map some rows into memory, by default all: what is not taken out of them is not read."""
        stop = self._size if stop is None else min(stop, self._size)
        if stop <= start:
            return self.read(start, start)
        offset = self._start + start * self._dtype.itemsize
        mapped = np.memmap(self._stream, dtype=self._dtype, mode="r", offset=offset, shape=(stop - start,))
        return FitsChunk(np.asarray(mapped), self._columns, start)

    def checksum(self, start: int, stop: int) -> int:
        """Compute the share of some rows in DATASUM; the words that it sums need not begin with a row."""
        width = self._dtype.itemsize
        offset, end = start * width, min(stop, self._size) * width
        self._stream.seek(self._start + offset)
        before = offset % 4
        blocks = [bytes(before) + self._stream.read(min(_BLOCK - before, end - offset))]
        position = offset + len(blocks[0]) - before
        sizes = [min(_BLOCK, end - first) for first in range(position, end, _BLOCK)]
        return datasum(chain(blocks, (self._stream.read(size) for size in sizes)))

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
        self._stream.seek(self._start)
        return datasum(self._stream.read(min(_BLOCK, left)) for left in range(self._data_end - self._start, 0, -_BLOCK))

    def close(self) -> None:
        """Close the file, and remove what it was unpacked to."""
        self._stack.close()


def read_header(path: str | Path, hdu: str | int = 0) -> dict[str, Any]:
    """Read the keywords of an HDU, by default of the primary one.

    Raises
    ------
    MissingFileError, FormatError, MissingHDUError
    """
    path = Path(path)
    with unpacked(path) as plain:
        try:
            with fitsio.FITS(str(plain)) as file:
                if hdu not in file:
                    raise MissingHDUError(f"no HDU {hdu}", file=path)
                return dict(file[hdu].read_header())
        except (OSError, ValueError, UnicodeDecodeError, TypeError, SystemError) as error:
            raise FormatError(f"cannot be read as FITS: {_first_line(error)}", file=path, hdu=hdu) from error
