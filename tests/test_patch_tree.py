"""The repair of summary files over a whole tree with planted faults: each is mended, and nothing else is touched."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from sqlalchemy import REAL

from specprod import connect
from specprod.cli.main import main
from specprod.model import Exposure, Frame, Tile

pytestmark = pytest.mark.compat

KEYS = {"tiles": ("TILEID",), "exposures": ("EXPID",), "frames": ("EXPID", "CAMERA")}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults") / "tree"
    assert main(["sample", str(root), "--faults", "--fault-tiles", "40"]) == 0
    return root


@pytest.fixture(scope="module")
def patched(faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("patched")
    words = [sys.executable, "-m", "specprod.cli.main", "patch", str(faulty), str(output)]
    raw = {"DESI_SPECTRO_DATA": str(faulty / "spectro/data")}
    subprocess.run([*words, "--source", "jura", "--destination", "daily"], check=True, env=os.environ | raw)
    return output


def table(path: Path, hdu: str | None = None) -> Table:
    if hdu is None:
        return Table.read(path, format="ascii.csv", guess=False)
    return Table.read(path, hdu=hdu)


def pairs(root: Path, output: Path) -> dict[str, tuple[Table, Table]]:
    """Tables before and after, by name."""
    redux = root / "spectro/redux/daily"
    (tiles,) = output.glob("tiles-daily-patched-with-jura-*.csv")
    (exposures,) = output.glob("exposures-daily-patched-with-jura-*.fits")
    return {
        "tiles": (table(redux / "tiles-daily.csv"), table(tiles)),
        "exposures": tuple(table(path, "EXPOSURES") for path in (redux / "exposures-daily.fits", exposures)),
        "frames": tuple(table(path, "FRAMES") for path in (redux / "exposures-daily.fits", exposures)),
    }


def plain(value: Any) -> Any:
    """A value as JSON has it: None for what is missing."""
    if value is np.ma.masked:
        return None
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, float) and math.isnan(value):
        return None
    return (value.strip() or None) if isinstance(value, str) else value


def test_every_fault_is_mended_and_nothing_else_is_touched(faulty: Path, patched: Path) -> None:
    faults = json.loads((faulty / "faults.json").read_text())["faults"]
    assert len(faults) > 400
    planted: dict[str, dict[tuple[Any, ...], Any]] = {name: {} for name in KEYS}
    for fault in faults:
        key = tuple(fault["key"][name] for name in KEYS[fault["table"]])
        planted[fault["table"]][key, fault["column"]] = fault["right"]
    for name, (before, after) in pairs(faulty, patched).items():
        assert len(before) == len(after)
        keys = [tuple(plain(row[column]) for column in KEYS[name]) for row in before]
        assert [tuple(plain(row[column]) for column in KEYS[name]) for row in after] == keys
        mended = 0
        for column in before.colnames:
            for key, old, new in zip(keys, before[column], after[column], strict=True):
                expected = planted[name].get((key, column), plain(old))
                mended += (key, column) in planted[name]
                assert plain(new) == expected, (name, key, column)
        assert mended == len(planted[name])


def test_shape_of_the_files_is_that_of_the_input(faulty: Path, patched: Path) -> None:
    (path,) = patched.glob("exposures-daily-patched-with-jura-*.fits")
    with fits.open(faulty / "spectro/redux/daily/exposures-daily.fits") as old, fits.open(path) as new:
        assert [hdu.name for hdu in old] == [hdu.name for hdu in new]
        for name in ("EXPOSURES", "FRAMES"):
            assert old[name].columns.names == new[name].columns.names
            assert old[name].columns.units == new[name].columns.units
    (original,) = patched.glob("exposures-daily-original-*.fits")
    assert original.read_bytes() == (faulty / "spectro/redux/daily/exposures-daily.fits").read_bytes()


def test_nothing_is_overwritten(faulty: Path, patched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in patched.iterdir()}
    assert main(["patch", str(faulty), str(patched), "--source", "jura", "--destination", "daily"]) != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert {path.name: path.read_bytes() for path in patched.iterdir()} == before


def spoil(root: Path) -> tuple[int, float]:
    """Plant faults in what daily has of the two tiles with spectra; return an exposure of the second, and its MJD."""
    redux = root / "spectro/redux/daily"
    first, second = loadable(root)
    tiles = table(redux / "tiles-daily.csv")
    tiles["SURVEY"][tiles["TILEID"] == first] = "unknown"
    tiles["PROGRAM"] = tiles["PROGRAM"].astype(object)
    tiles["PROGRAM"][tiles["TILEID"] == second] = "none"
    tiles.write(redux / "tiles-daily.csv", format="ascii.csv", overwrite=True)
    with fits.open(redux / "exposures-daily.fits", mode="update") as hdus:
        exposures, frames = hdus["EXPOSURES"].data, hdus["FRAMES"].data
        exposures["PROGRAM"][exposures["TILEID"] == second] = "none"
        exposures["SEEING_GFA"][exposures["TILEID"] == first] = np.nan
        row = np.flatnonzero((exposures["TILEID"] == second) & (exposures["EFFTIME_SPEC"] > 0))[0]
        night, expid, mjd = (exposures[name][row].item() for name in ("NIGHT", "EXPID", "MJD"))
        exposures["MJD"][row] = np.nan
        frames["MJD"][frames["EXPID"] == expid] = 0.0
    raw = root / f"spectro/data/{night}/{expid:08}/desi-{expid:08}.fits.fz"
    raw.parent.mkdir(parents=True)
    header = fits.Header({"MJD-OBS": mjd, "NIGHT": night, "EXPID": expid})
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((8, 8), np.int16), header, "SPEC")]).writeto(raw)
    return expid, mjd


def loadable(root: Path) -> list[int]:
    return sorted(int(path.name) for path in (root / "spectro/redux/daily/tiles/cumulative").iterdir())


def assert_loaded(loaded: list[Any], expected: Table, key: str) -> None:
    """Compare objects with rows of a file in all columns that both have."""
    rows = {row[key.upper()]: row for row in expected}
    assert sorted(getattr(item, key) for item in loaded) == sorted(rows)
    columns = [column for column in type(loaded[0]).__table__.columns if column.name.upper() in expected.colnames]
    assert len(columns) > 12
    for item in loaded:
        for column in columns:
            values = [getattr(item, column.name), plain(rows[getattr(item, key)][column.name.upper()])]
            if isinstance(column.type, REAL):
                # Of a number of single precision, drivers give the shortest decimal, or all of its digits.
                values = [np.float32(value) for value in values]
            assert values[0] == values[1], (column, getattr(item, key))


def test_patched_files_are_loaded_at_once(
    tmp_path: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root, output = tmp_path / "tree", tmp_path / "patched"
    size = ("--tiles", "2", "--assigned", "6", "--potential", "12")
    assert main(["sample", str(root), "--specprod", "daily", "--faults", "--fault-tiles", "5", *size]) == 0
    first, second = loadable(root)
    expid, mjd = spoil(root)
    redux = root / "spectro/redux/daily"
    words = ["--specprod", "daily", "--schema", "daily", "--database", database_target]

    def load(tiles: Path, exposures: Path) -> int:
        files = ["--tiles-file", str(tiles), "--exposures-file", str(exposures)]
        return main(["tile", str(root), str(first), str(second), *words, *files])

    capsys.readouterr()
    assert load(redux / "tiles-daily.csv", redux / "exposures-daily.fits") == 1
    # As they are, the files do not load.
    refused = capsys.readouterr().err
    assert f"tile {first}, column SURVEY, row 0: unknown name" in refused
    assert f"tile {second}, column PROGRAM, row 0: unknown name" in refused
    # Both tiles are older than the source, before whose first night no raw data would be looked up.
    raw = ["--spectro-data", str(root / "spectro/data"), "--first-night", "20210501"]
    assert main(["patch", str(root), str(output), *raw]) == 0
    (tiles,) = output.glob("tiles-daily-patched-with-jura-*.csv")
    (exposures,) = output.glob("exposures-daily-patched-with-jura-*.fits")
    assert load(tiles, exposures) == 0

    rows = {name: after for name, (_, after) in pairs(root, output).items()}
    observed = rows["exposures"][
        np.isin(rows["exposures"]["TILEID"], [first, second]) & (rows["exposures"]["EFFTIME_SPEC"] > 0)
    ]
    frames = rows["frames"][np.isin(rows["frames"]["EXPID"], observed["EXPID"])]
    with connect(database_target, schema="daily") as database, database.session() as session:
        found = {cls: session.query(cls).all() for cls in (Tile, Exposure, Frame)}
    assert_loaded(found[Tile], rows["tiles"][np.isin(rows["tiles"]["TILEID"], [first, second])], "tileid")
    assert_loaded(found[Exposure], observed, "expid")
    frames["KEY"] = [f"{row['EXPID']} {row['CAMERA']}" for row in frames]
    for item in found[Frame]:
        item.key = f"{item.expid} {item.camera}"
    assert_loaded(found[Frame], frames, "key")
    # What was spoilt is right.
    assert {item.tileid: (item.survey, item.program) for item in found[Tile]} == {
        first: ("cmx", "dark"),
        second: ("main", "bright"),
    }
    assert {(item.tileid, item.survey, item.program) for item in found[Exposure]} == {
        (first, "cmx", "dark"),
        (second, "main", "bright"),
    }
    assert {item.seeing_gfa for item in found[Exposure] if item.tileid == first} == {0.0}
    assert [item.mjd for item in found[Exposure] if item.expid == expid] == [mjd]
    assert {item.mjd for item in found[Frame] if item.expid == expid} == {mjd}
