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

from specprod import connect
from specprod.cli.main import main
from specprod.model import Exposure, Tile

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


def test_patched_files_are_loaded_at_once(tmp_path: Path, database_target: str) -> None:
    root, output = tmp_path / "tree", tmp_path / "patched"
    size = ("--tiles", "2", "--assigned", "6", "--potential", "12")
    assert main(["sample", str(root), "--specprod", "daily", "--faults", "--fault-tiles", "5", *size]) == 0
    redux = root / "spectro/redux/daily"
    tileids = sorted(int(path.name) for path in (redux / "tiles/cumulative").iterdir())
    # One of the tiles with spectra has a fault as well, with which it would not load.
    tiles = table(redux / "tiles-daily.csv")
    tiles["SURVEY"][tiles["TILEID"] == tileids[0]] = "unknown"
    tiles.write(redux / "tiles-daily.csv", format="ascii.csv", overwrite=True)
    assert main(["patch", str(root), str(output), "--spectro-data", str(root / "spectro/data")]) == 0
    before, after = pairs(root, output)["tiles"]
    assert str(before["SURVEY"][before["TILEID"] == tileids[0]][0]) == "unknown"
    words = [*map(str, tileids), "--specprod", "daily", "--schema", "daily", "--database", database_target]
    (exposures,) = output.glob("exposures-daily-patched-with-jura-*.fits")
    (tiles_file,) = output.glob("tiles-daily-patched-with-jura-*.csv")
    files = ["--tiles-file", str(tiles_file), "--exposures-file", str(exposures)]
    assert main(["tile", str(root), *words, *files]) == 0
    with connect(database_target, schema="daily") as database, database.session() as session:
        found = session.query(Tile.tileid, Tile.survey, Tile.exptime).order_by(Tile.tileid).all()
        expids = dict(session.query(Exposure.expid, Exposure.mjd).tuples())
    mine = after[np.isin(after["TILEID"], tileids)]
    mine.sort("TILEID")
    assert [tuple(item) for item in found] == list(zip(mine["TILEID"], mine["SURVEY"], mine["EXPTIME"], strict=True))
    assert found[0].survey == "cmx"
    rows = table(exposures, "EXPOSURES")
    rows = rows[np.isin(rows["TILEID"], tileids) & (rows["EFFTIME_SPEC"] > 0)]
    assert expids == dict(zip(rows["EXPID"].tolist(), rows["MJD"].tolist(), strict=True))
