"""Planted faults: what the record says stands in the files, and nothing else differs between source and destination."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import fitsio
import numpy as np
import pytest

from specprod.errors import ConfigurationError
from specprod.sample import write_sample

KEYS = {"tiles": ("TILEID",), "exposures": ("EXPID",), "frames": ("EXPID", "CAMERA")}
# Values of the source that differ although the destination's are good.
MEASURED_ANEW = {"tiles": {"EFFTIME_ETC"}, "exposures": {"SEEING_ETC", "EFFTIME_ETC", "AIRMASS"}}
MEASURED_ANEW["frames"] = MEASURED_ANEW["exposures"]

Rows = dict[tuple[object, ...], dict[str, object]]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults")
    write_sample(
        root, specprod="daily", tiles=2, targets_per_tile=20, potentials_per_tile=40, compact=True, faults=True
    )
    return root


@pytest.fixture(scope="module")
def faults(tree: Path) -> list[dict[str, object]]:
    return json.loads((tree / "faults.json").read_text())["faults"]


def masked(value: object) -> bool:
    return value == "" or (isinstance(value, float) and math.isnan(value))


def tables(root: Path, specprod: str) -> dict[str, Rows]:
    redux = root / "spectro/redux" / specprod
    with (redux / f"tiles-{specprod}.csv").open() as file:
        found = {"tiles": list(csv.DictReader(file))}
    for name in ("exposures", "frames"):
        data = fitsio.read(str(redux / f"exposures-{specprod}.fits"), ext=name.upper())
        found[name] = [dict(zip(data.dtype.names, row, strict=True)) for row in data.tolist()]
    for row in found["tiles"]:
        for name, text in row.items():
            if name not in ("SURVEY", "PROGRAM", "FAPRGRM", "FAFLAVOR", "OBSSTATUS", "GOALTYPE"):
                row[name] = float(text or "nan")
    return {name: {tuple(row[key] for key in KEYS[name]): row for row in rows} for name, rows in found.items()}


def key(fault: dict) -> tuple[object, ...]:
    return tuple(fault["key"].values())


def test_the_record_says_what_stands_in_the_files(tree: Path, faults: list[dict]) -> None:
    destination = tables(tree, "daily")
    for fault in faults:
        value = destination[fault["table"]][key(fault)][fault["column"]]
        wrong = float(fault["wrong"]) if fault["wrong"] == "inf" else fault["wrong"]
        assert masked(value) if wrong is None else value == wrong, fault
        assert tuple(fault["key"]) == KEYS[fault["table"]]
    places = [(f["table"], key(f), f["column"]) for f in faults]
    assert len(set(places)) == len(places)


def test_right_values_are_those_of_the_source_where_the_rule_says_so(tree: Path, faults: list[dict]) -> None:
    source = tables(tree, "jura")
    checked = 0
    for fault in faults:
        row = source[fault["table"]].get(key(fault))
        if "from the source" in fault["rule"]:
            assert row[fault["column"]] == fault["right"], fault
            checked += 1
        elif "not in the source" in fault["rule"] or "raw data" in fault["rule"]:
            assert row is None, fault
        elif "masked in the source too" in fault["rule"]:
            assert masked(row[fault["column"]]), fault
    assert checked > 50


def test_all_else_agrees(tree: Path, faults: list[dict]) -> None:
    source, destination = tables(tree, "jura"), tables(tree, "daily")
    planted = {(f["table"], key(f), f["column"]) for f in faults}
    for name, rows in source.items():
        assert set(rows) < set(destination[name])
        for place, row in rows.items():
            for column, value in row.items():
                mine = destination[name][place][column]
                if (name, place, column) in planted or column in MEASURED_ANEW[name]:
                    continue
                assert mine == value, (name, place, column)
    # Without the faults the destination has no masked value.
    for name, rows in destination.items():
        for place, row in rows.items():
            for column, value in row.items():
                assert (name, place, column) in planted or not masked(value), (name, place, column)


def test_every_rule_is_broken(faults: list[dict]) -> None:
    columns = {f["column"] for f in faults if f["rule"] == "exposures: masked, from the source"}
    assert len(columns) == 26
    assert {f["key"]["TILEID"] for f in faults if f["rule"].startswith("tiles: EFFTIME_SPEC")} == {1825, 21273}
    assert {f["key"]["TILEID"] for f in faults if "83004" in f["rule"]} == {83004, 83024}
    rules = {f["rule"] for f in faults}
    for words in (
        "frames: masked", "frames again: MJD", "TILERA and TILEDEC both 0", "MJD before 50000", "none of the six",
        "raw data", "stays masked, 0", "TSNR2_ALPHA", "PROGRAM after FAFLAVOR", "SURVEY unknown, cmx", "not finite",
        "back: from tiles to exposures", "back: from exposures to frames", "fully patchable", "partly patchable",
        "not patchable", "unknown, from the source", "GOALTYPE unknown, other",
    ):  # fmt: skip
        assert any(words in rule for rule in rules), words


def test_raw_data_have_the_time(tree: Path, faults: list[dict]) -> None:
    (fault,) = [f for f in faults if "from the raw data" in f["rule"]]
    exposure = tables(tree, "daily")["exposures"][key(fault)]
    number = fault["key"]["EXPID"]
    path = tree / f"spectro/data/{exposure['NIGHT']:08d}/{number:08d}/desi-{number:08d}.fits.fz"
    with fitsio.FITS(str(path)) as file:
        assert file["SPEC"].read_header()["MJD-OBS"] == fault["right"]


def test_tiles_that_can_be_loaded_are_among_them(tree: Path) -> None:
    destination = tables(tree, "daily")
    loadable = {int(path.name[12:18]) for path in tree.rglob("fiberassign-*")}
    assert loadable
    assert {(float(tileid),) for tileid in loadable} <= set(destination["tiles"])
    nights = {row["TILEID"]: row["NIGHT"] for row in destination["exposures"].values()}
    for path in (tree / "spectro/redux/daily/tiles/cumulative").glob("*/*"):
        assert int(path.parent.name) in nights
    table = fitsio.read(str(tree / "spectro/redux/daily/tiles-daily.fits"), ext="TILES")
    assert [(float(tileid),) for tileid in table["TILEID"]] == list(destination["tiles"])


def test_more_tiles_have_more_faults(tmp_path: Path) -> None:
    numbers = {"tiles": 1, "targets_per_tile": 10, "potentials_per_tile": 20, "compact": True, "faults": True}
    counts = []
    for tiles in (1, 300):
        root = tmp_path / str(tiles)
        summary = write_sample(root, fault_tiles=tiles, **numbers)
        counts.append(len(json.loads((root / "faults.json").read_text())["faults"]))
        assert np.ceil(tiles / 128) * 128 == summary.rows["tiles daily"]
    assert counts[1] > counts[0] + 200


def test_tiles_that_only_the_destination_has_are_older_or_younger(tmp_path: Path) -> None:
    """In a block of 128 tiles 16 end before the first night of the source, and 16 begin after its last."""
    small = {"tiles": 1, "targets_per_tile": 10, "potentials_per_tile": 20, "compact": True}
    write_sample(tmp_path, faults=True, fault_tiles=256, **small)
    nights = {}
    for specprod in ("jura", "daily"):
        found: dict[object, list[int]] = {}
        for row in tables(tmp_path, specprod)["exposures"].values():
            found.setdefault(row["TILEID"], []).append(row["NIGHT"])
        nights[specprod] = found
    first = min(min(found) for found in nights["jura"].values())
    last = max(max(found) for found in nights["jura"].values())
    only = [found for tileid, found in nights["daily"].items() if tileid not in nights["jura"] and tileid >= 80000]
    assert sum(max(found) < first for found in only) == 32
    assert sum(min(found) > last for found in only) == 32


def test_the_source_cannot_be_the_production(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="jura"):
        write_sample(tmp_path, specprod="jura", faults=True)
