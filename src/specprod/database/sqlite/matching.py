"""Rows compared by SQLite, which takes a fifth of the time of reading them: a row of Python is an object a value."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from specprod.database.sqlite.driver import sqlite_connection
from specprod.database.sqlite.writer import PageWriter, Prepared
from specprod.model.converting import Columns

__all__ = ["PageMatcher"]

#: The numbers of rows are summed modulo this prime number, so that no sum is too large.
_PRIME = (1 << 31) - 1


class PageMatcher:
    """Compares rows, made into a database in memory as they are for an insert, with those of a table.

    Values are compared as SQLite has them: 2 is no true, .5 no 0, a text no number, and nothing is cut or rounded.

    Parameters
    ----------
    writer : PageWriter
        Of the table.
    connection : sqlalchemy.Connection
    names : sequence of str
        The columns that are compared.
    """

    def __init__(self, writer: PageWriter, connection: Connection, names: Sequence[str]) -> None:
        self._writer = writer
        self._connection = connection
        quote = writer.names.quote
        (key,) = map(quote, writer.key)
        equal = [f"t.{quote(name)} IS p.{quote(name)}" for name in names]
        self._table = writer.names.name(writer.cls)
        # A cross join is done in the order in which it is written.
        self._statement = (
            f"SELECT count(*), coalesce(sum(t.rowid % {_PRIME}), 0) FROM {{piece}} AS p "
            f"CROSS JOIN main.{self._table} AS t ON t.{key} = p.{key} WHERE {' AND '.join(equal)}"
        )
        self._matched = self._sum = 0

    def prepare(self, columns: Columns) -> tuple[int, list[memoryview]]:
        """Pack columns into databases."""
        return self._writer.prepare(columns)

    def add(self, prepared: tuple[int, list[memoryview]]) -> int:
        """Compare rows, and return how many have an equal one in the table."""
        pieces: Prepared = [prepared]
        before = self._matched
        for count, numbers in self._writer.query(self._connection, pieces, self._statement):
            self._matched += count
            self._sum += numbers
        return self._matched - before

    def _table_sums(self) -> tuple[int, int]:
        statement = f"SELECT count(*), coalesce(sum(rowid % {_PRIME}), 0) FROM main.{self._table}"
        count, numbers = sqlite_connection(self._connection).execute(statement).fetchone()
        return int(count), int(numbers)

    def table_rows(self) -> int:
        """Count the rows of the table."""
        return self._table_sums()[0]

    def complete(self) -> bool:
        """Whether each row of the table was equal to one, and to one only: their numbers have the same sum."""
        return (self._matched, self._sum) == self._table_sums()
