"""Load time of a production into PostgreSQL over the server's own floor for the same tables, in one run.

The floor is what the server alone needs, on one connection: COPY BINARY of the same rows, in the order of the
production's files, from files that it reads itself, then primary keys and indexes, the indexes of the sky and CLUSTER,
and the references, in the order in which a schema that was made with its indexes is clustered at last. The user of the
database must be allowed to write files on the server.

    python bench/postgresql.py --database postgresql://postgres@localhost/test [--tiles 34] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from measuring import load, settle
from specprod.configuration import load_configuration
from specprod.database import Database
from specprod.database.connection import connect
from specprod.database.schema import create_tables, drop_tables
from specprod.files.tree import ProductionTree
from specprod.load import setup_db
from specprod.loading.loader import Loader
from specprod.model import TABLES, table_of
from specprod.production.stage_files import stage_loads
from specprod.stages import STAGE_NAMES


def dump(database: Database, root: Path, directory: Path) -> int:
    """Load the rows alone, and write them, not clustered yet, to files of the server; return their number."""
    setup_db(database=database, overwrite=True)
    tree = ProductionTree(root, load_configuration(environ={}).production("sample"))
    for stage in STAGE_NAMES:
        Loader(database).load_all(stage_loads(stage, tree, database))
    rows = 0
    with database.begin() as connection:
        for cls in TABLES:
            path = directory / table_of(cls).name
            rows += connection.exec_driver_sql(f"COPY {database.name(cls)} TO '{path}' (FORMAT BINARY)").rowcount
    return rows


def drop(database: Database, schema: str) -> None:
    """Drop a schema that a measurement left."""
    with database.begin() as connection:
        connection.execute(sa.schema.DropSchema(schema, cascade=True, if_exists=True))


def floor(database: Database, directory: Path) -> dict[str, float]:
    """Load these files by the server alone; return the seconds of its parts."""
    with database.begin() as connection:
        drop_tables(database, connection)
        create_tables(database, connection)
    settle(database)
    seconds = {}
    with database.connect() as connection, connection.execution_options(isolation_level="AUTOCOMMIT"):

        def timed(name: str, statements: list[str]) -> None:
            start = time.perf_counter()
            for statement in statements:
                connection.exec_driver_sql(statement)
            seconds[name] = time.perf_counter() - start

        files = {c: directory / table_of(c).name for c in TABLES}
        timed("copy", [f"COPY {database.name(c)} FROM '{files[c]}' (FORMAT BINARY)" for c in TABLES])
        keys = [key[1] for c in TABLES if (key := database.statements.primary_key(c))]
        timed("indexes", keys + [statement for c in TABLES for _, statement in database.statements.plain_indexes(c)])
        sky = [(c, step) for c in TABLES if (step := database.statements.sky_index(c))]
        cluster = [[s[1], f"CLUSTER {database.name(c)} USING {database.quote(s[0])}"] for c, s in sky]
        timed("clustering", [statement for pair in cluster for statement in pair])
        references = [add for c in TABLES for _, _, add, _ in database.statements.references(c)]
        timed("references", [statement.removesuffix(" NOT VALID") for statement in references])
    return seconds


def main() -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True, help="PostgreSQL URL of a superuser")
    parser.add_argument("--root", type=Path, help="a sample that is there already")
    parser.add_argument("--tiles", type=int, default=34)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1.0, help="largest ratio of run over floor")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=None) as scratch:
        root = options.root or Path(scratch) / "production"
        if options.root is None:
            size = ["--tiles", str(options.tiles), "--assigned", "4000", "--potential", "10000"]
            subprocess.run(["specprod-load", "sample", str(root), *size], check=True, stdout=sys.stderr)
        files = Path(scratch) / "floor"
        files.mkdir()
        Path(scratch).chmod(0o755)
        files.chmod(0o777)
        ratios = []
        with connect(options.database, schema="bench_floor") as database:
            rows = dump(database, root, files)
        for number in range(options.rounds):
            with connect(options.database) as database:
                drop(database, "bench_load")
                settle(database)
            wall, memory = load(root, options.database, "--schema", "bench_load")
            with connect(options.database, schema="bench_floor") as database:
                parts = floor(database, files)
            total = sum(parts.values())
            ratios.append(wall / total)
            shown = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
            print(
                f"round {number + 1}: {rows} rows; run {wall:.1f} s, {rows / wall:,.0f} rows/s, peak {memory:.0f} MB; "
                f"floor {total:.1f} s ({shown}); ratio {wall / total:.2f}",
                flush=True,
            )
        middle = statistics.median(ratios)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"ratio of run over floor: median {middle:.2f}, {spread}; limit {options.limit:.2f}")
        with connect(options.database) as database:
            drop(database, "bench_load")
            drop(database, "bench_floor")
    return int(middle > options.limit)


if __name__ == "__main__":
    sys.exit(main())
