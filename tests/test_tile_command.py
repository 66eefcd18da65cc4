"""``specprod-load tile`` as people use it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.table import Table

from specprod.cli.main import main
from specprod.sample import write_sample
from support.tiles import load, rows


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("command") / "tree"
    write_sample(root, tiles=2, targets_per_tile=30, potentials_per_tile=60, seed=3, tile_inputs=True, compact=True)
    return root


def tileids(root: Path) -> list[int]:
    return sorted(int(path.name) for path in root.glob("spectro/redux/*/tiles/cumulative/*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give TILEIDs, or --changed"),
        (["1200", "--changed"], "give TILEIDs, or --changed"),
        (["1200", "--cluster"], "--cluster goes with --primary"),
        (["none"], "'none' is not a valid integer"),
        (["0"], "0 is not in the range"),
        (["1200", "--source", "elsewhere"], "'elsewhere' is not one of"),
        (["1200", "--overwrite"], "without a terminal to ask on, confirm it with --yes"),
    ],
)
def test_usage(
    tree: Path, sqlite_file: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tile", str(tree), *words, "--specprod", "sample", "--database", str(sqlite_file)]) == 2
    assert message in capsys.readouterr().err
    assert not sqlite_file.exists()


def test_help_has_an_example() -> None:
    for name in ("tile", "primary"):
        done = subprocess.run(
            [sys.executable, "-m", "specprod.cli.main", name, "--help"], capture_output=True, text=True, check=True
        )
        assert f"specprod-load {name}" in done.stdout.split("Options")[1]


def test_summary_for_people(tree: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tileids(tree)
    words = ["--specprod", "sample", "--database", str(sqlite_file)]
    assert main(["tile", str(tree), str(first), *words]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"tile {first}: loaded\n")
    assert "inserted  updated  removed  unchanged" in printed
    assert main(["tile", str(tree), str(first), str(second), *words, "--primary"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:4]] == [[str(first), "loaded"], [str(second), "loaded"]]
    assert any(line.startswith("primary spectra of ztile: ") for line in lines)


def test_other_tiles_and_exposures_files(
    tree: Path, tmp_path: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "tree"))
    (tileid, _) = tileids(root)
    redux = root / "spectro/redux/sample"
    tiles = Table.read(redux / "tiles-sample.fits", hdu=1)
    tiles["OBSSTATUS"] = "patched"
    tiles.write(tmp_path / "tiles.csv")
    shutil.move(redux / "exposures-sample.fits", tmp_path / "exposures.fits")
    for path in redux.glob("tiles-sample.*"):
        path.unlink()
    assert load(root, database_target, tileid) == 1
    assert "tiles-sample.fits: no such file" in capsys.readouterr().err
    files = ("--tiles-file", tmp_path / "tiles.csv", "--exposures-file", tmp_path / "exposures.fits")
    assert load(root, database_target, tileid, *files) == 0
    assert rows(database_target, "tile", "tileid, obsstatus") == [(tileid, "patched")]
    assert len(rows(database_target, "exposure")) > 0


def test_changed_takes_what_is_new_and_what_differs(
    tree: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tileids(tree)
    assert load(tree, database_target, first) == 0
    capsys.readouterr()
    assert load(tree, database_target, "--changed") == 0
    assert [item["tileid"] for item in json.loads(capsys.readouterr().out)["tiles"]] == [second]
    tiles = Table.read(tree / "spectro/redux/sample/tiles-sample.fits", hdu=1)
    tiles["EXPTIME"][tiles["TILEID"] == first] += 1
    tiles.write(tmp_path / "tiles.fits")
    assert load(tree, database_target, "--changed", "--tiles-file", tmp_path / "tiles.fits", "--update") == 0
    (item,) = json.loads(capsys.readouterr().out)["tiles"]
    assert (item["tileid"], item["state"]) == (first, "updated")
    assert item["tables"]["tile"] == {"inserted": 0, "updated": 1, "removed": 0, "unchanged": 0}
    assert load(tree, database_target, "--changed", "--tiles-file", tmp_path / "tiles.fits") == 0
    assert json.loads(capsys.readouterr().out)["tiles"] == []


def test_overwrite(tree: Path, database_target: str) -> None:
    first, second = tileids(tree)
    assert load(tree, database_target, first) == 0
    assert load(tree, database_target, second, "--overwrite", "--yes") == 0
    assert [row[0] for row in rows(database_target, "tile", "tileid")] == [second]


def test_tiles_that_cannot_be_loaded_are_named(
    tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiles = Table.read(tree / "spectro/redux/sample/tiles-sample.fits", hdu=1)
    (unobserved,) = set(tiles["TILEID"].tolist()) - set(tileids(tree))
    assert load(tree, database_target, 99, unobserved, tileids(tree)[0]) == 1
    printed = capsys.readouterr()
    assert [item["state"] for item in json.loads(printed.out)["tiles"]].count("failed") == 2
    assert "has 0 rows of tile 99, expected 1" in printed.err
    assert f"tile {unobserved} has no exposure with EFFTIME_SPEC > 0" in printed.err
    assert [row[0] for row in rows(database_target, "tile", "tileid")] == [tileids(tree)[0]]


def test_daily(tmp_path: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The running survey has catalogues only, and fiberassign files that are still at work."""
    root = tmp_path / "daily"
    write_sample(root, specprod="daily", tiles=2, targets_per_tile=30, potentials_per_tile=60, seed=4, compact=True)
    words = ["tile", str(root), "--changed", "--update", "--primary", "--specprod", "daily"]
    assert main([*words, "--database", str(sqlite_file), "-q", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert sorted(item["tileid"] for item in report["tiles"]) == tileids(root)
    assert {item["state"] for item in report["tiles"]} == {"loaded"}
    assert report["primary"]["ztile"] == report["tables"]["ztile"]["inserted"] > 0
