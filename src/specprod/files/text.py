"""Tables in ECSV and CSV files, read by astropy."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import FormatError
from specprod.files.checksums import datasum
from specprod.files.tables import Chunk, TableReader
from specprod.files.unpacking import unpacked

__all__ = ["TextTable"]

_BLOCK = 1 << 22


class TextChunk(Chunk):
    """Rows of an astropy table."""

    def __init__(self, table: Any, start: int, index: npt.NDArray[np.int64] | None = None) -> None:
        super().__init__(list(table.colnames), start, len(table), index)
        self.table = table

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        column = self.table[name]
        values = np.ma.masked_array(column.data) if np.ma.isMaskedArray(column) else np.asarray(column)
        return values if self.index is None else values[self.index]

    def _with_index(self, index: npt.NDArray[np.int64]) -> TextChunk:
        return TextChunk(self.table, self.start, index)


class TextTable(TableReader):
    """A table in an ECSV or CSV file, plain or gzipped.

    Such files hold summaries of some thousand rows, and are held in memory as a whole: the types of the columns of a
    CSV file are known only once all of it is seen.

    Raises
    ------
    MissingFileError, FormatError
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hdu = None
        with unpacked(path):
            self.names = list(self._table.colnames)
        self.header = dict(self._table.meta)
        self.row_bytes = 8 * len(self.names)

    @cached_property
    def _table(self) -> Any:
        from astropy.table import Table

        kind = "ecsv" if self.path.name.lower().removesuffix(".gz").endswith(".ecsv") else "csv"
        # astropy's own reader of CSV fills lines up that are too short; a line that was cut must not pass as one whose
        # last numbers are missing.
        options: dict[str, Any] = {"format": "ascii.basic", "delimiter": ",", "comment": None, "guess": False}
        with unpacked(self.path) as plain:
            try:
                return Table.read(plain, **options if kind == "csv" else {"format": "ascii.ecsv"})
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split())[:200]
                raise FormatError(f"cannot be read as {kind}: {reason}", file=self.path) from error
            except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
                # The header of an ECSV file is YAML, which can say anything; the error then says nothing to a reader.
                raise FormatError(f"cannot be read as {kind}: its header is damaged or cut", file=self.path) from error

    @property
    def nrows(self) -> int:
        """Number of rows."""
        return len(self._table)

    def read(self, start: int, stop: int) -> TextChunk:
        """Read the rows from `start` on, `stop` not included."""
        return TextChunk(self._table[start:stop], start)

    def checksum(self, start: int, stop: int) -> int:
        """Compute the checksum of the file, of which no part belongs to rows."""
        return self.datasum()

    def close(self) -> None:
        """Do nothing: the file was closed when it was read."""

    def datasum(self) -> int:
        """Compute the checksum of the file, by the rule of DATASUM."""
        with unpacked(self.path) as plain, plain.open("rb") as stream:
            return datasum(iter(lambda: stream.read(_BLOCK), b""))
