"""Every value of every table against the files, read by astropy and turned into values by rules written here."""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from astropy.table import Table, vstack
from astropy.time import Time

from specprod.cli.main import main
from support.server import Server

pytestmark = pytest.mark.compat

SURVEYS = {"cmx": 1, "special": 2, "sv1": 3, "sv2": 4, "sv3": 5, "main": 6}
PROGRAMS = {"backup": 1, "bright": 2, "dark": 3, "other": 4, "dark1b": 5, "bright1b": 6}
BITS = [f"{s}{b}_target" for s in ("", "sv1_", "sv2_", "sv3_") for b in ("desi", "bgs", "mws", "scnd")]
KEYS = {"tile": "tileid", "exposure": "expid", "frame": "frameid", "photometry": "targetid"}
OTHER_NAMES = {"brick_objid": "OBJID", "morphtype": "TYPE"}

Row = dict[str, Any]


def target_key(row: Row) -> int:
    return SURVEYS[row["survey"]] << 96 | row["tileid"] << 64 | row["targetid"]


def ztile_key(row: Row) -> int:
    return (3 << 27 | row["spgrpval"]) << 96 | row["tileid"] << 64 | row["targetid"]


def zpix_key(row: Row) -> int:
    return PROGRAMS[row["program"]] << 96 | SURVEYS[row["survey"]] << 64 | row["targetid"]


def location_key(row: Row) -> int:
    return row["location"] << 96 | row["tileid"] << 64 | row["targetid"]


def frame_key(row: Row) -> int:
    return 100 * row["expid"] + 10 * "brz".index(row["camera"][0]) + int(row["camera"][1])


DERIVED: dict[tuple[str, str], Callable[[Row], Any]] = {
    ("frame", "frameid"): frame_key,
    ("target", "id"): target_key,
    ("ztile", "id"): ztile_key,
    ("ztile", "targetphotid"): target_key,
    ("ztile", "spgrp"): lambda _: "cumulative",
    ("zpix", "id"): zpix_key,
    ("zpix", "spgrp"): lambda _: "healpix",
    ("zpix", "spgrpval"): lambda row: row["healpix"],
    ("fiberassign", "id"): location_key,
    ("potential", "id"): location_key,
    ("exposure", "date_obs"): lambda row: Time(row["mjd"], format="mjd", scale="utc").to_datetime(UTC),
}


def plain(value: Any, single: bool) -> Any:
    """What a value of a file becomes: text without blanks, -9999 for what is not finite, 32 bits if `single`."""
    if value is np.ma.masked:
        return ""
    if isinstance(value, bytes | str):
        return (value.decode() if isinstance(value, bytes) else str(value)).rstrip()
    if isinstance(value, np.bool_ | bool):
        return bool(value)
    if isinstance(value, np.floating):
        number = float(np.float32(value)) if single else float(value)
        return number if math.isfinite(number) else -9999.0
    return int(value)


def converted(table: str, data: Table, columns: dict[str, str], given: Row) -> Iterator[Row]:
    names = {name.upper(): name for name in data.colnames}
    for source in data:
        row: Row = dict(given)
        for column, kind in columns.items():
            if column in row or (table, column) in DERIVED:
                continue
            name, element = column.upper(), None
            if column.startswith("coeff_"):
                name, element = "COEFF", int(column[-1])
            elif column.startswith("dchisq_"):
                name, element = "DCHISQ", ("psf", "rex", "dev", "exp", "ser").index(column[-3:])
            elif name not in names and column in OTHER_NAMES:
                name = OTHER_NAMES[column]
            if name not in names and column == "ls_id":
                row[column] = int(source["RELEASE"]) << 40 | int(source["BRICKID"]) << 16 | row_objid(source, names)
            elif name not in names and (column in BITS or column == "cmx_target" or column.endswith("_nspec")):
                row[column] = 0
            elif name not in names and column.endswith("_primary"):
                row[column] = False
            else:
                value = source[names[name]] if element is None else source[names[name]][element]
                row[column] = plain(value, kind == "real")
        for column in columns:
            if (table, column) in DERIVED:
                row[column] = DERIVED[table, column](row)
        yield row


def row_objid(source: Any, names: dict[str, str]) -> int:
    return int(source["BRICK_OBJID"] if "BRICK_OBJID" in names else source["OBJID"])


def science(data: Table) -> Table:
    targetid = np.asarray(data["TARGETID"])
    return data[(targetid > 0) & ((targetid >> 59) & 1 == 0)]


def expected(root: Path, columns: dict[str, dict[str, str]]) -> dict[str, dict[int, Row]]:
    redux, phot = root / "spectro/redux/sample", root / "vac/sample/lsdr9-photometry/sample/v1.0/potential-targets"
    result: dict[str, list[Row]] = {name: [] for name in columns}

    def add(table: str, data: Table, **given: Any) -> None:
        result[table] += converted(table, data, columns[table], given)

    add("tile", Table.read(redux / "tiles-sample.fits", hdu="TILE_COMPLETENESS", mask_invalid=False))
    add("exposure", Table.read(redux / "exposures-sample.fits", hdu="EXPOSURES", mask_invalid=False))
    add("frame", Table.read(redux / "exposures-sample.fits", hdu="FRAMES", mask_invalid=False))
    for path in sorted((phot / "tractorphot").glob("*.fits")):
        add("photometry", Table.read(path, hdu="TRACTORPHOT", mask_invalid=False))
    seen = {row["targetid"] for row in result["photometry"]}
    for path in sorted(phot.glob("targetphot-*.fits")):
        data = Table.read(path, hdu="TARGETPHOT", mask_invalid=False)
        add("target", data)
        new = []
        for i, targetid in enumerate(data["TARGETID"].tolist()):
            if targetid not in seen:
                seen.add(targetid)
                new.append(i)
        add("photometry", data[new])
    add(
        "ztile",
        science(Table.read(redux / "zcatalog/zall-tilecumulative-sample.fits", hdu="ZCATALOG", mask_invalid=False)),
    )
    add("zpix", science(Table.read(redux / "zcatalog/zall-pix-sample.fits", hdu="ZCATALOG", mask_invalid=False)))
    for path in sorted((root / "target/fiberassign/tiles/tags/1.0").glob("*/fiberassign-*")):
        tileid = int(path.name.removeprefix("fiberassign-")[:6])
        for table, hdu in (("fiberassign", "FIBERASSIGN"), ("potential", "POTENTIAL_ASSIGNMENTS")):
            add(table, science(Table.read(path, hdu=hdu, mask_invalid=False)), tileid=tileid)
    return {name: {row[KEYS.get(name, "id")]: row for row in rows} for name, rows in result.items()}


@pytest.fixture(scope="module")
def loaded(sample_root: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    url = server.create_database(f"values_{os.getpid()}")
    path = str(tmp_path_factory.mktemp("values") / "specprod.db")
    for target in (url, path):
        assert main(["run", str(sample_root), "--specprod", "sample", "--database", target, "--quiet"]) == 0
    return url, path


@pytest.fixture(scope="module")
def columns(loaded: tuple[str, str]) -> dict[str, dict[str, str]]:
    """Names and types of the columns of the tables, as PostgreSQL tells them."""
    found: dict[str, dict[str, str]] = {}
    with psycopg.connect(loaded[0]) as connection:
        for table, column, kind in connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'sample' "
            "AND table_name NOT LIKE 'pipeline%%' AND table_name NOT LIKE 'task%%' AND table_name <> 'version'"
        ):
            found.setdefault(table, {})[column] = kind
    return found


def rows_of_postgresql(url: str, table: str) -> list[Row]:
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        # Binary, as text of a 32-bit number is its shortest, which read as 64 bits is another number.
        rows = connection.execute(f'SELECT * FROM sample."{table}"', binary=True).fetchall()
    for row in rows:
        for name in ("id", "targetphotid"):
            if name in row:
                row[name] = int(row[name])
    return rows


def rows_of_sqlite(path: str, table: str) -> list[Row]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    rows = [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')]
    connection.close()
    for row in rows:
        for name in ("id", "targetphotid"):
            if name in row and table != "version":
                assert len(row[name]) == 39
                row[name] = int(row[name])
        if "date_obs" in row:
            row["date_obs"] = datetime.fromisoformat(row["date_obs"]).replace(tzinfo=UTC)
    return rows


def test_every_value(sample_root: Path, loaded: tuple[str, str], columns: dict[str, dict[str, str]]) -> None:
    wanted = expected(sample_root, columns)
    assert set(wanted) == {
        "tile", "exposure", "frame", "photometry", "target", "ztile", "zpix", "fiberassign", "potential",
    }  # fmt: skip
    nonfinite = 0
    for table, rows in wanted.items():
        for read, target in ((rows_of_postgresql, loaded[0]), (rows_of_sqlite, loaded[1])):
            found = read(target, table)
            assert len(found) == len(rows) > 0, table
            for row in found:
                other = rows[row[KEYS.get(table, "id")]]
                for name, value in row.items():
                    if name == "date_obs":
                        assert abs(value - other[name]) <= timedelta(microseconds=1)
                        continue
                    assert value == other[name], (table, target, name)
                    nonfinite += value == -9999.0
    assert nonfinite > 10


def test_there_is_something_to_leave_out(sample_root: Path) -> None:
    data = Table.read(
        sample_root / "spectro/redux/sample/zcatalog/zall-pix-sample.fits", hdu="ZCATALOG", mask_invalid=False
    )
    assert 0 < len(science(data)) < len(data)
    phot = sample_root / "vac/sample/lsdr9-photometry/sample/v1.0/potential-targets"
    targetid = np.concatenate(
        [Table.read(p, hdu="TARGETPHOT", mask_invalid=False)["TARGETID"] for p in phot.glob("targetphot-*.fits")]
    )
    assert np.unique(targetid).size < targetid.size


def test_ids_sort_as_numbers(loaded: tuple[str, str]) -> None:
    with psycopg.connect(loaded[0]) as connection:
        first = [int(i) for (i,) in connection.execute("SELECT id FROM sample.ztile ORDER BY id")]
    second = [int(i) for (i,) in sqlite3.connect(loaded[1]).execute("SELECT id FROM ztile ORDER BY id")]
    assert first == second == sorted(first)


def test_versions(loaded: tuple[str, str]) -> None:
    import astropy
    import sqlalchemy

    for read, target in ((rows_of_postgresql, loaded[0]), (rows_of_sqlite, loaded[1])):
        versions = {row["package"]: row["version"] for row in read(target, "version")}
        assert versions["astropy"] == astropy.__version__
        assert versions["numpy"] == np.__version__
        assert versions["sqlalchemy"] == sqlalchemy.__version__
        assert versions["specprod"] == versions["release"] == "sample"
        assert (versions["lsd9-photometry"], versions["redshift"], versions["tiles"]) == ("v1.0", "base", "1.0")


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_split_files_and_primary_spectra(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Files by survey and program; which spectra are primary is computed here once more, spectrum by spectrum."""
    from specprod.sample import write_sample

    target = str(request.getfixturevalue("postgres_url" if kind == "postgresql" else "sqlite_file"))
    root = tmp_path / "split"
    write_sample(root, tiles=6, targets_per_tile=60, potentials_per_tile=100, split=True, seed=3)
    assert main(["run", str(root), "--specprod", "sample", "--database", target, "--quiet"]) == 0
    catalogs = root / "spectro/redux/sample/zcatalog"
    read = rows_of_postgresql if kind == "postgresql" else rows_of_sqlite
    for table, pattern in (("zpix", "zpix-*.fits"), ("ztile", "ztile-*-cumulative.fits")):
        data = vstack(
            [
                science(Table.read(p, hdu="ZCATALOG", mask_invalid=False))["TARGETID", "Z"]
                for p in catalogs.glob(pattern)
            ],
            metadata_conflicts="silent",
        )
        rows = read(target, table)
        assert sorted(row["targetid"] for row in rows) == sorted(np.asarray(data["TARGETID"]).tolist())
        groups = {"zcat": set(SURVEYS), "sv": {"sv1", "sv2", "sv3"}, "main": {"main"}}
        several = 0
        for prefix, surveys in groups.items():
            members: dict[int, list[Row]] = {}
            for row in rows:
                if row["survey"] in surveys:
                    members.setdefault(row["targetid"], []).append(row)
                else:
                    assert (row[f"{prefix}_nspec"], bool(row[f"{prefix}_primary"])) == (0, False)
            for items in members.values():
                several += len(items) > 1
                best = min(items, key=lambda row: (row["zwarn"] != 0, -row["tsnr2_lrg"], row["id"]))
                for row in items:
                    assert row[f"{prefix}_nspec"] == len(items)
                    assert bool(row[f"{prefix}_primary"]) == (row is best)
        assert several > 0, table
