"""What users do with a loaded database: sessions, classes, searches on the sky, statements of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import Angle, Latitude, Longitude, SkyCoord
from sqlalchemy import func, select

from specprod import connect
from specprod.cli.main import main
from specprod.database import Database
from specprod.database.keys import build_indexes
from specprod.errors import ConfigurationError
from specprod.load import Frame, Photometry, Tile, Zpix, Ztile, setup_db, upsert
from support.rows import objects
from support.server import Server

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module", params=["q3c", "no q3c", "sqlite"])
def sky(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database of each kind, with sources all over the sky, at the poles and on the meridian."""
    if request.param == "sqlite":
        target = str(tmp_path_factory.mktemp("sky") / "sky.db")
    else:
        target = server.create_database("sky", q3c=request.param == "q3c")
    with setup_db(database=connect(target, schema="sky", create=True)) as database:
        assert (database.missing_extension() is None) == (request.param != "no q3c")
        fill(database)
        yield database
    server.drop_database("sky")


def fill(database: Database) -> None:
    generator = np.random.default_rng(5)
    ra = np.concatenate([generator.uniform(0, 360, 3000), generator.uniform(-1, 1, 500) % 360])
    dec = np.degrees(np.arcsin(generator.uniform(-1, 1, 3500)))
    dec[:400] = generator.choice([-1, 1], 400) * generator.uniform(88, 90, 400)
    # Some spectra have no position.
    ra[-7:], dec[-7:] = -9999.0, -9999.0
    sources, spectra = [], []
    for number in range(1, ra.size + 1):
        position = (float(ra[number - 1]), float(dec[number - 1]))
        sources.append({"targetid": number, "ra": position[0], "dec": position[1]})
        if number > 100:
            spectra.append({"id": number, "targetid": number, "survey": "main", "program": "dark"})
            spectra[-1] |= {"mean_fiber_ra": position[0], "mean_fiber_dec": position[1]}
    with database.session() as session:
        # 332,500 values: more than a statement takes parameters.
        session.execute(upsert(objects(Photometry, *sources)))
        session.execute(upsert(objects(Zpix, *spectra)))
        session.commit()
    for cls in (Photometry, Zpix, Ztile):
        build_indexes(database, cls)


def separation(ra: float, dec: float, other_ra: float, other_dec: float) -> float:
    """Angle between two directions, by the vectors."""

    def vector(a: float, d: float) -> np.ndarray:
        a, d = math.radians(a), math.radians(d)
        return np.array([math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)])

    one, two = vector(ra, dec), vector(other_ra, other_dec)
    return math.degrees(math.atan2(np.linalg.norm(np.cross(one, two)), one @ two))


POSITIONS = {Photometry: (Photometry.ra, Photometry.dec), Zpix: (Zpix.mean_fiber_ra, Zpix.mean_fiber_dec)}


def found_and_expected(
    sky: Database, cls: Any, circle: tuple[float, float, float], *arguments: Any
) -> tuple[set[int], set[int]]:
    """What a search finds, and what the vectors say."""
    with sky.session() as session:
        everything = session.execute(select(cls.targetid, *POSITIONS[cls])).all()
        found = list(session.scalars(select(cls.targetid).where(sky.within(cls, *(arguments or circle)))))
    ra, dec, radius = circle
    expected = {number for number, a, d in everything if abs(d) <= 90 and separation(ra, dec, a, d) <= radius}
    assert len(found) == len(set(found))
    return set(found), expected


@pytest.mark.parametrize(
    ("ra", "dec", "radius"),
    [
        (180, 0, 5),
        (0.2, 10, 1.5),
        (359.9, -30, 3),
        (40, 89.5, 1),
        (200, -90, 2),
        (77, 60, 30.5),
        (10, 85, 8),
        (300, -20, 89.9),
        (300, -20, 90),
        (120, 45, 137),
        (-9999 % 360, -81, 9),
    ],
)
@pytest.mark.parametrize("cls", [Photometry, Zpix])
def test_within(sky: Database, cls: Any, ra: float, dec: float, radius: float) -> None:
    found, expected = found_and_expected(sky, cls, (ra, dec, radius))
    assert found == expected
    assert found


def test_the_point_itself_and_everything(sky: Database) -> None:
    with sky.session() as session:
        query = select(Photometry.targetid, Photometry.ra, Photometry.dec).order_by(Photometry.targetid)
        points = session.execute(query).all()
        for number, ra, dec in points[:3493:97]:
            for radius in (0, 1e-9, 1e-7):
                near = sky.within(Photometry, ra, dec, radius)
                assert list(session.scalars(select(Photometry.targetid).where(near))) == [number]
        near = sky.within(Photometry, 12, 34, 180)
        assert set(session.scalars(select(Photometry.targetid).where(near))) == set(range(1, 3494))


def test_what_astropy_has_for_positions(sky: Database) -> None:
    """Any unit, any frame, any type of number."""
    circle = (217.5, -33.25, 6.0)
    center = SkyCoord(circle[0], circle[1], unit="deg")
    for arguments in (
        (center, 6),
        (center, Angle("6d")),
        (center.galactic, 360 * units.arcmin),
        (217.5 * units.deg, np.float32(-33.25), np.int64(6)),
        (Angle("14h30m"), Angle("-33d15m"), np.radians(6.0) * units.rad),
        (Longitude(217.5, "deg"), Latitude(-33.25, "deg"), np.array(6.0)),
        (217.5 - 360, -33.25, 6),
    ):
        found, expected = found_and_expected(sky, Photometry, circle, *arguments)
        assert found == expected
    with sky.session() as session:
        near = sky.within(Photometry, center, radius=6)
        assert set(session.scalars(select(Photometry.targetid).where(near))) == expected != set()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((1, 95, 3), "no circle on the sky: ra 1.0, dec 95.0, radius 3.0"),
        ((1, -90.01, 3), "no circle"),
        ((1, 2, -1e-9), "no circle .* radius -1e-09"),
        ((1, 2, 180.1), "no circle"),
        ((math.nan, 2, 3), "no circle"),
        ((1, math.nan, 3), "no circle"),
        ((1, 2, math.nan), "no circle"),
        ((1, 2), "needs radius"),
        ((1,), "needs dec"),
        ((SkyCoord(1, 2, unit="deg"),), "needs radius"),
        ((SkyCoord(1, 2, unit="deg"), 2, 3), "one centre"),
        ((SkyCoord([1, 2], [1, 2], unit="deg"), 3), "found 2 positions"),
        ((1, 2, 3 * units.m), "radius 3.0 m of a circle on the sky is no angle"),
        ((1, 2, "wide"), "radius wide .* is no angle"),
        ((1, 2, np.ma.masked), "needs radius"),
        ((np.array([1, 2]), 2, 3), "ra .* is no angle"),
    ],
)
def test_no_circles(sqlite_file: Path, arguments: tuple[Any, ...], what: str) -> None:
    with connect(sqlite_file, create=True) as database, pytest.raises(ConfigurationError, match=what):
        database.within(Tile, *arguments)


def test_within_needs_positions(sqlite_file: Path) -> None:
    with connect(sqlite_file, create=True) as database, pytest.raises(ConfigurationError, match="no positions"):
        database.within(Frame, 1, 2, 3)


@pytest.mark.parametrize("do_nothing", [False, True])
def test_upsert(sample_root: Path, database_target: str, do_nothing: bool) -> None:
    words = ["run", str(sample_root), "--specprod", "sample", "--database", database_target, "--quiet"]
    assert main([*words, "--stage", "exposures"]) == 0
    with connect(database_target, schema="sample") as database, database.session() as session:
        frames = session.scalars(select(Frame).order_by(Frame.frameid)).all()
        values = [{c.name: getattr(frame, c.name) for c in Frame.__table__.columns} for frame in frames]
        session.rollback()
        many = [Frame(**row | {"ebv": 0.5}) for row in values]
        first = values[0]
        # 16 columns: 65,535 values are passed at 4,096 rows.
        many += [Frame(**first | {"frameid": 10**8 + number}) for number in range(5000)]
        session.execute(upsert(many, do_nothing=do_nothing))
        session.commit()
        assert session.scalar(select(func.count()).select_from(Frame)) == len(values) + 5000
        (ebv,) = session.execute(select(Frame.ebv).where(Frame.frameid == first["frameid"])).one()
        assert ebv == (pytest.approx(first["ebv"]) if do_nothing else 0.5)


def test_upsert_wants_one_class() -> None:
    with pytest.raises(ValueError, match="one class"):
        upsert([])
    with pytest.raises(ValueError, match="one class"):
        upsert([Tile(), Frame()])


def test_two_databases_in_one_process(sample_root: Path, postgres_url: str, sqlite_file: Path) -> None:
    for target, schema in ((postgres_url, "one"), (postgres_url, "two"), (str(sqlite_file), "x")):
        stages = ["--stage", "exposures"] if schema != "two" else []
        words = ["run", str(sample_root), "--specprod", "sample", "--database", target, "--schema", schema, "--quiet"]
        assert main([*words, *stages]) == 0
    with (
        connect(postgres_url, schema="one") as one,
        connect(postgres_url, schema="two") as two,
        connect(sqlite_file) as three,
        one.session() as first,
        two.session() as second,
        three.session() as third,
    ):
        counts = [session.scalar(select(func.count()).select_from(Zpix)) for session in (first, second, third)]
        assert counts[0] == counts[2] == 0 < counts[1]
        tiles = [session.scalars(select(Tile.tileid).order_by(Tile.tileid)).all() for session in (first, second, third)]
        assert tiles[0] == tiles[1] == tiles[2]
        row = second.scalars(select(two.classes.Zpix).limit(1)).one()
        assert row.photometry.targetid == row.targetid
        assert isinstance(row.id, int)
        assert second.get(Zpix, row.id) is row
        ztile = second.scalars(select(two.classes.Ztile).limit(1)).one()
        assert ztile.target.tile.tileid == ztile.tileid == ztile.tile.tileid
