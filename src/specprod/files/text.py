"""Tables in ECSV and CSV files, read by astropy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import FormatError
from specprod.files.checksums import datasum
from specprod.files.tables import Chunk, TableReader
from specprod.files.unpacking import open_file

__all__ = ["TextTable"]

#: Characters of a cell; astropy takes four bytes for each of them in each row.
_LONGEST = 1000
#: Bytes of a file of this kind.
_LARGEST = 1 << 30


class TextChunk(Chunk):
    """Rows of an astropy table."""

    def __init__(
        self, table: Any, start: int, index: npt.NDArray[np.int64] | None = None, place: dict[str, Any] | None = None
    ) -> None:
        super().__init__(list(table.colnames), start, len(table), index, place)
        self.table = table

    def _column(self, name: str) -> npt.NDArray[Any]:
        column = self.table[name]
        values = np.ma.masked_array(column.data) if np.ma.isMaskedArray(column) else np.asarray(column)
        return values if self.index is None else values[self.index]

    def _taken(self, chosen: npt.NDArray[np.int64]) -> TextChunk:
        return TextChunk(self.table, self.start, self._under(chosen), dict(self.place))


class TextTable(TableReader):
    """A table in an ECSV or CSV file, plain or gzipped, in UTF-8.

    Such files hold summaries of some thousand rows, and are held in memory as a whole: the types of the columns of a
    CSV file are known only once all of it is seen.

    Raises
    ------
    MissingFileError, FormatError
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hdu = None
        self._file = open_file(path)
        self.fingerprint = self._file.fingerprint
        if self._file.size > _LARGEST:
            raise FormatError(f"{self._file.size} bytes of text; files of more than {_LARGEST} are not read", file=path)
        data = self._file.read(0, self._file.size)
        self._datasum = datasum([data])
        ecsv = path.name.lower().removesuffix(".gz").endswith(".ecsv")
        self._table = _read(path, _checked(path, data, ecsv), ecsv)
        self.names = list(self._table.colnames)
        self.header = dict(self._table.meta)
        self.primary_header = {}
        self.row_bytes = 8 * len(self.names)

    @property
    def nrows(self) -> int:
        """Number of rows."""
        return len(self._table)

    def read(self, start: int, stop: int) -> TextChunk:
        """Read the rows from `start` on, `stop` not included."""
        return TextChunk(self._table[start:stop], start, place={"file": self.path, "hdu": None})

    def checksum(self, start: int, stop: int) -> int:
        """Compute the checksum of the file, of which no part belongs to rows."""
        return self._datasum

    def datasum(self) -> int:
        """Compute the checksum of the file, by the rule of DATASUM."""
        return self._datasum

    def changed(self) -> str | None:
        """Say in what way the file is no longer what it was when it was opened; None if it is."""
        return self._file.changed()

    def close(self) -> None:
        """Do nothing: the file was read when it was opened."""


def _read(path: Path, lines: list[str], ecsv: bool) -> Any:
    from astropy.table import Table

    kind = "ecsv" if ecsv else "csv"
    # astropy's own reader of CSV fills lines up that are too short; a line that was cut must not pass as one whose
    # last numbers are missing.
    options: dict[str, Any] = {"format": "ascii.basic", "delimiter": ",", "comment": None, "guess": False}
    try:
        return Table.read(lines, **{"format": "ascii.ecsv"} if ecsv else options)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FormatError(f"cannot be read as {kind}: {reason}", file=path) from error
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # The header of an ECSV file is YAML, which can say anything; the error then says nothing to a reader.
        raise FormatError(f"cannot be read as {kind}: its header is damaged or cut", file=path) from error


def _checked(path: Path, data: bytes, ecsv: bool) -> list[str]:
    """Decode the lines of a file; what would take memory or become wrong text is refused first."""
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    first = next(
        (i for i, line in enumerate(lines) if line.strip() and not (ecsv and line.startswith(b"#"))), len(lines)
    )
    for number in range(first, len(lines)):
        line = lines[number]
        if len(line) > _LONGEST or not line.isascii() or b'"' in line or b"\0" in line:
            _check_line(path, lines, first, number, b"," if b"," in lines[first] or not ecsv else b" ")
    if first == len(lines):
        raise FormatError("has no line with the names of columns", file=path)
    try:
        return [line.decode("utf-8") for line in lines]
    except UnicodeDecodeError as error:
        raise FormatError("its header is not UTF-8", file=path) from error


def _check_line(path: Path, lines: list[bytes], first: int, number: int, delimiter: bytes) -> None:
    """Check the cells of one line.

    Bytes stand for characters here, so that a cell can be named whose bytes are no text.
    """
    row = number - first - 1 if number > first else None
    if lines[number].count(b'"') % 2:
        raise FormatError("a quoted text does not end in its line", file=path, row=row)
    names, cells = (_cells(lines[i], delimiter) for i in (first, number))
    for place, cell in enumerate(cells):
        column = names[place][:_LONGEST] if place < len(names) and row is not None else None
        if len(cell) > _LONGEST:
            message = f"a cell of {len(cell)} characters; more than {_LONGEST} are not read"
            raise FormatError(message, file=path, column=column, row=row)
        if "\0" in cell:
            raise FormatError("text with a NUL character", file=path, column=column, row=row)
        try:
            cell.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError("text that is neither ASCII nor UTF-8", file=path, column=column, row=row) from error


def _cells(line: bytes, delimiter: bytes) -> list[str]:
    """Split a line at the delimiters that are in no quoted text; the module csv refuses cells that are long."""
    mark = re.escape(delimiter.decode())
    found = re.findall(rf'(?:^|{mark})((?:"[^"]*"|[^"{mark}])*)', line.decode("latin-1"))
    return [cell.removeprefix('"').removesuffix('"') for cell in found]
