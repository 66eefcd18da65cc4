"""The documented functions of specprod.load, called as scripts call them."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from astropy.table import MaskedColumn, Table
from sqlalchemy import func, select

from specprod.database import Database, connect
from specprod.database.keys import build_key
from specprod.errors import ConfigurationError, ConnectionFailedError, SchemaError, ValueRejectedError
from specprod.load import (
    Base,
    Exposure,
    Frame,
    Photometry,
    Tile,
    Version,
    deduplicate_targetid,
    finitize,
    load_file,
    load_versions,
    q3c_index,
    setup_db,
    upsert,
)
from support.server import Server

pytestmark = pytest.mark.compat

REDUX = "spectro/redux/sample"
NAMES = {
    "version", "tile", "exposure", "frame", "photometry", "target", "ztile", "zpix", "fiberassign", "potential",
}  # fmt: skip


@pytest.fixture
def database(database_target: str) -> Iterator[Database]:
    with connect(database_target, schema="s", create=True) as opened:
        setup_db(database=opened)
        yield opened


def count(database: Database, table: Any) -> int:
    with database.session() as session:
        return int(session.scalar(select(func.count()).select_from(table)) or 0)


# ---- setup_db


def test_setup_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path the file is made where the user stands."""
    monkeypatch.chdir(tmp_path)
    with setup_db("mine.db") as database:
        assert database.kind != "postgresql"
        load_versions("a", "b", "c", "d", "e", database=database)
    names = {name for (name,) in sqlite3.connect(tmp_path / "mine.db").execute("SELECT name FROM sqlite_master")}
    assert names >= NAMES
    with setup_db("mine.db") as database:
        assert count(database, Version) == 9
    with setup_db("mine.db", overwrite=True) as database:
        assert count(database, Version) == 0
    with pytest.raises(ConnectionFailedError, match=r"no/such/directory\.db"):
        setup_db("no/such/directory.db")


def test_setup_of_a_server(server: Server, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the arguments leave open, such as port and database, is found by libpq."""
    monkeypatch.setenv("PGPORT", str(server.port))
    monkeypatch.setenv("PGDATABASE", postgres_url.rpartition("/")[2])
    with setup_db(hostname="127.0.0.1", username=server.superuser, schema='odd "name') as database:
        assert database.kind == "postgresql"
        assert database.has_q3c
    with psycopg.connect(postgres_url) as connection:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
        assert {name for (name,) in connection.execute(query, ['odd "name']).fetchall()} >= NAMES


def test_setup_for_readers(server: Server, postgres_url: str) -> None:
    server.execute('CREATE ROLE "ours too"')
    server.execute("CREATE ROLE everyone")
    try:
        with connect(postgres_url, schema="open") as database:
            with pytest.raises(SchemaError, match="role 'desi' does not exist"):
                setup_db(database=database, public=True)
            with psycopg.connect(postgres_url) as connection:
                assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'open'").fetchone() is None
            setup_db(database=database, public=True, roles=["ours too"], public_role="everyone")
        with psycopg.connect(postgres_url) as connection:
            for role in ("ours too", "everyone"):
                connection.execute(f'SET ROLE "{role}"')
                assert connection.execute("SELECT count(*) FROM open.zpix").fetchone() == (0,)
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute("DELETE FROM open.zpix")
                connection.execute("RESET ROLE")
    finally:
        server.execute('DROP OWNED BY everyone, "ours too"', postgres_url.rpartition("/")[2])
        server.execute('DROP ROLE everyone, "ours too"')


def test_overwrite_leaves_other_tables_alone(database: Database) -> None:
    other = database.name("diary")
    with database.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {other} (day text)")
        connection.exec_driver_sql(f"INSERT INTO {other} VALUES ('monday')")
    load_versions("a", "b", "c", "d", "e", database=database)
    setup_db(database=database, overwrite=True)
    assert count(database, Version) == 0
    with database.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT day FROM {other}").scalars().all() == ["monday"]


# ---- load_file


def test_files_of_two_kinds(sample_root: Path, database: Database, tmp_path: Path) -> None:
    """A FITS file and the same rows as CSV in another, the numbers of the tiles shifted."""
    fits_file = sample_root / REDUX / "tiles-sample.fits"
    data = Table.read(fits_file, hdu=1, mask_invalid=False)
    other = data.copy()
    other["TILEID"] += 500000
    other.write(tmp_path / "more.csv", format="ascii.csv")
    rows = load_file([str(fits_file), tmp_path / "more.csv"], Tile, chunksize=3, database=database)
    assert rows == 2 * len(data)
    with database.session() as session:
        found = session.scalars(select(Tile.tileid).order_by(Tile.tileid)).all()
    assert list(found) == sorted([*data["TILEID"].tolist(), *other["TILEID"].tolist()])


def test_what_the_caller_gives(sample_root: Path, database: Database) -> None:
    from specprod.load import Potential
    from specprod.util import no_sky

    path = sorted((sample_root / "target").rglob("fiberassign-*.fits*"))[0]
    data = Table.read(path, hdu="POTENTIAL_ASSIGNMENTS")
    tileid = int(path.name.removeprefix("fiberassign-")[:6])
    message = rf"fiberassign-\d+\.fits.*TILEID.* differs from the argument tileid, which is {tileid + 1}: '{tileid}'"
    with pytest.raises(ValueRejectedError, match=message):
        load_file(path, Potential, "POTENTIAL_ASSIGNMENTS", given={"tileid": tileid + 1}, database=database)
    if database.kind != "postgresql":
        load_file(sample_root / REDUX / "tiles-sample.fits", Tile, database=database)
    # The number of the tile stands in the header.
    rows = load_file(path, Potential, "POTENTIAL_ASSIGNMENTS", no_sky, chunksize=40, database=database)
    with database.session() as session:
        assert set(session.scalars(select(Potential.tileid))) == {tileid}
    targetid = np.asarray(data["TARGETID"])
    assert rows == np.sum((targetid > 0) & ((targetid >> 59) & 1 == 0)) == count(database, Potential)
    assert rows < len(data)


def test_sky_index(sample_root: Path, database: Database) -> None:
    path = sample_root / REDUX / "tiles-sample.fits"
    assert load_file(path, Tile, q3c="tilera", database=database) > 0
    if database.kind == "postgresql":
        with database.connect() as connection:
            (definition,) = connection.exec_driver_sql(
                "SELECT pg_get_indexdef(indexrelid) FROM pg_index "
                "WHERE indrelid = 's.tile'::regclass AND indisclustered"
            ).scalars()
        assert "ix_tile_q3c_ang2ipix" in definition
        assert "q3c_ang2ipix(tilera, tiledec)" in definition
    q3c_index("tile", "tilera", database=database)
    for table, ra in (("tile", "ra"), ("zpix", "ra"), ("nothing", "ra"), ("tile; DROP TABLE tile", "tilera")):
        with pytest.raises(ConfigurationError, match="has no positions"):
            q3c_index(table, ra, database=database)


def test_sky_index_without_q3c(sample_root: Path, server: Server) -> None:
    url = server.create_database("without_q3c", q3c=False)
    try:
        with connect(url, schema="s") as database:
            setup_db(database=database)
            assert load_file(sample_root / REDUX / "tiles-sample.fits", Tile, q3c="tilera", database=database) > 0
            with database.session() as session:
                tile = session.scalars(select(Tile).limit(1)).one()
                near = database.within(Tile, tile.tilera, tile.tiledec, 0.1)
                assert tile in session.scalars(select(Tile).where(near)).all()
    finally:
        server.drop_database("without_q3c")


# ---- the others


def test_versions_are_updated(database: Database) -> None:
    load_versions("v1", "base", "dr1", "iron", "1.0", database=database)
    with database.session() as session:
        before = {row.package: (row.id, row.version) for row in session.scalars(select(Version))}
    load_versions("v2", "base", "dr1", "iron", "1.0", database=database)
    with database.session() as session:
        after = {row.package: (row.id, row.version) for row in session.scalars(select(Version))}
    names = {"astropy", "numpy", "sqlalchemy", "lsd9-photometry", "redshift", "release", "specprod", "tiles"}
    assert set(after) == names | {"specprod-load"}
    assert after["lsd9-photometry"][1] == "v2"
    assert {name for name in after if after[name] != before[name]} == {"lsd9-photometry"}
    assert len({number for number, _ in after.values()}) == len(after)


def test_first_of_targetids_that_are_new(sample_root: Path, database: Database) -> None:
    path = sorted((sample_root / "vac").rglob("tractorphot*.fits"))[0]
    data = Table.read(path, hdu="TRACTORPHOT")
    there = data["TARGETID"].tolist()
    load_file(path, Photometry, "TRACTORPHOT", database=database)
    build_key(database, Photometry)
    wanted = [7, there[0], 5, 7, there[-1], 5, 3, there[0]]
    for kind in (Table({"TARGETID": wanted}), {"TARGETID": np.array(wanted)}):
        rows = deduplicate_targetid(kind, database=database)
        assert rows.tolist() == [0, 2, 6]
        assert rows.dtype == np.int64
    assert deduplicate_targetid({"TARGETID": np.zeros(0, dtype=np.int64)}, database=database).size == 0
    # More than a statement takes as parameters.
    many = np.arange(1, 100_001, dtype=np.int64)
    assert deduplicate_targetid({"TARGETID": many}, database=database).size == 100_000


def test_finitize(caplog: pytest.LogCaptureFixture) -> None:
    data = Table(
        {
            "A": [1.0, np.nan, np.inf],
            "B": np.array([[1, np.nan], [2, 3], [-np.inf, 4]], dtype="f4"),
            "C": [1, 2, 3],
            "D": ["nan", "inf", ""],
        }
    )
    data["E"] = MaskedColumn([np.nan, 2.0, 3.0], mask=[False, True, False])
    with caplog.at_level(logging.INFO, logger="specprod"):
        assert finitize(data) is data
    assert data["A"].tolist() == [1.0, -9999.0, -9999.0]
    assert data["B"].tolist() == [[1, -9999], [2, 3], [-9999, 4]]
    assert data["C"].tolist() == [1, 2, 3]
    assert data["D"].tolist() == ["nan", "inf", ""]
    assert data["E"].tolist() == [-9999.0, None, 3.0]
    messages = [record.getMessage() for record in caplog.records]
    assert ["column A" in text and text.startswith("2 ") for text in messages] == [True, False, False]
    other = Table({"A": [np.nan]})
    assert finitize(other, replacement_value=0.0)["A"].tolist() == [0.0]


def test_upsert_by_a_connection(sample_root: Path, database: Database) -> None:
    """A statement of objects is one for ``execute()`` of a connection as well, and part of its transaction."""
    path = sample_root / REDUX / "tiles-sample.fits"
    tiles = Tile.convert(Table.read(path, hdu=1, mask_invalid=False))
    build_key(database, Tile)
    with pytest.raises(RuntimeError, match="changed my mind"), database.begin() as connection:  # noqa: PT012
        connection.execute(upsert(tiles))
        raise RuntimeError("changed my mind")
    assert count(database, Tile) == 0
    for survey in ("sv3", "main"):
        for tile in tiles:
            tile.survey = survey
        with database.begin() as connection:
            connection.execute(upsert(tiles))
    with database.session() as session:
        assert set(session.scalars(select(Tile.survey))) == {"main"}
    assert count(database, Tile) == len(tiles) > 0


def test_conversion_and_files_give_the_same_rows(sample_root: Path, database: Database, tmp_path: Path) -> None:
    """Objects that ``convert()`` makes and rows that `load_file` writes are equal in every column."""
    path = sample_root / REDUX / "exposures-sample.fits"
    tiles = sample_root / REDUX / "tiles-sample.fits"
    for file, table, hdu in ((tiles, Tile, 1), (path, Exposure, "EXPOSURES"), (path, Frame, "FRAMES")):
        load_file(file, table, hdu, database=database)
    copy = tmp_path / "copy.db"
    with setup_db(copy) as second:
        for file, table, hdu in ((tiles, Tile, 1), (path, Exposure, "EXPOSURES"), (path, Frame, "FRAMES")):
            with second.session() as session:
                session.add_all(table.convert(Table.read(file, hdu=hdu, mask_invalid=False)))
                session.commit()
            assert values(second, table) == values(database, table) != []


def values(database: Database, table: type[Base]) -> list[tuple[Any, ...]]:
    columns = list(table.__table__.columns)
    with database.session() as session:
        rows = session.execute(select(*columns).order_by(*table.__table__.primary_key.columns)).all()
    return [tuple(comparable(value) for value in row) for row in rows]


def comparable(value: Any) -> Any:
    """A number of 32 bits comes as text from PostgreSQL, the shortest that stands for it; SQLite knows no zones."""
    if isinstance(value, float):
        return float(np.float32(value))
    return value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value


def test_a_file_of_the_old_name_is_not_a_database(tmp_path: Path, sample_root: Path) -> None:
    path = tmp_path / "tiles.fits"
    shutil.copy(sample_root / REDUX / "tiles-sample.fits", path)
    before = path.read_bytes()
    with pytest.raises(Exception, match="not a database") as caught:
        setup_db(path)
    assert type(caught.value).__module__ == "specprod.errors"
    assert path.read_bytes() == before
