"""Load spectroscopic survey productions into PostgreSQL or SQLite, and query them.

``specprod.connect()`` opens a loaded database; the command ``specprod-load`` fills one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specprod.database.connection import Database, connect

__all__ = ["Database", "__version__", "connect"]


def __getattr__(name: str) -> Any:
    # What is heavy is imported when it is asked for, so that the command can say --help at once.
    if name == "__version__":
        from importlib.metadata import version

        return version("specprod")
    if name in ("Database", "connect"):
        return getattr(import_module("specprod.database.connection"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
