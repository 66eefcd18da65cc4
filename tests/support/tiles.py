"""Trees and databases for tests of tile loads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from specprod import database as specprod_database
from specprod.cli.main import main

TILES = (1200, 1203, 21001, 602)
TABLES = ("tile", "exposure", "frame", "photometry", "target", "ztile", "fiberassign", "potential")
KEYS = {"tile": "tileid", "exposure": "expid", "frame": "frameid", "photometry": "targetid"}


def load(root: Path, target: str, *words: object) -> int:
    """Run ``specprod-load tile``."""
    return main(["tile", str(root), *map(str, words), "--specprod", "sample", "--database", target, "-q", "--json"])


def named(directory: Path, root: Path) -> Path:
    """Give a tree the name of another: a database is loaded from one root, whatever stands there."""
    link = directory / "root"
    link.unlink(missing_ok=True)
    link.symlink_to(root)
    return link


@contextmanager
def opened(target: str) -> Iterator[Any]:
    """Connect by the driver alone."""
    if target.startswith("postgresql"):
        with psycopg.connect(target, options="-c timezone=UTC -c search_path=sample", autocommit=True) as connection:
            yield connection
    else:
        connection = sqlite3.connect(target, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()


def rows(target: str, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """All rows of a table in the order of its key."""
    with opened(target) as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY {KEYS.get(table, 'id')}").fetchall()


def content(target: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables that a tile load writes."""
    return {table: rows(target, table) for table in TABLES}


def execute(target: str, *statements: str) -> None:
    """Execute statements by the driver alone."""
    with opened(target) as connection:
        for statement in statements:
            connection.execute(statement)


def empty_again(target: str) -> None:
    """Delete all rows, which is faster than making the tables anew."""
    names = ", ".join(reversed(TABLES))
    if target.startswith("postgresql"):
        execute(target, f"TRUNCATE {names}, zpix")
    else:
        execute(target, *(f"DELETE FROM {name}" for name in reversed(TABLES)))


def connect(target: str) -> Any:
    """Connect as a user of the package does."""
    return specprod_database.connect(target, schema="sample")
