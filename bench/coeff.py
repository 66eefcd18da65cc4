"""Time of ``specprod-load coeff-fix apply`` against the bare UPDATE … FROM of the same rows.

    python bench/coeff.py [--database URL] [--rows 1000000] [--rounds 3]

Makes the table zpix, with all columns and indexes, and its patch, in which every row differs, twice in the same way: of
one the rows are set by the bare statement, of the other by the fix, which also counts, checks and locks. The order
alternates from round to round. Without a URL an SQLite file in a temporary directory is used; with one, the schemas
bench_coeff and bench_coeff_patch of that database, which are dropped again. A million rows take some 3 GB.
Exit status 1 if the fix takes more than 1.2 times as long as the statement, after the fastest round of each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from measuring import settle
from specprod.coeff import FIXES, apply_patch
from specprod.coeff.tables import COEFFICIENTS
from specprod.database.connection import Database, database_url, open_url
from specprod.database.keys import build_indexes
from specprod.database.schema import create_tables, drop_tables
from specprod.model import SchemaMixin, table_of
from specprod.model.base import Int128

LIMIT = 1.2
FIX = FIXES["zpix"]


def expression(item: sa.Column, postgresql: bool) -> str:
    """SQL for a value that depends on the number g of the row."""
    if isinstance(item.type, Int128):
        return "g::numeric * 18446744073709551616 + 5" if postgresql else "printf('%039d', g)"
    if isinstance(item.type, sa.Boolean):
        return "g % 2 = 0"
    if isinstance(item.type, sa.String):
        return {"desiname": "'DESI J' || (1000000 + g)", "program": "'dark'"}.get(item.name, "'main'")
    if item.name == "targetid":
        return "39627000000000000 + g"
    return "g % 1000" if isinstance(item.type, sa.Integer) else "(g % 100003) / 7.0"


def fill(database: Database, cls: type[SchemaMixin], rows: int) -> None:
    names = [item.name for item in table_of(cls).columns]
    values = [expression(item, database.kind == "postgresql") for item in table_of(cls).columns]
    if cls is FIX.patch:
        values = [f"{v} + 1" if name in COEFFICIENTS else v for name, v in zip(names, values, strict=True)]
    with database.begin(check_references=False) as connection:
        drop_tables(database, connection, [cls])
        create_tables(database, connection, [cls])
        connection.exec_driver_sql(
            f"WITH RECURSIVE series(g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM series WHERE g < {rows}) "
            f"INSERT INTO {database.name(cls)} ({', '.join(names)}) SELECT {', '.join(values)} FROM series".replace(
                "%", "%%" if database.kind == "postgresql" else "%"
            )
        )
    build_indexes(database, cls)


def bare(database: Database, patches: Database) -> float:
    settings = ", ".join(f"{name} = p.{name}" for name in COEFFICIENTS)
    production, patch = database.name(FIX.production), patches.name(FIX.patch)
    statement = f"UPDATE {production} AS z SET {settings} FROM {patch} AS p WHERE z.id = p.id"
    start = time.perf_counter()
    with database.begin() as connection:
        connection.exec_driver_sql(statement)
    return time.perf_counter() - start


def fixed(database: Database, patches: Database, rows: int) -> float:
    start = time.perf_counter()
    (done,) = apply_patch(database, patches, ["zpix"])
    seconds = time.perf_counter() - start
    if done.changed != rows:
        raise SystemExit(f"{done.changed} rows changed, expected {rows}")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", help="URL of a PostgreSQL database; SQLite by default")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"bare": [], "fix": []}
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        for number in range(options.rounds):
            for kind in ("bare", "fix") if number % 2 == 0 else ("fix", "bare"):
                url = database_url(options.database or Path(directory) / f"{kind}.db")
                with open_url(url, "bench_coeff") as database, open_url(url, "bench_coeff_patch") as patches:
                    fill(database, FIX.production, options.rows)
                    fill(patches, FIX.patch, options.rows)
                    settle(database)
                    run = bare(database, patches) if kind == "bare" else fixed(database, patches, options.rows)
                    seconds[kind].append(run)
                    print(f"round {number + 1}: {kind:4} {run:8.2f} s", flush=True)
                    with database.begin(check_references=False) as connection:
                        drop_tables(database, connection, [FIX.production])
                        drop_tables(patches, connection, [FIX.patch])
                        if database.kind == "postgresql":
                            for item in (database, patches):
                                connection.exec_driver_sql(f"DROP SCHEMA {item.quote(str(item.schema))}")
                if not options.database:
                    Path(str(url.database)).unlink()
    ratio = min(seconds["fix"]) / min(seconds["bare"])
    middle = statistics.median(seconds["fix"]) / statistics.median(seconds["bare"])
    print(f"{options.rows:,} rows: fix/bare {ratio:.3f} (medians {middle:.3f}), limit {LIMIT}")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
