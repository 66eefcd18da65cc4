"""INSERT … ON CONFLICT for objects, as one statement for any number of rows and either database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Compiled
from sqlalchemy.sql import ClauseElement, Executable

from specprod.database.kinds import PostgresqlDatabase, insert_of
from specprod.model import Base, table_of

__all__ = ["Upsert"]


class Upsert(Executable, ClauseElement):
    """A statement that inserts objects, and updates or leaves alone those whose key is there already.

    Give it to ``execute()`` of a session or a connection. The rows are sent one after the other as parameters of one
    prepared statement, so that their number has no limit, all in the transaction of the caller.

    Parameters
    ----------
    rows : sequence of objects
        Of one class.
    do_nothing : bool
        Leave rows alone that are there, instead of updating them.
    """

    __visit_name__ = "upsert"
    inherit_cache = False

    def __init__(self, rows: Sequence[Base], do_nothing: bool = False) -> None:
        kinds = {type(row) for row in rows}
        if len(kinds) != 1:
            raise ValueError(
                f"expected objects of one class, found {', '.join(sorted(k.__name__ for k in kinds)) or 'none'}"
            )
        self.table = table_of(kinds.pop())  # type: ignore[arg-type]
        names = [item.name for item in self.table.columns]
        self.rows = [{name: getattr(row, name) for name in names} for row in rows]
        self.do_nothing = do_nothing

    def statement(self, dialect: sa.Dialect) -> Any:
        """Make the statement for a kind of database, for one row at a time."""
        statement = insert_of(dialect, self.table)
        key = list(self.table.primary_key.columns)
        if self.do_nothing:
            return statement.on_conflict_do_nothing(index_elements=key)
        new = {item.name: statement.excluded[item.name] for item in self.table.columns if not item.primary_key}
        return statement.on_conflict_do_update(index_elements=key, set_=new)

    def compile(self, bind: Any = None, dialect: sa.Dialect | None = None, **options: Any) -> Compiled:
        """Give the SQL for one row; of PostgreSQL, where no database is given."""
        dialect = dialect or (PostgresqlDatabase.dialect() if bind is None else bind.dialect)  # type: ignore[no-untyped-call]
        compiled: Compiled = self.statement(dialect).compile(dialect=dialect, **options)
        return compiled

    def _execute_on_connection(
        self, connection: sa.Connection, distilled_params: Any, execution_options: Any
    ) -> sa.CursorResult[Any]:
        """Execute the statement; SQLAlchemy calls this of everything that is given to ``execute()``."""
        return connection.execute(self.statement(connection.dialect), self.rows)
