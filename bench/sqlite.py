"""Load time of a production into SQLite over a bare executemany of ready tuples plus the same indexes, in one run.

The floor is a single process that has all tuples in memory before the clock starts, inserts them table by table, one
transaction each, into the same tables, and builds the same indexes. It is measured twice: with SQLite as it is, and
under the settings of a load (pages of 32 kB, a larger cache).

    python bench/sqlite.py [--root SAMPLE] [--tiles 34] [--rounds 3] [--limit 1.0]

Exit status 1 if the median over the floor with SQLite as it is exceeds the limit.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import load, settle
from specprod.database import connect
from specprod.model import TABLES, table_of

PLAIN, TUNED = "SQLite as it is", "the settings of a load"


def floor(source: str, path: str, tuned: bool) -> tuple[int, float, float]:
    """Insert the rows of a loaded database into a new one; return their number, and the seconds of rows and indexes."""
    reading = sqlite3.connect(source)
    rows = {cls: reading.execute(f'SELECT * FROM "{table_of(cls).name}"').fetchall() for cls in TABLES}
    reading.close()
    gc.disable()
    Path(path).unlink(missing_ok=True)
    # SQLite as it is: a connection that is not of this package, which is asked for nothing but its SQL.
    with connect(path, create=True) as database, database.connect() as connection:
        driver: Any = connection.connection.driver_connection if tuned else sqlite3.connect(path, isolation_level=None)
        statements = database.statements
        driver.execute("PRAGMA foreign_keys = OFF")
        for cls in TABLES:
            driver.execute(statements.create_table(cls, [table_of(item).name for item in TABLES]))
        start = time.perf_counter()
        for cls in TABLES:
            places = ", ".join("?" * len(table_of(cls).columns))
            driver.execute("BEGIN")
            driver.executemany(f"INSERT INTO {database.name(cls)} VALUES ({places})", rows[cls])
            driver.execute("COMMIT")
        middle = time.perf_counter()
        for cls in TABLES:
            steps = [statements.sky_index(cls), statements.primary_key(cls), *statements.plain_indexes(cls)]
            for statement in (step[1] for step in steps if step):
                driver.execute(statement)
        end = time.perf_counter()
    return sum(map(len, rows.values())), middle - start, end - middle


def main() -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a sample that is there already")
    parser.add_argument("--tiles", type=int, default=34)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1.0, help=f"largest ratio over the floor with {PLAIN}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.root or Path(scratch) / "production"
        if options.root is None:
            size = ["--tiles", str(options.tiles), "--assigned", "4000", "--potential", "10000"]
            subprocess.run(["specprod-load", "sample", str(root), *size], check=True, stdout=sys.stderr)
        ratios: dict[str, list[float]] = {PLAIN: [], TUNED: []}
        loaded, bare = Path(scratch) / "loaded.db", Path(scratch) / "bare.db"
        for number in range(options.rounds):
            loaded.unlink(missing_ok=True)
            settle()
            wall, memory = load(root, loaded)
            print(f"round {number + 1}: run {wall:.1f} s, peak {memory:.0f} MB", end="", flush=True)
            for (name, found), tuned in zip(ratios.items(), (False, True), strict=True):
                settle()
                with multiprocessing.Pool(1) as process:
                    rows, inserting, indexing = process.apply(floor, (str(loaded), str(bare), tuned))
                total = inserting + indexing
                found.append(wall / total)
                parts = f"rows {inserting:.1f}, indexes {indexing:.1f}"
                print(f"; floor with {name} {total:.1f} s ({parts}), ratio {found[-1]:.2f}", end="", flush=True)
            print(f"; {rows} rows, {rows / wall:,.0f} rows/s", flush=True)
        for name, found in ratios.items():
            middle = statistics.median(found)
            print(f"run over floor with {name}: median {middle:.2f}, {min(found):.2f} to {max(found):.2f}")
    passed = statistics.median(ratios[PLAIN]) <= options.limit
    print(f"limit {options.limit:.2f} over the floor with {PLAIN}: {'kept' if passed else 'exceeded'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
