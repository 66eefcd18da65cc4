"""What a database lacks in which only some tables of a production are loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specprod.database.keys import finished_tables, parents_of
from specprod.model import table_of
from specprod.stages import TABLE_NAMES

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["Unloaded", "unloaded"]


@dataclass
class Unloaded:
    """What is not there.

    Attributes
    ----------
    not_loaded : list of str
        Tables that are not there, or not complete.
    references_not_made : dict of str to str
        References of tables that are complete, each with the table to which it would lead.
    """

    not_loaded: list[str] = field(default_factory=list)
    references_not_made: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.not_loaded or self.references_not_made)

    def __str__(self) -> str:
        lines = [f"Not loaded: {', '.join(self.not_loaded)}."] if self.not_loaded else []
        if self.references_not_made:
            names = (f"{name} (to {table})" for name, table in self.references_not_made.items())
            lines.append(f"References that are not made: {', '.join(names)}.")
        return "\n".join(lines)


def unloaded(database: Database) -> Unloaded:
    """Find the tables that are not loaded, and the references that wait for them."""
    with database.turn, database.connect() as connection:
        keys = database.keys(connection)
        complete = finished_tables(database, connection)
    made = keys.names - keys.invalid
    references = {name: parent for cls in complete for name, parent in parents_of(cls) if name not in made}
    names = [table_of(cls).name for cls in complete]
    return Unloaded([name for name in TABLE_NAMES if name not in names], references)
