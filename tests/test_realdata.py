"""Real files of the survey, each into the table that takes it; what is expected is read by astropy or csv."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from sqlalchemy import select

from specprod.database import Database, connect
from specprod.errors import MissingColumnError
from specprod.load import (
    Exposure,
    Fiberassign,
    Frame,
    Photometry,
    Potential,
    Target,
    Tile,
    Zpix,
    Ztile,
    load_file,
    setup_db,
)
from specprod.survey import identifiers
from specprod.util import fiberassignid, no_sky

TARGETID = 39633345008634465


@pytest.fixture
def database(database_target: str) -> Iterator[Database]:
    with connect(database_target, schema="real", create=True) as opened:
        setup_db(database=opened)
        yield opened


def rows(database: Database, table: Any) -> list[Any]:
    with database.session() as session:
        return session.scalars(select(table).order_by(*table.__table__.primary_key.columns)).all()


def same(found: Any, value: Any, places: int = 15) -> bool:
    """Whether a value is that of the file; PostgreSQL writes 32 bits as the shortest text that stands for them."""
    expected = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.float32):
        return bool(np.float32(found) == (value if np.isfinite(value) else np.float32(-9999)))
    if isinstance(found, float):
        number = float(expected)
        return math.isclose(found, number if math.isfinite(number) else -9999.0, rel_tol=10.0**-places)
    return bool(found == (expected.rstrip() if isinstance(expected, str) else expected))


@pytest.mark.parametrize("name", ["tiles-miniprod.fits", "tiles-iron.csv"])
def test_tiles(name: str, realdata: Path, database: Database) -> None:
    path = realdata / "iron" / name
    data = Table.read(path, mask_invalid=False) if path.suffix == ".fits" else Table.read(path, format="ascii.csv")
    assert load_file(path, Tile, "TILE_COMPLETENESS", database=database) == len(data) > 0
    data.sort("TILEID")
    for tile, line in zip(rows(database, Tile), data, strict=True):
        for column in data.colnames:
            # Columns of the CSV file that are REAL in the database keep seven digits.
            assert same(getattr(tile, column.lower()), line[column], 6), column


@pytest.mark.parametrize(
    ("hdu", "table", "some", "number"), [("EXPOSURES", Exposure, "TILERA, TILEDEC", 43), ("FRAMES", Frame, "MJD", 10)]
)
def test_exposures_that_lack_columns(
    hdu: str, table: Any, some: str, number: int, realdata: Path, database: Database
) -> None:
    path = realdata / "iron/exposures-miniprod.fits"
    with pytest.raises(MissingColumnError) as caught:
        load_file(path, table, hdu, database=database)
    message = str(caught.value)
    assert message.startswith(f"{path}, HDU {hdu}: table {table.__tablename__} needs {some}")
    with fits.open(path) as file:
        present = set(file[hdu].columns.names)
    missing = re.search(r"needs (.*), which", message)[1].split(", ")
    assert len(missing) == len(set(missing)) == number
    assert not present & set(missing)
    assert rows(database, table) == []


def test_exposures(realdata: Path, tmp_path: Path, database: Database) -> None:
    """Not a number is `nan` in the text; two columns came later than the file, and are added here."""
    with (realdata / "everest/exposures-everest-refset.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    for number, line in enumerate(lines):
        line |= {"PROGRAM": line["GOALTYPE"], "LRG_EFFTIME_DARK": str(number)}
    path = tmp_path / "exposures.csv"
    with path.open("w") as stream:
        writer = csv.DictWriter(stream, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    with database.begin() as connection:
        if database.kind != "postgresql":
            # The tiles of these exposures are in no file here; PostgreSQL has no references before a full load.
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    assert load_file(path, Exposure, database=database) == len(lines) == 753
    by_number = {int(line["EXPID"]): line for line in lines}
    replaced = 0
    for exposure in rows(database, Exposure):
        line = by_number.pop(exposure.expid)
        for name, text in line.items():
            value = getattr(exposure, name.lower())
            expected = type(value)(text)
            assert same(value, expected, 6), name
            replaced += value == -9999.0 and text == "nan"
        day = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=float(line["MJD"]))
        found = exposure.date_obs if exposure.date_obs.tzinfo else exposure.date_obs.replace(tzinfo=UTC)
        assert abs(found - day) < timedelta(microseconds=100)
    assert not by_number
    assert replaced == sum(text == "nan" for line in lines for text in line.values()) > 0


def test_tractor(realdata: Path, tmp_path: Path, database: Database) -> None:
    """A catalogue of the Legacy Surveys has no TARGETID and no LS_ID, and names some columns in its own way."""
    data = Table.read(realdata / "legacysurvey/tractor-1054p567.fits", hdu=1, mask_invalid=False)
    with pytest.raises(MissingColumnError, match="TARGETID"):
        load_file(realdata / "legacysurvey/tractor-1054p567.fits", Photometry, database=database)
    data["TARGETID"] = [TARGETID]
    path = tmp_path / "tractor.fits"
    data.write(path)
    assert load_file(path, Photometry, 1, database=database) == 1
    (found,) = rows(database, Photometry)
    (line,) = data
    names = {name.upper(): name for name in data.colnames}
    assert (found.targetid, found.ls_id) == (TARGETID, 9011 << 40 | 607466 << 16 | 2657)
    assert (found.brick_objid, found.morphtype) == (line[names["OBJID"]], line[names["TYPE"]].strip())
    for element, model in enumerate(("psf", "rex", "dev", "exp", "ser")):
        assert same(getattr(found, f"dchisq_{model}"), line[names["DCHISQ"]][element])
    checked = 0
    for column in Photometry.__table__.columns:
        if column.name.upper() in names and column.name != "targetid":
            assert same(getattr(found, column.name), line[names[column.name.upper()]]), column.name
            checked += 1
    assert checked > 70


def joined(path: Path) -> dict[str, np.ndarray]:
    """The columns of a redrock file that are one row a target."""
    data: dict[str, np.ndarray] = {}
    with fits.open(path) as file:
        for hdu in ("TSNR2", "FIBERMAP", "REDSHIFTS"):
            data |= {name: np.array(file[hdu].data[name]) for name in file[hdu].columns.names}
    return data


def test_redrock_by_healpix(realdata: Path) -> None:
    data = joined(realdata / "loa/redrock-special-dark-27247.fits")
    with pytest.raises(KeyError, match="HEALPIX"):
        Zpix.convert(data, survey="special", program="dark")
    data["HEALPIX"] = np.array([27247])
    with pytest.raises(KeyError, match="PROGRAM"):
        Zpix.convert(data, survey="special")
    (spectrum,) = Zpix.convert(data, survey="special", program="dark")
    targetid = int(data["TARGETID"][0])
    assert spectrum.id == 3 << 96 | 2 << 64 | targetid
    assert (spectrum.targetid, spectrum.survey, spectrum.program) == (targetid, "special", "dark")
    assert (spectrum.spgrp, spectrum.spgrpval, spectrum.healpix) == ("healpix", 27247, 27247)
    assert [getattr(spectrum, f"coeff_{i}") for i in range(10)] == data["COEFF"][0].tolist()
    for name in ("Z", "ZERR", "ZWARN", "CHI2", "DELTACHI2", "NPIXELS", "MEAN_MJD", "TSNR2_LRG"):
        assert same(getattr(spectrum, name.lower()), data[name][0]), name
    # What only the catalogue of the whole production knows.
    assert (spectrum.zcat_nspec, spectrum.zcat_primary, spectrum.sv1_desi_target) == (0, False, 0)


def test_redrock_by_tile_of_an_old_production(realdata: Path) -> None:
    """The dates of the exposures were not in the fiber map yet; the bits of the targets are of SV1 only."""
    path = realdata / "iron/redrock-4-80613-thru20210324.fits"
    data = joined(path)
    given = {"survey": "sv1", "program": "bright", "tileid": 80613, "night": 20201215}
    data["SPGRPVAL"] = data["LASTNIGHT"] = np.array([20210324])
    with pytest.raises(KeyError) as caught:
        Ztile.convert(data, **given)
    assert "MIN_MJD, MEAN_MJD, MAX_MJD" in str(caught.value)
    with fits.open(path) as file:
        mjd = file["EXP_FIBERMAP"].data["MJD"]
    data |= {f"{name.upper()}_MJD": np.array([getattr(np, name)(mjd)]) for name in ("min", "mean", "max")}
    (spectrum,) = Ztile.convert(data, **given)
    assert spectrum.id == (3 << 27 | 20210324) << 96 | 80613 << 64 | TARGETID
    assert spectrum.targetphotid == 3 << 96 | 80613 << 64 | TARGETID
    assert (spectrum.firstnight, spectrum.tileid, spectrum.spgrp) == (20201215, 80613, "cumulative")
    assert (spectrum.min_mjd, spectrum.max_mjd) == (mjd.min(), mjd.max())
    data |= {"HPXPIXEL": np.array([1]), "PROGRAM": np.array(["bright"])}
    (target,) = Target.convert(data, survey="sv1", tileid=80613)
    assert target.id == spectrum.targetphotid
    bits = [getattr(target, f"{name}_target") for name in ("sv1_desi", "desi", "sv2_desi", "scnd", "cmx")]
    assert bits == [data["SV1_DESI_TARGET"][0], data["DESI_TARGET"][0], 0, 0, 0]
    assert bits[0] != 0


@pytest.mark.parametrize(("name", "table"), [("fiberassign", Fiberassign), ("potential", Potential)])
def test_ids_of_a_tile(name: str, table: Any, realdata: Path) -> None:
    with (realdata / f"iron/tile3867_{name}.csv").open() as stream:
        lines = [tuple(map(int, line)) for line in list(csv.reader(stream))[1:]]
    targetid, location = (np.array([line[i] for line in lines]) for i in (1, 2))
    ids = identifiers.as_integers(fiberassignid(targetid, 3867, location)).tolist()
    assert ids == [place << 96 | tileid << 64 | target for tileid, target, place in lines]
    assert len(set(ids)) == len(lines) == 1000
    assert no_sky({"TARGETID": targetid}).size == 1000
    parts = identifiers.decode_targetid(targetid)
    # The others are secondary targets, whose release is a number of their program.
    releases = parts["release"][parts["release"] >= 1000]
    assert set(releases.tolist()) == {9011}
    assert releases.size > 500
    assert identifiers.encode_targetid(**parts).tolist() == targetid.tolist()
    given = {"TARGETID": targetid, "LOCATION": location, "FIBER": location}
    if table is Potential:
        objects = Potential.convert(given, tileid=3867, row_index=[3, 999])
        assert [item.id for item in objects] == [ids[3], ids[999]]
    else:
        with pytest.raises(KeyError, match="FIBERSTATUS"):
            Fiberassign.convert(given, tileid=3867)
