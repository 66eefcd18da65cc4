"""Names of tables, indexes and columns as they stand in SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.sql.compiler import IdentifierPreparer

from specprod.model import table_of

if TYPE_CHECKING:
    from specprod.model import SchemaMixin

__all__ = ["Names"]


@dataclass(frozen=True)
class Names:
    """How a database writes names.

    Attributes
    ----------
    preparer : sqlalchemy.sql.compiler.IdentifierPreparer
        Of its dialect.
    schema : str or None
        Schema of the tables, None where there are none.
    """

    preparer: IdentifierPreparer
    schema: str | None = None

    def quote(self, identifier: str) -> str:
        """Quote an identifier."""
        return self.preparer.quote_identifier(identifier)

    def name(self, table: type[SchemaMixin] | str) -> str:
        """Full name of a table or index of the schema, quoted."""
        name = table if isinstance(table, str) else table_of(table).name
        return ".".join(self.quote(part) for part in (self.schema, name) if part)

    def columns(self, names: list[str]) -> str:
        """Quote the names of columns, as a list."""
        return ", ".join(self.quote(name) for name in names)
