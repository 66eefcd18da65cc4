"""What users do with a loaded database: sessions, classes, searches on the sky, statements of their own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from specprod import connect
from specprod.cli.main import main
from specprod.database import Database
from specprod.errors import ConfigurationError
from specprod.load import Frame, Photometry, Tile, Zpix, setup_db, upsert

pytestmark = pytest.mark.compat


@pytest.fixture(params=["q3c", "no q3c", "sqlite"])
def sky(request: pytest.FixtureRequest) -> Database:
    """An empty database of each kind, with sources all over the sky, at the poles and on the meridian."""
    if request.param == "sqlite":
        target = str(request.getfixturevalue("sqlite_file"))
    else:
        target = request.getfixturevalue("postgres_url")
    database = setup_db(database=connect(target, schema="sky"))
    if request.param == "no q3c":
        with database.begin() as connection:
            connection.exec_driver_sql("DROP EXTENSION q3c")
    assert (database.missing_extension() is None) == (request.param != "no q3c")
    generator = np.random.default_rng(5)
    ra = np.concatenate([generator.uniform(0, 360, 3000), generator.uniform(-1, 1, 500) % 360])
    dec = np.degrees(np.arcsin(generator.uniform(-1, 1, 3500)))
    dec[:400] = generator.choice([-1, 1], 400) * generator.uniform(88, 90, 400)
    names = [column.name for column in Photometry.__table__.columns]
    rows = []
    for number in range(ra.size):
        row = dict.fromkeys(names, 0) | {"brickname": "", "morphtype": "PSF", "ref_cat": ""}
        row |= {"gaia_duplicated_source": False, "targetid": number + 1, "ra": float(ra[number])}
        rows.append(Photometry(**row | {"dec": float(dec[number])}))
    with database.session() as session:
        if database.kind == "postgresql":
            session.execute(func.now().select())
            session.connection().exec_driver_sql("ALTER TABLE sky.photometry ADD PRIMARY KEY (targetid)")
        # 332,500 values: more than a statement takes parameters.
        session.execute(upsert(rows))
        session.commit()
    return database


def separation(ra: float, dec: float, other_ra: float, other_dec: float) -> float:
    """Angle between two directions, by the vectors."""

    def vector(a: float, d: float) -> np.ndarray:
        a, d = math.radians(a), math.radians(d)
        return np.array([math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)])

    one, two = vector(ra, dec), vector(other_ra, other_dec)
    return math.degrees(math.atan2(np.linalg.norm(np.cross(one, two)), one @ two))


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
    ],
)
def test_within(sky: Database, ra: float, dec: float, radius: float) -> None:
    with sky.session() as session:
        everything = session.execute(select(Photometry.targetid, Photometry.ra, Photometry.dec)).all()
        expected = {number for number, a, d in everything if separation(ra, dec, a, d) <= radius}
        found = set(session.scalars(select(Photometry.targetid).where(sky.within(Photometry, ra, dec, radius))))
    assert found == expected
    assert found


def test_within_says_what_is_wrong(sqlite_file: Path) -> None:
    with connect(sqlite_file) as database:
        with pytest.raises(ConfigurationError, match="no positions"):
            database.within(Zpix, 1, 2, 3)
        with pytest.raises(ConfigurationError, match="no circle"):
            database.within(Tile, 1, 95, 3)


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
