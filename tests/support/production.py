"""Loaded productions that are changed behind the back of the loader, for tests of what looks after them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from specprod.cli.main import main

SCHEMA = "sample"


def is_postgresql(target: str) -> bool:
    """Whether it is a URL of PostgreSQL."""
    return target.startswith("postgresql")


def sql(target: str, *statements: str) -> list[tuple[Any, ...]]:
    """Execute statements by the driver alone; give the rows of the last one."""
    if is_postgresql(target):
        with psycopg.connect(target, options=f"-c search_path={SCHEMA},public", autocommit=True) as connection:
            cursor = [connection.execute(statement.encode()) for statement in statements][-1]
            return cursor.fetchall() if cursor.description else []
    connection = sqlite3.connect(target, isolation_level=None)
    try:
        return [connection.execute(statement) for statement in statements][-1].fetchall()
    finally:
        connection.close()


def run(root: Path, target: str, *more: str) -> int:
    """Load a production in small chunks."""
    words = ["run", str(root), "--specprod", "sample", "--database", target, "--chunksize", "40", "--quiet"]
    return main([*words, *more])


def verify(
    root: Path, target: str, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Verify it; give the exit code and the reports by table."""
    capsys.readouterr()
    words = ["verify", str(root), "--specprod", "sample", "--database", target, "--quiet", "--json"]
    code = main([*words, *more])
    printed = json.loads(capsys.readouterr().out)
    assert printed["equal"] is (code == 0)
    return code, {item["table"]: item for item in printed["tables"]}


def named(reports: dict[str, dict[str, Any]]) -> list[tuple[Any, ...]]:
    """All differences: table, what, row, column, file, database."""
    return [
        (table, item["what"], item["row"], item["column"], item["expected"], item["found"])
        for table, report in reports.items()
        for item in report["differences"]
    ]


class Loaded:
    """A production that is loaded once and copied as often as a test changes it."""

    def __init__(self, root: Path, directory: Path, server: Any) -> None:
        self.root = root
        self._server = server
        self._file = directory / "loaded.db"
        self._name = "loaded_template"
        self._copies: list[str] = []
        assert run(root, str(self._file)) == 0
        assert run(root, server.create_database(self._name)) == 0

    def copy(self, kind: str, directory: Path) -> str:
        """Copy it into a new database, and say where that is."""
        if kind == "sqlite":
            return str(shutil.copy(self._file, directory / "specprod.db"))
        name = f"{self._name}_{len(self._copies)}"
        self._server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{self._name}"')
        self._copies.append(name)
        return str(self._server.url(name))

    def drop(self, names: Sequence[str] = ()) -> None:
        """Drop the copies."""
        for name in names or self._copies:
            self._server.drop_database(name)
