"""Rows of any table, made up: what a test does not name is nought, or no text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from specprod.model import Base

__all__ = ["objects", "row"]

_EMPTY = {bool: False, str: "", datetime: datetime(2021, 5, 14, tzinfo=UTC)}


def row(cls: type[Base], **values: Any) -> dict[str, Any]:
    """Values of all columns of a table."""
    columns = sa.inspect(cls).columns
    return {item.name: _EMPTY.get(item.type.python_type, 0) for item in columns} | values


def objects(cls: type[Base], *rows: dict[str, Any]) -> list[Any]:
    """Objects of a table."""
    return [cls(**row(cls, **values)) for values in rows]
