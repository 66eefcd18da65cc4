"""The statements that make tables in SQLite."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table

from specprod.database.ddl import Statements, literal
from specprod.model import SchemaMixin, table_of

__all__ = ["SqliteStatements"]

#: Mean number of rows of one value from which on a column is looked at more closely.
_MANY = 10
#: How many times the mean over values the mean over rows is, where most rows have one value.
_SKEWED = 10
#: Rows of a value then, in hundredths of the table: a little more than SQLite assumes of a range.
_COMMON = 30


class SqliteStatements(Statements):
    """The statements of SQLite."""

    adds_references = False

    def inline_key(self, table: Table) -> str | None:
        """Give an integer key: it is the number of the row itself."""
        (key,) = table.primary_key.columns
        return key.name if isinstance(key.type, Integer) else None

    def _column(self, item: Column[object]) -> str:
        if item.table is not None and item.name == self.inline_key(item.table):
            # SQLite takes a key for the row's own number only under this very type name.
            return f"{self.names.quote(item.name)} INTEGER NOT NULL PRIMARY KEY"
        return super()._column(item)

    def _unique(self, cls: type[SchemaMixin], name: str, columns: list[str], kind: str) -> str:
        # A key of text is an index like any other to SQLite, and other tables may refer to it as well.
        return self._index(cls, name, self.names.columns(columns), unique=True)

    def _index(self, cls: type[SchemaMixin], name: str, columns: str, *, unique: bool = False) -> str:
        kind = "UNIQUE INDEX" if unique else "INDEX"
        return f"CREATE {kind} {self.names.name(name)} ON {self.names.quote(table_of(cls).name)} ({columns})"

    def sky_index(self, cls: type[SchemaMixin]) -> tuple[str, str] | None:
        """Name and statement of an index of declination and right ascension, None for tables without positions."""
        if cls.__sky__ is None:
            return None
        ra, dec = cls.__sky__
        name = f"ix_{table_of(cls).name}_sky"
        return name, self._index(cls, name, self.names.columns([dec, ra]))

    def analyze(self, cls: type[SchemaMixin]) -> list[str]:
        """Make the statements that gather statistics: some hundred rows of each index are enough to choose plans by.

        Of columns of few values they would say too little; of these all rows are counted. And SQLite keeps the mean
        number of rows of a value, where one of them may have nearly all: it would take the index of zwarn for
        ``zwarn = 0 AND z > 4.5``. A value then counts for more rows than SQLite assumes of a range, by which it
        searches instead, and not for so many that it reads the whole table for a value that is rare.
        """
        table = table_of(cls)
        name = self.names.name(cls)
        columns = {str(index.name): [item.name for item in index.columns] for index in table.indexes}
        return [
            "PRAGMA analysis_limit = 1000",
            f"ANALYZE {name}",
            *(self._true_mean(table.name, index, only) for index, (only, *more) in sorted(columns.items()) if not more),
            # Else they would count only for those who open the file later.
            "ANALYZE sqlite_schema",
        ]

    def _true_mean(self, table: str, index: str, column: str) -> str:
        """Make the statement that counts the rows of the values of a column, if these are few."""
        return (
            "UPDATE sqlite_stat1 SET stat = (SELECT sum(n) || ' ' || "
            f"CASE WHEN sum(n * n) / sum(n) > {_SKEWED} * sum(n) / count(*) THEN {_COMMON} * sum(n) / 100 "
            "ELSE sum(n) / count(*) END "
            f"FROM (SELECT count(*) AS n FROM {self.names.quote(table)} GROUP BY {self.names.quote(column)})) "
            f"WHERE tbl = {literal(table)} AND idx = {literal(index)} "
            f"AND CAST(substr(stat, instr(stat, ' ') + 1) AS integer) > {_MANY}"
        )
