"""The statements that make tables in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Dialect, Table

from specprod.database.ddl import Statements
from specprod.database.naming import Names
from specprod.model import Int128, SchemaMixin, table_of

__all__ = ["PostgresqlStatements"]


class PostgresqlStatements(Statements):
    """The statements of PostgreSQL.

    Parameters
    ----------
    names : Names
    dialect : sqlalchemy.Dialect
    has_q3c : callable
        Whether the server has q3c, which makes the index of positions.
    """

    adds_references = True

    def __init__(self, names: Names, dialect: Dialect, has_q3c: Callable[[], bool]) -> None:
        super().__init__(names, dialect)
        self._has_q3c = has_q3c

    def inline_key(self, table: Table) -> None:
        """Build all keys after the rows."""

    def _unique(self, cls: type[SchemaMixin], name: str, columns: list[str], kind: str) -> str:
        constraint = f"CONSTRAINT {self.names.quote(name)} {kind} ({self.names.columns(columns)})"
        return f"ALTER TABLE {self.names.name(cls)} ADD {constraint}"

    def _index(self, cls: type[SchemaMixin], name: str, columns: str, *, unique: bool = False) -> str:
        kind = "UNIQUE INDEX" if unique else "INDEX"
        return f"CREATE {kind} {self.names.quote(name)} ON {self.names.name(cls)} ({columns})"

    def sky_index(self, cls: type[SchemaMixin]) -> tuple[str, str] | None:
        """Name and statement of the q3c index, None for tables without positions and servers without q3c."""
        if cls.__sky__ is None or not self._has_q3c():
            return None
        name = f"ix_{table_of(cls).name}_q3c_ang2ipix"
        return name, self._index(cls, name, f"q3c_ang2ipix({self.names.columns(list(cls.__sky__))})")

    def analyze(self, cls: type[SchemaMixin]) -> list[str]:
        """Make the statement that gathers statistics of the columns that have indexes.

        Those of all 100 columns of a wide table take longer than loading it does; PostgreSQL gathers them in the
        background in its own time. So it does for keys of 128 bits, which are slow to compare: that they are unique, it
        knows from their index, and nobody asks for a range of them.
        """
        table = table_of(cls)
        indexed = {item.name for index in table.indexes for item in index.columns}
        indexed |= {item.name for item in table.primary_key.columns if not (indexed and isinstance(item.type, Int128))}
        indexed |= set(cls.__sky__ or ())
        return [f"ANALYZE {self.names.name(cls)} ({self.names.columns(sorted(indexed))})"]

    def describe(self, cls: type[SchemaMixin]) -> list[str]:
        """Make the statements COMMENT ON."""
        table = table_of(cls)
        name = self.names.name(cls)
        summary = " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
        columns = [
            f"COMMENT ON COLUMN {name}.{self.names.quote(item.name)} IS {_literal(item.comment or '')}"
            for item in table.columns
        ]
        return [f"COMMENT ON TABLE {name} IS {_literal(summary)}", *columns]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
