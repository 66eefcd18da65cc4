"""Rows compared by the database itself."""

from __future__ import annotations

from typing import Any, Protocol

from specprod.model.converting import Columns

__all__ = ["Matcher"]


class Matcher(Protocol):
    """Compares rows with those of a table that have the same key, piece by piece."""

    def prepare(self, columns: Columns) -> Any:
        """Bring columns into the form that the database takes; needs no connection."""

    def add(self, prepared: Any) -> int:
        """Compare rows, and return how many have an equal one in the table."""

    def table_rows(self) -> int:
        """Count the rows of the table."""

    def complete(self) -> bool:
        """Whether each row of the table was equal to one, and to one only."""
