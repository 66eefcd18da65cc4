"""Time of a tile of the size of the survey's, into databases of several sizes; of ten tiles, of a night of fifty.

And of the primary spectra. Exit 1 if a tile of the night takes longer than `LIMIT`, or if a catalogue is read more
often than there are batches of tiles.

The tile has 5,000 fibers, 4,167 of them on targets, and 20,183 targets in some 300 bricks. Databases are filled in
SQL, so that millions of rows take a minute. Times are wall times of the command, as a process; tables and indexes are
there.

    python bench/tile.py --database postgresql://postgres@localhost/test [--rows 0 1 5] [--only night]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from specprod.configuration import load_configuration
from specprod.database.connection import Database, connect
from specprod.database.failures import Retries
from specprod.database.keys import build_indexes
from specprod.files.tree import ProductionTree
from specprod.load import setup_db
from specprod.model import Fiberassign, Photometry, Potential, Target, Tile, Ztile, table_of
from specprod.production.job import build_all
from specprod.tile import update_primary
from specprod.tiles.catalogues import SurveyCatalogues
from specprod.tiles.choice import KINDS, photometry_source
from specprod.tiles.observations import Observations
from specprod.tiles.preparing import BATCH, TilePreparation
from specprod.tiles.rows import TileRows

SCHEMA = "bench_tile"
TARGETS_PER_TILE = 20000
FILLER_TILE = 900000
# Above all ids of the tile itself.
FIRST_ID = "400000000000000000000000000000000000000::numeric"
FIRST_TARGET = 3 << 60
#: Tiles of a night, and the seconds that each may take.
NIGHT, LIMIT = 50, 1.0


def fill(database: Database, cls: type[Any], rows: int, values: dict[str, str]) -> None:
    """Fill a table in SQL: these expressions of i, and something plausible in the other columns."""

    def expression(item: Any) -> str:
        if item.name in values:
            return values[item.name]
        kind = type(item.type).__name__
        kinds = {"Boolean": "false", "String": "'x'", "DateTime": "now()"}
        if kind in ("REAL", "Double"):
            return "((i %% 9973) * 0.37)::real"
        return kinds.get(kind, "i %% 1000")

    table = table_of(cls)
    names = ", ".join(database.quote(item.name) for item in table.columns)
    with database.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO {database.name(cls)} ({names}) SELECT {', '.join(map(expression, table.columns))} "
            f"FROM generate_series(1, {rows}) AS g(i)"
        )


def fill_all(database: Database, rows: int) -> None:
    """Fill a schema with so many targets, and spectra of a fifth of them, and build its indexes."""
    setup_db(database=database, overwrite=True)
    if rows:
        target = {"targetid": f"{FIRST_TARGET} + i", "id": f"{FIRST_ID} + i", "survey": "'main'", "program": "'dark'"}
        target["tileid"] = f"{FILLER_TILE} + i / {TARGETS_PER_TILE}"
        tiles = rows // TARGETS_PER_TILE + 1
        fill(database, Tile, tiles, {"tileid": f"{FILLER_TILE} + i - 1", "tilera": "i %% 360", "tiledec": "i %% 60"})
        sky = {"ra": "(i * 0.0137)::numeric %% 360", "dec": "(i * 0.00731)::numeric %% 60"}
        fill(database, Photometry, rows, {"targetid": target["targetid"], "ls_id": "i", **sky})
        fill(database, Target, rows, target)
        spectra = {**target, "targetphotid": target["id"], "spgrp": "'cumulative'", "spgrpval": "20220101"}
        fill(database, Ztile, rows // 5, spectra)
        assigned = {**target, "location": "i %% 5000", "target_ra": sky["ra"], "target_dec": sky["dec"]}
        fill(database, Fiberassign, rows // 5, assigned)
        fill(database, Potential, rows, assigned)
    build_all(database)


def remove_tile(database: Database, tileid: int) -> None:
    """Take a tile out again."""
    with database.begin() as connection:
        for name in ("potential", "fiberassign", "ztile", "target", "frame", "exposure", "tile"):
            connection.exec_driver_sql(f"DELETE FROM {database.name(name)} WHERE tileid = {tileid}")
        connection.exec_driver_sql(f"DELETE FROM {database.name(Photometry)} WHERE targetid < {FIRST_TARGET}")


def command(root: Path, url: str, tileids: list[int], source: str, *more: str) -> float:
    """Run the command and return its wall time."""
    words = ["specprod-load", "tile", str(root), *map(str, tileids), "--specprod", "sample", "--source", source]
    start = time.perf_counter()
    done = subprocess.run(
        [*words, "--database", url, "--schema", SCHEMA, "-q", "--json", *more],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    assert all(item["error"] is None for item in json.loads(done.stdout)["tiles"])
    return seconds


def reading(database: Database, root: Path, tileid: int, source: str) -> float:
    """Time of reading and converting alone."""
    tree = ProductionTree(root, load_configuration(environ={}).production("sample"))
    chosen = photometry_source(tree, source)
    start = time.perf_counter()
    work = TilePreparation(database, tree, Observations(tree), chosen, update=False, retries=Retries())
    ((_, rows),) = work.read_all([tileid])
    assert not isinstance(rows, Exception), rows
    return time.perf_counter() - start


def sample(directory: Path, name: str, *words: str) -> Path:
    """Write a sample, unless it is there."""
    root = directory / name
    if not (root / "sample.json").exists():
        subprocess.run(["specprod-load", "sample", str(root), "--tile-inputs", *words], check=True, capture_output=True)
    return root


def tiles_of(root: Path) -> list[int]:
    return sorted(int(path.name) for path in (root / "spectro/redux/sample/tiles/cumulative").iterdir())


def one_tile(url: str, root: Path, millions: list[int]) -> None:
    (tileid,) = tiles_of(root)
    print(f"{'rows':>10} {'source':11} {'tile [s]':>9} {'reading':>9} {'again':>9} {'--update':>9}")
    for count in millions:
        with connect(url, schema=SCHEMA) as database:
            fill_all(database, count * 1_000_000)
            for source in KINDS:
                times = []
                for _ in range(2):
                    remove_tile(database, tileid)
                    times.append(command(root, url, [tileid], source))
                again = command(root, url, [tileid], source)
                update = command(root, url, [tileid], source, "--update")
                remove_tile(database, tileid)
                read = reading(database, root, tileid, source)
                print(
                    f"{count * 1_000_000:>10,} {source:11} {min(times):9.2f} {read:9.2f} {again:9.2f} {update:9.2f}",
                    flush=True,
                )


def ten_tiles(url: str, root: Path) -> None:
    tileids = tiles_of(root)
    with connect(url, schema=SCHEMA) as database:
        for source in KINDS:
            fill_all(database, 0)
            together = command(root, url, tileids, source)
            fill_all(database, 0)
            one_by_one = sum(command(root, url, [tileid], source) for tileid in tileids)
            print(
                f"{len(tileids)} smaller tiles, {source}: one command {together:.2f} s, ten {one_by_one:.2f} s",
                flush=True,
            )


class Counting(SurveyCatalogues):
    """Counts how often each catalogue of a brick is read."""

    def __init__(self, tree: ProductionTree) -> None:
        super().__init__(tree)
        self.reads: Counter[Path] = Counter()
        self.batches = 0

    def tractor(self, targets: Any) -> Any:
        self.batches += 1
        return super().tractor(targets)

    def _in_files(self, files: Any, sought: Any) -> Any:
        self.reads.update(list(files))
        return super()._in_files(files, sought)


def night(url: str, root: Path) -> bool:
    """Load a night of tiles that overlap, from both kinds of source; whether all were fast enough."""
    tileids = tiles_of(root)
    good = len(tileids) >= NIGHT * 4 // 5
    with connect(url, schema=SCHEMA) as database:
        for source in KINDS:
            fill_all(database, 0)
            seconds = command(root, url, tileids, source) / len(tileids)
            update = command(root, url, tileids, source, "--update") / len(tileids)
            good &= max(seconds, update) <= LIMIT
            print(
                f"night of {len(tileids)} tiles, {source}: {seconds:.2f} s a tile, --update {update:.2f} s; "
                f"at most {LIMIT:.2f} s",
                flush=True,
            )
        fill_all(database, 0)
        tree = ProductionTree(root, load_configuration(environ={}).production("sample"))
        counting = Counting(tree)
        work = TilePreparation(database, tree, Observations(tree), counting, update=False, retries=Retries())
        assert all(isinstance(rows, TileRows) for _, rows in work.read_all(tileids))
        most = max(counting.reads.values())
        print(f"{len(counting.reads)} catalogues of bricks, read at most {most} times in {counting.batches} batches")
        return good and most <= counting.batches <= -(-len(tileids) // BATCH)


def primary(url: str, rows: int) -> None:
    with connect(url, schema=SCHEMA) as database:
        setup_db(database=database, overwrite=True)
        survey = "(array['main', 'main', 'sv3', 'special'])[1 + (hashint4(i::int) & 3)]"
        fill(
            database,
            Ztile,
            rows,
            {
                "id": f"{FIRST_ID} + i",
                "targetphotid": "i",
                "targetid": f"1 + (i::bigint * 7919) %% {rows * 3 // 5}",
                "survey": survey,
                "tileid": "i / 4000",
                "spgrp": "'cumulative'",
                "spgrpval": "i",
                "zwarn": "(hashint4((i + 1)::int) & 3) * 4",
                "tsnr2_lrg": "(hashint4((i + 2)::int) & 65535)::real",
                **{f"{group}_nspec": "0" for group in ("zcat", "sv", "main")},
            },
        )
        _primary(database, f"of {rows:,} spectra, all change, before there are indexes")
        # The references are not in question here, and the rows do not have what they refer to.
        build_indexes(database, Ztile, cluster=False)
        with database.begin() as connection:
            # As ten tiles leave their rows.
            new = ", ".join(f"{group}_nspec = 0, {group}_primary = false" for group in ("zcat", "sv", "main"))
            connection.exec_driver_sql(f"UPDATE {database.name(Ztile)} SET {new} WHERE tileid < 10")
        _primary(database, f"of {rows:,} spectra, after ten tiles of 4,000")
        _primary(database, f"of {rows:,} spectra, nothing changed")


def _primary(database: Database, what: str) -> None:
    start = time.perf_counter()
    changed = update_primary(database=database)["ztile"]
    print(f"primary {what}: {changed:,} rows written in {time.perf_counter() - start:.1f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[0, 1, 5], help="millions of targets that are there")
    parser.add_argument("--spectra", type=int, default=2_000_000, help="spectra for the primary columns")
    parser.add_argument("--directory", type=Path, help="keep the samples here (3 GB)")
    parser.add_argument("--only", choices=["primary", "ten", "night", "one"], help="one of the cases")
    arguments = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.directory or Path(temporary)
        full = ["--assigned", "4167", "--sky-fibers", "833", "--potential", "20183", "--sky-targets", "126955"]
        beyond = ["--brick-sources", "3000", "--catalogue-reach", "2.5"]
        smaller = ["--assigned", "800", "--potential", "2500", "--brick-sources", "300"]
        chosen = (arguments.only,) if arguments.only else ("primary", "ten", "night", "one")
        if "primary" in chosen:
            primary(arguments.database, arguments.spectra)
        if "ten" in chosen:
            ten_tiles(arguments.database, sample(directory, "ten", "--tiles", "10", *smaller))
        if "night" in chosen:
            good = night(arguments.database, sample(directory, "night", "--tiles", str(NIGHT), *smaller))
        if "one" in chosen:
            one_tile(arguments.database, sample(directory, "nightly", "--tiles", "1", *full, *beyond), arguments.rows)
    with connect(arguments.database, schema=SCHEMA) as database, database.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {database.quote(SCHEMA)} CASCADE")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
