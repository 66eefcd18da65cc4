"""The statements that make tables in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Dialect, Table

from specprod.database.ddl import Statements, literal
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
        """Make the statements that gather statistics of the columns that have indexes.

        Those of all 100 columns of a wide table take longer than loading it does; PostgreSQL gathers them in the
        background in its own time. So it does for keys of 128 bits, which are slow to compare: that they are unique, it
        knows from their index, and nobody asks for a range of them.

        Of an index of an expression, as that of the sky, there are statistics only if no columns are named: without
        them a circle seems to hold a twentieth of the table. So the others are left out by their targets, meanwhile.
        """
        table = table_of(cls)
        indexed = {item.name for index in table.indexes for item in index.columns}
        indexed |= {item.name for item in table.primary_key.columns if not (indexed and isinstance(item.type, Int128))}
        indexed |= set(cls.__sky__ or ())
        name = self.names.name(cls)
        if self.sky_index(cls) is None:
            return [f"ANALYZE {name} ({self.names.columns(sorted(indexed))})"]
        wanted = ", ".join(literal(column) for column in sorted(indexed))
        return [
            _set_targets(name, 0, f"coalesce(attstattarget, -1) = -1 AND attname NOT IN ({wanted})"),
            f"ANALYZE {name}",
            _set_targets(name, -1, "attstattarget = 0"),
        ]

    def describe(self, cls: type[SchemaMixin]) -> list[str]:
        """Make the statements COMMENT ON."""
        table = table_of(cls)
        name = self.names.name(cls)
        summary = " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
        columns = [
            f"COMMENT ON COLUMN {name}.{self.names.quote(item.name)} IS {literal(item.comment or '')}"
            for item in table.columns
        ]
        return [f"COMMENT ON TABLE {name} IS {literal(summary)}", *columns]


def _set_targets(name: str, target: int, condition: str) -> str:
    """Make the statement that sets the statistics target of those columns of a table that meet a condition."""
    alter = (
        f"SELECT {literal(f'ALTER TABLE {name} ')} || "
        f"string_agg('ALTER COLUMN ' || quote_ident(attname) || ' SET STATISTICS {target}', ', ') FROM pg_attribute "
        f"WHERE attrelid = {literal(name)}::regclass AND attnum > 0 AND NOT attisdropped AND {condition}"
    )
    # Where no column meets it, there is nothing to be executed.
    block = f"DECLARE command text := ({alter}); BEGIN IF command IS NOT NULL THEN EXECUTE command; END IF; END"
    return f"DO {literal(block)}"
