"""What benches have in common: runs of the command, and a disk that has done what was asked of it before."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from specprod.database import Database


def measure(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; return its wall time in seconds and its peak memory in MB."""
    start = time.perf_counter()
    # The small program between: a process inherits the peak of the one that starts it.
    done = subprocess.run(["/usr/bin/time", "-f", "%M", *command], check=True, capture_output=True, text=True)
    return time.perf_counter() - start, int(done.stderr.split()[-1]) * 1024 / 1e6


def load(root: Path, target: str | Path, *more: str) -> tuple[float, float]:
    """Measure ``specprod-load run``."""
    words = ["run", str(root), "--specprod", "sample", "--database", str(target), *more, "--quiet"]
    return measure(["specprod-load", *words])


def settle(database: Database | None = None) -> None:
    """Let the disk, and the server of a database, finish what was written before, so that nobody pays for it later."""
    if database is not None and database.kind == "postgresql":
        with database.connect() as connection, connection.execution_options(isolation_level="AUTOCOMMIT"):
            connection.exec_driver_sql("CHECKPOINT")
    os.sync()
