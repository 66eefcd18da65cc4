"""Four overlapping tiles in any order, and loads that are killed at random moments: the database is always the same."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest

from specprod.configuration import load_configuration
from specprod.files.tree import ProductionTree
from specprod.sample import write_sample
from specprod.tile import load_tiles
from support.storms import storm
from support.tiles import TILES, connect, content, empty_again, load, named, opened


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


def words(root: Path, target: str) -> list[str]:
    return ["tile", str(root), *map(str, TILES), "--specprod", "sample", "--database", target, "-q"]


def test_killed_loads(tree: Path, database_target: str, undisturbed: dict[tuple[str, str], Any]) -> None:
    expected = undisturbed[kind(database_target), "load"]
    assert load(tree, database_target, *TILES) == 0
    storm(
        words(tree, database_target),
        lambda: empty_again(database_target),
        lambda: content(database_target),
        expected,
        20210514,
    )


def test_killed_updates(
    tree: Path, night_after: Path, tmp_path: Path, database_target: str, undisturbed: dict[tuple[str, str], Any]
) -> None:
    """The rows of the former night are there until those of the new one are, tile by tile."""

    def reset() -> None:
        assert load(named(tmp_path, tree), database_target, *TILES) == 0
        named(tmp_path, night_after)

    expected = undisturbed[kind(database_target), "update"]
    command = [*words(tmp_path / "root", database_target), "--update"]
    storm(command, reset, lambda: content(database_target), expected, 20210515)
    # Between two nights each tile is of one of them.
    with opened(database_target) as connection:
        nights = connection.execute("SELECT tileid, count(DISTINCT spgrpval) FROM ztile GROUP BY tileid").fetchall()
    assert np.array(nights)[:, 1].tolist() == [1, 1, 1, 1]
