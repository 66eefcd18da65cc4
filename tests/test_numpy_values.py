"""Values of numpy and astropy in queries mean what they say, in both databases."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from astropy import units
from astropy.table import MaskedColumn, Table
from sqlalchemy import select

from specprod import connect
from specprod.database import Database
from specprod.load import Photometry, Version, Zpix, setup_db
from support.rows import objects, row

pytestmark = [pytest.mark.compat, pytest.mark.filterwarnings("error")]

TARGETS = (39627641351079036, 39627641351079037, 39627641351079038, -5)
#: Beyond 64 bits, and two that a double cannot tell apart.
IDS = (237684487653473477223012617493, 237684487653473477223012617494, 33503513911740049863153959922673896725, 7)


@pytest.fixture(scope="module")
def databases(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Database]]:
    """Four spectra, zwarn 0 to 3 times 4, in each database."""
    url = server.create_database("numpy_values")
    with (
        setup_db(database=connect(url, schema="n")) as postgresql,
        setup_db(tmp_path_factory.mktemp("numpy") / "n.db") as sqlite,
    ):
        for database in (postgresql, sqlite):
            with database.session() as session:
                session.add_all(objects(Photometry, *({"targetid": number} for number in TARGETS)))
                session.flush()
                rows = [
                    {"id": key, "targetid": number, "zwarn": 4 * place, "z": place / 4, "survey": survey}
                    for place, (key, number, survey) in enumerate(
                        zip(IDS, TARGETS, ("main", "sv1", "sv3", "main"), strict=True)
                    )
                ]
                for place, values in enumerate(rows):
                    values |= {"program": "dark", "zcat_primary": place == 2, "chi2": 0.1}
                session.add_all(objects(Zpix, *rows))
                session.commit()
        yield {"postgresql": postgresql, "sqlite": sqlite}
    server.drop_database("numpy_values")


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest, databases: dict[str, Database]) -> Database:
    return databases[request.param]


def places(database: Database, condition: Any) -> list[int]:
    with database.session() as session:
        return sorted(IDS.index(key) for key in session.scalars(select(Zpix.id).where(condition)))


WIDE = np.array(IDS, dtype=object)
TABLE = Table({"TARGETID": TARGETS[:2], "SURVEY": ["sv1", "main"], "BYTES": np.array([b"sv1", b"sv3"])})
MASKED = MaskedColumn(TARGETS[:3], mask=[False, True, False])


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Zpix.targetid == np.int64(TARGETS[1]), [1]),
        (Zpix.targetid == np.uint64(TARGETS[1]), [1]),
        (Zpix.targetid == np.array(TARGETS[1]), [1]),
        (Zpix.targetid.in_(TABLE["TARGETID"]), [0, 1]),
        (Zpix.targetid.in_(np.array(TARGETS[2:])), [2, 3]),
        (Zpix.targetid.not_in(np.array(TARGETS[:3])), [3]),
        (Zpix.targetid.in_(np.array([], dtype=np.int64)), []),
        (Zpix.targetid.in_(MASKED), [0, 2]),
        (Zpix.targetid.in_(np.ma.array(TARGETS, mask=[1, 1, 1, 0])), [3]),
        (Zpix.zwarn < np.int64(5), [0, 1]),
        (Zpix.zwarn < np.int16(5), [0, 1]),
        (Zpix.zwarn >= np.uint8(8), [2, 3]),
        (Zpix.zwarn == np.ma.masked, []),
        (Zpix.z < np.float32(0.5), [0, 1]),
        (Zpix.z == np.float64(0.75), [3]),
        (Zpix.z >= np.float16(0.5), [2, 3]),
        (Zpix.z == np.longdouble(0.25), [1]),
        (Zpix.z.between(np.float32(0.2), np.array(0.5)), [1, 2]),
        (Zpix.z == np.ma.masked, []),
        (Zpix.z < np.ma.array(1.0, mask=True), []),
        (Zpix.z < np.ma.array(0.3), [0, 1]),
        (Zpix.zcat_primary == np.True_, [2]),
        (Zpix.zcat_primary == np.False_, [0, 1, 3]),
        (Zpix.zcat_primary == np.ma.masked, []),
        (Zpix.survey == np.str_("sv1"), [1]),
        (Zpix.survey == np.bytes_(b"sv3"), [2]),
        (Zpix.survey.in_(TABLE["SURVEY"]), [0, 1, 3]),
        (Zpix.survey.in_(np.array(["sv3"])), [2]),
        (Zpix.survey.in_(TABLE["BYTES"]), [1, 2]),
        (Zpix.id == IDS[1], [1]),
        (Zpix.id == WIDE[2], [2]),
        (Zpix.id.in_(WIDE[1:3]), [1, 2]),
        (Zpix.id.in_(np.array([7, 8])), [3]),
        (Zpix.id == np.int64(7), [3]),
        (Zpix.id > np.int32(7), [0, 1, 2]),
        (Zpix.id == np.ma.masked, []),
        (sa.text("zwarn < :limit").bindparams(limit=np.int64(5)), [0, 1]),
        (sa.text("zwarn = :limit").bindparams(limit=np.ma.masked), []),
    ],
    ids=str,
)
def test_conditions(database: Database, condition: Any, expected: list[int]) -> None:
    assert places(database, condition) == expected


def test_objects_by_key(database: Database) -> None:
    with database.session() as session:
        photometry = session.get(Photometry, np.int64(TARGETS[0]))
        assert photometry is not None
        assert photometry.targetid == TARGETS[0]
        assert session.get(Photometry, TABLE["TARGETID"][0]) is photometry
        assert session.get(Zpix, WIDE[0]).targetid == TARGETS[0]
        assert session.get(Zpix, np.int16(7)).targetid == TARGETS[3]


def test_values_that_are_written(database: Database) -> None:
    """Numbers, not bytes, are stored; one row or many; by objects, statements of the tables, or text."""
    number, text, truth, real = np.int64(17), np.str_("p"), np.True_, np.float32(0.1)
    statement = sa.insert(Version)
    with database.connect() as connection:
        connection.execute(statement, {"id": number, "package": text, "version": np.bytes_(b"1.0")})
        many = [{"id": np.int32(n), "package": np.str_(n), "version": "x"} for n in (18, 19)]
        connection.execute(statement, many)
        name = database.name(Version)
        mark = "%(id)s" if database.kind == "postgresql" else ":id"
        assert connection.exec_driver_sql(
            f"SELECT package FROM {name} WHERE id = {mark}", {"id": number}
        ).scalars().all() == ["p"]
        found = connection.execute(select(Version.id, Version.package, Version.version).order_by(Version.id)).all()
        assert found == [(17, "p", "1.0"), (18, "18", "x"), (19, "19", "x")]
        values = row(Zpix, id=np.int64(9), targetid=np.int64(TARGETS[0]), survey="cmx", program="dark")
        connection.execute(sa.insert(Zpix), values | {"zcat_primary": truth, "z": real, "zwarn": np.uint8(3)})
        (z, zwarn, primary) = connection.execute(
            select(Zpix.z, Zpix.zwarn, Zpix.zcat_primary).where(Zpix.id == 9)
        ).one()
        assert (z, zwarn, primary) == (float(np.float32(0.1)), 3, True)
        if database.kind == "sqlite":
            kinds = connection.exec_driver_sql("SELECT typeof(z), typeof(zwarn), typeof(id) FROM zpix WHERE zwarn = 3")
            assert kinds.one() == ("real", "integer", "text")
        connection.rollback()


@pytest.mark.parametrize("value", [np.array([1, 2]), 3 * units.nm])
def test_what_is_not_one_value(database: Database, value: Any) -> None:
    with pytest.raises(TypeError, match="expected one value"):
        places(database, sa.text("zwarn = :value").bindparams(value=value))


@pytest.mark.parametrize("value", [7.5, np.float64(7.5)])
def test_half_an_id(database: Database, value: float) -> None:
    with pytest.raises(sa.exc.StatementError, match=r"expected a whole number, found 7\.5"):
        places(database, Zpix.id == value)


def test_other_engines_are_left_alone(databases: dict[str, Database]) -> None:
    """Nothing of this is global: another engine of the process binds as it always did."""
    import sqlite3

    assert databases
    with sqlite3.connect(":memory:") as connection, warnings.catch_warnings():
        assert connection.execute("SELECT typeof(?)", (np.int64(1),)).fetchone() == ("blob",)
