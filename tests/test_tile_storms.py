"""Four overlapping tiles in any order, and loads that are killed at random moments: the database is always the same."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest

from specprod.configuration import load_configuration
from specprod.files.tree import ProductionTree
from specprod.sample import write_sample
from specprod.tile import load_tiles
from support.tiles import TILES, connect, content, empty_again, load, named, opened

#: Seconds of a storm, and the kills that it must have seen to count.
SECONDS, KILLS = 6, 4


def kind(target: str) -> str:
    return "postgresql" if target.startswith("postgresql") else "sqlite"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("storms") / "tree"
    numbers = {"tiles": 4, "targets_per_tile": 4, "potentials_per_tile": 30, "sky_fibers": 0, "sky_targets": 0}
    write_sample(root, **numbers, seed=2, tile_inputs=True, compact=True, compressed=False)
    found = {int(path.name) for path in (root / "spectro/redux/sample/tiles/cumulative").iterdir()}
    assert found == set(TILES)
    return root


@pytest.fixture(scope="module")
def night_after(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tiles, each through one night more, with other redshifts."""
    root = Path(shutil.copytree(tree, tmp_path_factory.mktemp("after") / "tree"))
    tiles_file = root / "spectro/redux/sample/tiles-sample.fits"
    with fitsio.FITS(str(tiles_file), "rw") as file:
        table = file[1].read()
        table["LASTNIGHT"] += 1
        file[1].write(table)
    for folder in sorted((root / "spectro/redux/sample/tiles/cumulative").glob("*/*")):
        old, new = folder.name, str(int(folder.name) + 1)
        later = folder.rename(folder.with_name(new))
        for path in sorted(later.iterdir()):
            renamed = path.rename(path.with_name(path.name.replace(old, new)))
            with fitsio.FITS(str(renamed), "rw") as file:
                table = file[1].read()
                table["Z"] += 0.25
                file[1].write(table)
    return root


@pytest.fixture(scope="module")
def undisturbed(
    tree: Path, night_after: Path, tmp_path_factory: pytest.TempPathFactory, server: Any
) -> dict[tuple[str, str], Any]:
    """Content after one load of all tiles, and after an update of all, by kind of database."""
    targets = {
        "postgresql": server.create_database("tiles_undisturbed"),
        "sqlite": str(tmp_path_factory.mktemp("undisturbed") / "specprod.db"),
    }
    found = {}
    place = tmp_path_factory.mktemp("place")
    for name, target in targets.items():
        assert load(named(place, tree), target, *TILES) == 0
        found[name, "load"] = content(target)
        assert load(named(place, night_after), target, *TILES, "--update") == 0
        found[name, "update"] = content(target)
        assert found[name, "load"]["ztile"] != found[name, "update"]["ztile"]
        assert found[name, "load"]["target"] == found[name, "update"]["target"]
    return found


def test_any_order_equals_all_at_once(
    tree: Path, database_target: str, undisturbed: dict[tuple[str, str], Any]
) -> None:
    expected = undisturbed[kind(database_target), "load"]
    production = ProductionTree(tree, load_configuration(environ={}).production("sample"))
    assert load(tree, database_target, 602) == 0
    with connect(database_target) as database:
        for number, order in enumerate(itertools.permutations(TILES)):
            empty_again(database_target)
            # One by one, as nights would have it; or two by two, or all in one call.
            size = (1, 2, 4)[number % 3]
            for start in range(0, 4, size):
                done = list(load_tiles(database, production, order[start : start + size]))
                assert [item.state for item in done] == ["loaded"] * size
            assert content(database_target) == expected, order
            if number % 12 == 0:
                assert {item.state for item in load_tiles(database, production, order, update=True)} == {"updated"}
                assert content(database_target) == expected
    with opened(database_target) as connection:
        query = "SELECT count(*) FROM (SELECT targetid FROM target GROUP BY targetid HAVING count(*) > 1) AS s"
        (shared,) = connection.execute(query).fetchone()
    assert shared > 20
    assert load(tree, database_target, *TILES) == 0
    assert content(database_target) == expected


def storm(root: Path, target: str, more: list[str], expected: Any, reset: Callable[[], None], seed: int) -> None:
    """Kill a command at random moments, and give it again, until it ends; then the database is as it should be."""
    words = ["tile", str(root), *map(str, TILES), "--specprod", "sample", "--database", target, "-q", *more]
    command = [sys.executable, "-m", "specprod.cli.main", *words]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    begin = time.monotonic()
    assert start().wait() == 0
    whole = time.monotonic() - begin
    moments = random.Random(seed)
    reset()
    deadline = time.monotonic() + SECONDS
    kills = completed = 0
    while kills < KILLS or time.monotonic() < deadline:
        process, begin = start(), time.monotonic()
        try:
            # The first half is the start of Python.
            process.wait(timeout=moments.uniform(0.45, 1.0) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, process.communicate()[1]
        assert content(target) == expected
        completed += 1
        # The machine may have been busy when the first load was timed: later ones must not all end before the kill.
        whole = min(whole, time.monotonic() - begin)
        reset()
    last = subprocess.run(command, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert content(target) == expected
    print(f"{kind(target)}: survived {kills} kills; {completed + 2} loads ran to their end between them")


def test_killed_loads(tree: Path, database_target: str, undisturbed: dict[tuple[str, str], Any]) -> None:
    expected = undisturbed[kind(database_target), "load"]
    storm(tree, database_target, [], expected, lambda: empty_again(database_target), 20210514)


def test_killed_updates(
    tree: Path, night_after: Path, tmp_path: Path, database_target: str, undisturbed: dict[tuple[str, str], Any]
) -> None:
    """The rows of the former night are there until those of the new one are, tile by tile."""

    def reset() -> None:
        assert load(named(tmp_path, tree), database_target, *TILES) == 0
        named(tmp_path, night_after)

    reset()
    expected = undisturbed[kind(database_target), "update"]
    storm(tmp_path / "root", database_target, ["--update"], expected, reset, 20210515)
    # Between two nights each tile is of one of them.
    with opened(database_target) as connection:
        nights = connection.execute("SELECT tileid, count(DISTINCT spgrpval) FROM ztile GROUP BY tileid").fetchall()
    assert np.array(nights)[:, 1].tolist() == [1, 1, 1, 1]
