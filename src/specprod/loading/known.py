"""What is known of rows of other files and other tables, where the database itself is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from specprod.database.keys import possible_references
from specprod.database.temporary import add_values, temporary_values
from specprod.loading.pieces import FileLoad
from specprod.loading.rejects import existing_keys
from specprod.loading.rules import Violation
from specprod.model import TABLES, Int128, SchemaMixin, table_of
from specprod.model.converting import Columns
from specprod.survey.identifiers import as_comparable, comparable

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["KeysOfFiles", "Parents", "keys_of_files"]

_REMEDY = "mend the file, or leave such rows out with --rejects"


class KeysOfFiles:
    """Keys of the rows before, each with its place; see `keys_of_files`.

    Attributes
    ----------
    table : str
        Name of the temporary table that has them, quoted: ``value``, ``file``, ``row``.
    """

    def __init__(
        self, database: Database, connection: Connection, cls: type[SchemaMixin], loads: Sequence[FileLoad]
    ) -> None:
        self._database = database
        self._connection = connection
        (self._key,) = (item.name for item in table_of(cls).primary_key.columns)
        self.name = f"specprod_keys_{table_of(cls).name}"
        self.table = database.quote(self.name)
        self._loads = loads

    def violations(self, columns: Columns) -> Iterator[Violation]:
        """Find the rows whose key an earlier row has."""
        keys = comparable(columns[self._key])
        if not keys.size:
            return
        source, parameters = self._database.as_rows(keys)
        found = self._connection.exec_driver_sql(
            f"SELECT k.value, k.file, k.row FROM {source} JOIN {self.table} AS k ON k.value = wanted.value",
            parameters,
        ).all()
        before = {int(value): (file, row) for value, file, row in found}
        numbers = [int(key) for key in keys.tolist()] if before else []
        bad = np.array([number in before for number in numbers] if before else np.zeros(keys.size), dtype=np.bool_)
        reasons = []
        for number in (number for number in numbers if number in before):
            file, row = before[number]
            reasons.append(f"repeats the key {number} of row {row} of {self._loads[file].path.name}; {_REMEDY}")
        yield bad, self._key.upper(), reasons

    def add(self, load: FileLoad, rows: npt.NDArray[np.int64], columns: Columns) -> None:
        """Keep keys."""
        keys = comparable(columns[self._key])
        file = np.full(keys.size, self._loads.index(load))
        add_values(self._database, self._connection, self.name, value=keys, file=file, row=rows)


@contextlib.contextmanager
def keys_of_files(
    database: Database, connection: Connection, cls: type[SchemaMixin], loads: Sequence[FileLoad]
) -> Iterator[KeysOfFiles]:
    """Keep the keys of the rows of files in the database, which has room for them, until the end of the block.

    Parameters
    ----------
    database : Database
    connection : sqlalchemy.Connection
        In a transaction.
    cls : class
        The table.
    loads : sequence of FileLoad
        Its files.
    """
    (key,) = table_of(cls).primary_key.columns
    empty = np.empty(0, dtype=np.int64)
    value = as_comparable([], wide=isinstance(key.type, Int128))
    keys = KeysOfFiles(database, connection, cls, loads)
    with temporary_values(database, connection, keys.name, value=value, file=empty, row=empty):
        yield keys


class Parents:
    """Rows of other tables to which the rows of a table refer, as far as all that it has now refer to such."""

    def __init__(self, database: Database, connection: Connection, cls: type[SchemaMixin]) -> None:
        self._database = database
        self._connection = connection
        self._references: list[tuple[str, type[SchemaMixin]]] = []
        classes = {table_of(item): item for item in TABLES}
        # To a table that is not there, nothing refers.
        names = [name for name, _ in possible_references(connection, database, cls)]
        for key in sorted(table_of(cls).foreign_key_constraints, key=lambda key: str(key.name)):
            if key.name not in names:
                continue
            (element,) = key.elements
            self._references.append((next(iter(key.columns)).name, classes[element.column.table]))

    def violations(self, columns: Columns) -> Iterator[Violation]:
        """Find the rows that refer to none."""
        for column, parent in self._references:
            values = comparable(columns[column])
            if not values.size:
                continue
            unique, place = np.unique(values, return_inverse=True)
            missing = ~existing_keys(self._database, self._connection, parent, unique)
            bad = missing[place.ravel()]
            name = table_of(parent).name
            (key,) = table_of(parent).primary_key.columns
            reasons = [
                f"refers to {name}.{key.name} {int(value)}, which is not there; {_REMEDY}" for value in values[bad]
            ]
            yield bad, column.upper(), reasons

    def add(self, load: FileLoad, rows: npt.NDArray[np.int64], columns: Columns) -> None:
        """Take note of nothing: the rows are in the database."""
