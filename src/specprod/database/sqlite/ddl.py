"""The statements that make tables in SQLite."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table

from specprod.database.ddl import Statements
from specprod.model import SchemaMixin, table_of

__all__ = ["SqliteStatements"]


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
        """Make the statements that gather statistics: some hundred rows of each index are enough to choose plans by."""
        return ["PRAGMA analysis_limit = 1000", f"ANALYZE {self.names.name(cls)}"]
