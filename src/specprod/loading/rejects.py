"""Rows that violate a rule: the file that they are written to, and keys that occur more than once."""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from specprod.errors import ConfigurationError
from specprod.model import SchemaMixin, table_of
from specprod.model.converting import Columns
from specprod.survey.identifiers import INT128, comparable

if TYPE_CHECKING:
    from specprod.database.connection import Database
    from specprod.loading.pieces import FileLoad

__all__ = ["RejectFile", "existing_keys", "name_row", "repeated"]

_TITLES = ("file", "hdu", "table", "row", "column", "reason")


class RejectFile:
    """A CSV file of the rows that were left out, each with the reason. Lines are added, never removed.

    Parameters
    ----------
    path : str or path

    Raises
    ------
    ConfigurationError
        If the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.count = 0
        self._added: set[tuple[Path, str, int | None]] = set()
        self._lock = threading.Lock()
        try:
            new = not self.path.exists() or self.path.stat().st_size == 0
            self._append([_TITLES] if new else [])
        except OSError as error:
            raise ConfigurationError(f"cannot be written: {error.strerror}", file=self.path) from error

    def _append(self, lines: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(lines)
        content = text.getvalue().encode("utf-8", "surrogateescape")
        with self.path.open("ab") as stream:
            size = stream.tell()
            try:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                # Of a full disk, half a line would remain.
                os.ftruncate(stream.fileno(), size)
                raise

    def add(self, load: FileLoad, rows: Iterable[tuple[int | None, str, str]]) -> None:
        """Add rows of a file: number, column, reason; a row that was added before is not added again.

        Raises
        ------
        ConfigurationError
            If the file cannot be written; it is then as it was.
        """
        name = table_of(load.table).name
        with self._lock:
            new = [row for row in rows if (load.path, name, row[0]) not in self._added]
            try:
                self._append([(load.path, load.hdu_name, name, *row) for row in new])
            except OSError as error:
                raise ConfigurationError(f"cannot be written: {error.strerror}", file=self.path) from error
            numbers = {(load.path, name, row[0]) for row in new}
            self._added |= numbers
            self.count += len(numbers)


def repeated(keys: npt.NDArray[Any], before: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """Find the keys that occur earlier in the array, or in one of those before it.

    Parameters
    ----------
    keys : numpy.ndarray, shape (n,)
        Integers or `INT128`.
    before : sequence of numpy.ndarray
        Keys of the rows before.

    Returns
    -------
    numpy.ndarray of bool, shape (n,)
    """
    hashes = np.sort(np.concatenate([_hashes(keys), *map(_hashes, before)]))
    if not (hashes[1:] == hashes[:-1]).any():
        return np.zeros(keys.size, dtype=np.bool_)
    # Two keys may have one hash; the keys themselves decide.
    values = comparable(keys)
    mask = np.ones(keys.size, dtype=np.bool_)
    mask[np.unique(values, return_index=True)[1]] = False
    for other in before:
        mask |= np.isin(values, comparable(other))
    return mask


def _hashes(keys: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if keys.dtype != INT128:
        return keys
    with np.errstate(over="ignore"):
        return np.asarray(keys["low"] ^ (keys["high"] * np.uint64(0x9E3779B97F4A7C15)))


def name_row(cls: type[SchemaMixin], columns: Columns, mask: npt.NDArray[np.bool_]) -> str:
    """Say which row the first of some is, by the columns that identify it."""
    table = table_of(cls)
    unique = next((index for index in table.indexes if index.unique), None)
    names = [item.name for item in (unique.columns if unique is not None else table.primary_key.columns)]
    place = int(np.flatnonzero(mask)[0])
    shown = (comparable(columns[name])[place] for name in names)
    values = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in shown]
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def existing_keys(
    database: Database, connection: Connection, cls: type[SchemaMixin], keys: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """Find which keys a table has already."""
    (name,) = (item.name for item in table_of(cls).primary_key.columns)
    values = comparable(keys)
    source, parameters = database.as_rows(values)
    rows = connection.exec_driver_sql(
        f"SELECT wanted.value FROM {source} WHERE EXISTS (SELECT 1 FROM {database.name(cls)} AS t "
        f"WHERE t.{database.quote(name)} = wanted.value)",
        parameters,
    )
    found = {int(value) for value in rows.scalars()}
    return np.array([int(value) in found for value in values.tolist()], dtype=np.bool_)
