"""Failures that pass by themselves are tried again, a bounded number of times; others are not."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from specprod.cli.main import main
from specprod.database import connect
from specprod.database.failures import Retries, is_transient
from specprod.errors import DatabaseError

QUICK = Retries(attempts=4, first_pause=0.01, longest_pause=0.05)


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "25P03", "57P01", "57P03", "57P05", "53300", "08006"])
def test_passing_failures(postgres_url: str, code: str, caplog: pytest.LogCaptureFixture) -> None:
    attempts = []
    with connect(postgres_url) as database:

        def work() -> int:
            attempts.append(code)
            with database.begin() as connection:
                if len(attempts) < 3:
                    raise_in_server(connection, code)
                return connection.scalar(sa.text("SELECT 42"))

        with caplog.at_level(logging.WARNING, "specprod"):
            assert QUICK.run(work, "the work") == 42
    assert len(attempts) == 3
    assert caplog.text.count("the work failed") == 2


def raise_in_server(connection: sa.Connection, code: str) -> None:
    connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{code}'; END $$")


@pytest.mark.parametrize(("code", "expected"), [("40001", 4), ("22012", 1), ("42501", 1)])
def test_bounded_and_only_what_passes(postgres_url: str, code: str, expected: int) -> None:
    attempts = []
    with connect(postgres_url) as database:

        def work() -> None:
            attempts.append(code)
            with database.begin() as connection:
                raise_in_server(connection, code)

        with pytest.raises(DatabaseError, match="as asked"):
            QUICK.run(work)
    assert len(attempts) == expected


def test_locked_file(sample_root: Path, sqlite_file: Path) -> None:
    """Somebody else writes to the file for a while; the load waits and goes on."""
    words = ["run", str(sample_root), "--specprod", "sample", "--database", str(sqlite_file), "--quiet"]
    assert main([*words, "--stage", "exposures"]) == 0
    held = threading.Event()

    def hold() -> None:
        other = sqlite3.connect(sqlite_file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        held.set()
        time.sleep(1.5)
        other.execute("COMMIT")
        other.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    begin = time.monotonic()
    assert main(words) == 0
    assert time.monotonic() - begin > 1
    thread.join()


def test_locked_file_without_waiting(sqlite_file: Path) -> None:
    attempts = []
    sqlite3.connect(sqlite_file).execute("CREATE TABLE t (n)")
    other = sqlite3.connect(sqlite_file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    def work() -> None:
        attempts.append(1)
        if len(attempts) == 3:
            other.execute("COMMIT")
        mine = sqlite3.connect(sqlite_file, timeout=0)
        mine.execute("INSERT INTO t VALUES (1)")

    QUICK.run(work)
    assert len(attempts) == 3


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        # After postmaster.c of PostgreSQL 12 to 17: a server that crashed says them one after the other.
        ("FATAL:  the database system is starting up", True),
        (
            "FATAL:  the database system is not yet accepting connections\nDETAIL:  Consistent recovery state has …",
            True,
        ),
        ("FATAL:  the database system is not accepting connections\nDETAIL:  Hot standby mode is disabled.", True),
        ("FATAL:  the database system is shutting down", True),
        ("FATAL:  the database system is in recovery mode", True),
        ("FATAL:  sorry, too many clients already", True),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", True),
        ('FATAL:  password authentication failed for user "x"', False),
        ('FATAL:  database "x" does not exist', False),
        ('FATAL:  role "x" does not exist', False),
        ("Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?", True),
        ("[Errno -2] Name or service not known", False),
        ("[Errno -3] Temporary failure in name resolution", True),
    ],
)
def test_refused_connections(words: str, passes: bool) -> None:
    """There is no SQLSTATE of them, only these words."""
    assert is_transient(psycopg.OperationalError(f"connection failed: {words}")) == passes
