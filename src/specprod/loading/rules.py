"""The rules: which rows of a file become rows of a table, and what becomes of the others.

There is one piece of code for this. A load, a reload, the repair of keys and references, and the comparison of a
database with its files all take a file slice by slice through the same four steps: what the filter leaves is converted,
rows that violate a rule of a column are rejected, and so are those whose key or reference does not fit what is known of
other rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from specprod.database.interface import Database
from specprod.database.keys import missing_key
from specprod.errors import ConfigurationError, ConstraintError
from specprod.files.tables import Chunk, TableReader
from specprod.loading.pieces import FileLoad, LearningFilter, RowFilter
from specprod.loading.rejects import existing_keys, name_row, repeated
from specprod.model import SchemaMixin, table_of
from specprod.model.base import TableLike
from specprod.model.converting import Columns, Converter, Rejects

__all__ = ["SLICE", "KeysOfChunk", "KeysOfTable", "Known", "Rules", "Slice", "apply_rules", "slice_rows"]

#: Bytes of a file that are converted at a time, so that they fit the caches.
SLICE = 6 << 20

#: Rows that violate a rule, the column, and the reason: one for all, or one a row.
Violation = tuple[npt.NDArray[np.bool_], str, str | Sequence[str]]


@dataclass(frozen=True)
class Slice:
    """Some rows of a file, as a table takes them.

    Attributes
    ----------
    load : FileLoad
    rows : numpy.ndarray of int64, shape (n,)
        Their numbers in the file.
    columns : dict of str to numpy.ndarray, each of shape (n,)
    """

    load: FileLoad
    rows: npt.NDArray[np.int64]
    columns: Columns


class Known(Protocol):
    """What is known of other rows."""

    def violations(self, columns: Columns) -> Iterator[Violation]:
        """Find the rows that do not fit."""

    def add(self, load: FileLoad, rows: npt.NDArray[np.int64], columns: Columns) -> None:
        """Take note of rows that fit."""


class _Keys(ABC):
    """Keys of other rows of the table."""

    reason: str

    def __init__(self, table: type[SchemaMixin]) -> None:
        (self.key,) = (item.name for item in table_of(table).primary_key.columns)

    def violations(self, columns: Columns) -> Iterator[Violation]:
        """Find the rows whose key another row has."""
        yield self.find(columns[self.key]), self.key.upper(), self.reason

    @abstractmethod
    def find(self, keys: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Find the keys that another row has."""


class KeysOfChunk(_Keys):
    """The keys of a chunk, slice by slice.

    Attributes
    ----------
    keys : list of numpy.ndarray
        Of its rows so far.
    """

    reason = "repeats the key of an earlier row"

    def __init__(self, table: type[SchemaMixin]) -> None:
        super().__init__(table)
        self.keys: list[npt.NDArray[Any]] = []

    def find(self, keys: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Find the keys that occur earlier."""
        return repeated(keys, self.keys)

    def add(self, load: FileLoad, rows: npt.NDArray[np.int64], columns: Columns) -> None:
        """Take note of keys."""
        self.keys.append(columns[self.key])


class KeysOfTable(_Keys):
    """The keys of the rows that the table has, as far as it has its key."""

    reason = "has a key that is in the table already"

    def __init__(self, database: Database, table: type[SchemaMixin]) -> None:
        super().__init__(table)
        self._database = database
        self._table = table

    def find(self, keys: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Ask the database."""
        if keys.size:
            with self._database.turn, self._database.connect() as connection:
                if not missing_key(self._database, connection, self._table):
                    return existing_keys(self._database, connection, self._table, keys)
        return np.zeros(keys.size, dtype=np.bool_)

    def add(self, load: FileLoad, rows: npt.NDArray[np.int64], columns: Columns) -> None:
        """Take note of nothing: what is not in the table yet, is known of its chunk."""


def slice_rows(reader: TableReader, slice_bytes: int = SLICE, most: int | None = None) -> int:
    """Give the number of rows of a file that are converted at a time."""
    rows = max(1, slice_bytes // max(reader.row_bytes, 1))
    return rows if most is None else min(rows, most)


class Rules:
    """What becomes of the rows of one file.

    Parameters
    ----------
    load : FileLoad
    reader : TableReader
        The open file.
    row_filter : callable, optional
        In the place of the load's own filter.

    Raises
    ------
    MissingColumnError
    """

    def __init__(self, load: FileLoad, reader: TableReader, row_filter: RowFilter | None = None) -> None:
        self.load = load
        self._filter = row_filter or load.row_filter
        self.converter = Converter(
            load.table,
            reader.names,
            load.given,
            header=reader.keywords,
            file=str(load.path),
            hdu=reader.hdu,
            nan_zero=load.nan_zero,
        )

    def apply(
        self,
        chunk: Chunk,
        known: Sequence[Known] = (),
        rejects: Rejects | None = None,
        ask: Callable[[Callable[[], Any]], Any] = lambda question: question(),
    ) -> Slice:
        """Take some rows of the file through all rules.

        Parameters
        ----------
        chunk : Chunk
            As it was read.
        known : sequence of Known
            What is known of other rows. Where only new rows are wanted, a key that is known is no fault.
        rejects : Rejects, optional
            Takes the rows that violate a rule; without it the first one is an error.
        ask : callable
            Asks a question of the database, and again if it fails in a way that may pass.

        Raises
        ------
        ValueRejectedError, ConstraintError
        """
        learning = self._filter if isinstance(self._filter, LearningFilter) else None
        if self._filter is not None:
            choose = self._filter
            with chunk.located():
                chosen = ask(lambda: choose(chunk))
            chunk = chunk.take(self._chosen(chosen, chunk.rows.size))
        columns, rows = apply_rules(
            self.converter, chunk, chunk.rows, known, rejects, silent=self.load.only_new, ask=ask
        )
        for other in known:
            other.add(self.load, rows, columns)
        if learning is not None:
            learning.accept(columns)
        return Slice(self.load, rows, columns)

    def _chosen(self, choice: Any, size: int) -> npt.NDArray[np.integer[Any]]:
        """Give the indexes that a filter means; a mask is one, not the rows 0 and 1."""
        chosen = np.asarray(np.ma.filled(choice, False))
        if chosen.dtype.kind == "b":
            if chosen.shape != (size,):
                message = f"the filter gives a mask of shape {chosen.shape} for {size} rows"
                raise ConfigurationError(message, file=self.load.path, hdu=self.converter.hdu)
            return np.flatnonzero(chosen)
        return chosen if chosen.size else np.empty(0, dtype=np.int64)


def apply_rules(
    converter: Converter,
    data: TableLike,
    rows: npt.NDArray[np.int64],
    known: Sequence[Known] = (),
    rejects: Rejects | None = None,
    *,
    silent: bool = False,
    ask: Callable[[Callable[[], Any]], Any] = lambda question: question(),
) -> tuple[Columns, npt.NDArray[np.int64]]:
    """Convert rows, and leave out those that violate a rule.

    Parameters
    ----------
    converter : Converter
    data : table-like
    rows : numpy.ndarray of int64, shape (n,)
        Their numbers in the file.
    known, rejects, ask
        See `Rules.apply`.
    silent : bool
        Whether rows that do not fit what is known are no fault, and just left out.

    Returns
    -------
    columns : dict of str to numpy.ndarray
    rows : numpy.ndarray of int64
        Those that stayed.

    Raises
    ------
    ValueRejectedError, ConstraintError
    """
    columns, rows = converter.convert_rows(data, rows, rejects)
    for other in known:
        good = np.ones(rows.size, dtype=np.bool_)
        for bad, column, reason in ask(lambda: list(other.violations(columns))):  # noqa: B023  asked at once
            if (bad & good).any():
                if not silent:
                    reasons = reason if isinstance(reason, str) else np.array(reason, dtype=object)[good[bad]].tolist()
                    _reject(converter, bad & good, column, reasons, columns, rows, rejects)
                good &= ~bad
        if not good.all():
            columns, rows = {name: values[good] for name, values in columns.items()}, rows[good]
    return columns, rows


def _reject(
    converter: Converter,
    bad: npt.NDArray[np.bool_],
    column: str,
    reason: str | Sequence[str],
    columns: Columns,
    rows: npt.NDArray[np.int64],
    rejects: Rejects | None,
) -> None:
    numbers = rows[bad].tolist()
    reasons = [reason] * len(numbers) if isinstance(reason, str) else list(reason)
    if rejects is None:
        named = name_row(converter.table, columns, bad)
        message = f"{reasons[0]}: {named}" if isinstance(reason, str) else reasons[0]
        raise ConstraintError(message, file=converter.file, hdu=converter.hdu, row=numbers[0])
    rejects.rows += list(zip(numbers, [column] * len(numbers), reasons, strict=True))
