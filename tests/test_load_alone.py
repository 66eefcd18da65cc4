"""The functions of specprod.load in a script that calls nothing else: `setup_db`, then any of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from astropy.table import Table
from sqlalchemy import func, select

from specprod.database import Database, connect
from specprod.errors import ConfigurationError, ConstraintError, DatabaseError
from specprod.load import (
    Exposure,
    Frame,
    Photometry,
    Target,
    Tile,
    Version,
    Zpix,
    deduplicate_targetid,
    load_file,
    setup_db,
    upsert,
)
from specprod.model import table_of
from support.rows import objects, row

pytestmark = pytest.mark.compat

REDUX = "spectro/redux/sample"
PHOTOMETRY = "vac/*/lsdr9-photometry/sample/*/potential-targets"


@pytest.fixture
def database(database_target: str) -> Iterator[Database]:
    with setup_db(database=connect(database_target, schema="s", create=True)) as opened:
        yield opened


def count(database: Database, table: Any) -> int:
    with database.session() as session:
        return int(session.scalar(select(func.count()).select_from(table)) or 0)


def write(path: Path, targetid: Any, source: Path) -> Path:
    """Rows of a file of photometry, with other TARGETIDs."""
    data = Table.read(source, hdu="TRACTORPHOT")
    data = data[np.arange(len(targetid)) % len(data)]
    data["TARGETID"] = np.asarray(targetid, dtype=np.int64)
    data.meta["EXTNAME"] = "TRACTORPHOT"
    data.write(path)
    return path


@pytest.fixture
def tractorphot(sample_root: Path) -> Path:
    return sorted(sample_root.glob(f"{PHOTOMETRY}/tractorphot/*.fits"))[0]


# ---- keys are there


def test_load_upsert_load_again(sample_root: Path, database: Database) -> None:
    path = sample_root / REDUX / "tiles-sample.fits"
    data = Table.read(path, hdu=1, mask_invalid=False)
    assert load_file(path, Tile, database=database) == len(data)
    tiles = Tile.convert(data)
    for tile in tiles:
        tile.exptime += 1
    with database.begin() as connection:
        connection.execute(upsert(tiles))
    with pytest.raises(ConstraintError, match=rf"tiles-sample\.fits.*row 0: .*the key {data['TILEID'][0]} already"):
        load_file(path, Tile, database=database)
    assert count(database, Tile) == len(data)
    with database.session() as session:
        found = dict(session.execute(select(Tile.tileid, Tile.exptime)).tuples().all())
    assert found == pytest.approx({int(r["TILEID"]): r["EXPTIME"] + 1 for r in data})


def test_keys_and_indexes_when_it_returns(sample_root: Path, database: Database) -> None:
    """Those of the table, and the references to what has rows, as the database itself sees them."""
    exposures = sample_root / REDUX / "exposures-sample.fits"
    load_file(exposures, Frame, "FRAMES", database=database)
    load_file(exposures, Exposure, "EXPOSURES", database=database)
    inspector = sa.inspect(database.engine)
    names = {item["name"] for item in inspector.get_indexes("exposure", schema=database.schema)}
    assert names >= {"ix_exposure_night", "ix_exposure_tileid"}
    assert inspector.get_pk_constraint("exposure", schema=database.schema)["constrained_columns"] == ["expid"]
    if database.kind == "postgresql":
        # Exposures are there now, tiles are not.
        assert references(inspector, database, "frame") == {"frame_expid_fkey"}
        assert references(inspector, database, "exposure") == set()
    load_file(sample_root / REDUX / "tiles-sample.fits", Tile, database=database)
    inspector = sa.inspect(database.engine)
    assert references(inspector, database, "exposure") == {"exposure_tileid_fkey"}


def references(inspector: sa.Inspector, database: Database, table: str) -> set[str]:
    """Names of references; of quoted ones in SQLite, the first versions of SQLAlchemy 2.0 tell only the columns."""
    found = inspector.get_foreign_keys(table, schema=database.schema)
    return {f"{table}_{key['constrained_columns'][0]}_fkey" for key in found}


def test_rows_that_refer_to_none(sample_root: Path, database: Database, tmp_path: Path) -> None:
    tiles = Table.read(sample_root / REDUX / "tiles-sample.fits", hdu=1, mask_invalid=False)
    first = int(tiles["TILEID"][0])
    tiles[1:].write(tmp_path / "tiles.fits")
    exposures = sample_root / REDUX / "exposures-sample.fits"
    load_file(tmp_path / "tiles.fits", Tile, database=database)
    with pytest.raises(ConstraintError, match=rf"exposure refer to a tile\.tileid that is not there, .* {first}"):
        load_file(exposures, Exposure, "EXPOSURES", database=database)
    # The rows stay, and the tile that is missing mends it.
    assert count(database, Exposure) == len(Table.read(exposures, hdu="EXPOSURES"))
    tiles[:1].write(tmp_path / "first.fits")
    load_file(tmp_path / "first.fits", Tile, database=database)
    assert references(sa.inspect(database.engine), database, "exposure") == {"exposure_tileid_fkey"}


@pytest.mark.parametrize("given", ["file twice", "key twice"])
def test_the_same_rows_twice(database: Database, tractorphot: Path, tmp_path: Path, given: str) -> None:
    """Across chunks and files of one call it is the key that tells, at once."""
    numbers = np.arange(1, 31)
    one = write(tmp_path / "one.fits", numbers, tractorphot)
    other = write(tmp_path / "other.fits", [31, 32, 7], tractorphot)
    files = [one, one] if given == "file twice" else [one, other]
    with pytest.raises(ConstraintError, match=f"the key {1 if given == 'file twice' else 7} already"):
        load_file(files, Photometry, "TRACTORPHOT", chunksize=10, database=database)
    with database.session() as session:
        found = list(session.scalars(select(Photometry.targetid)))
    assert len(found) == len(set(found)) >= 30


# ---- filters


def test_filters_see_what_was_committed(database: Database, tractorphot: Path, tmp_path: Path) -> None:
    """The documented call: the filter as it stands, TARGETIDs that are twice in a file, in two files, in the table."""
    load_file(write(tmp_path / "before.fits", [5, 6], tractorphot), Photometry, "TRACTORPHOT", database=database)
    numbers = np.arange(1, 400)
    files = [
        write(tmp_path / "one.fits", np.concatenate([numbers, numbers[::-1]]), tractorphot),
        write(tmp_path / "two.fits", np.arange(300, 500), tractorphot),
    ]
    rows = load_file(files, Photometry, "TRACTORPHOT", row_filter=deduplicate_targetid, chunksize=90, database=database)
    assert rows == 497
    with database.session() as session:
        found = list(session.scalars(select(Photometry.targetid).order_by(Photometry.targetid)))
    assert found == list(range(1, 500))


def test_filters_of_ones_own(database: Database, tractorphot: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "one.fits", range(1, 101), tractorphot)
    asked = []

    def even(chunk: Any) -> Any:
        """A mask."""
        asked.append(count(database, Photometry))
        return np.asarray(chunk["TARGETID"]) % 2 == 0

    assert load_file(path, Photometry, "TRACTORPHOT", even, chunksize=25, database=database) == 50
    assert asked == [0, 12, 25, 37]
    assert load_file(path, Photometry, "TRACTORPHOT", lambda _: [0, 2], chunksize=60, database=database) == 4
    assert load_file(path, Photometry, "TRACTORPHOT", lambda _: [], database=database) == 0
    mask = np.ma.array(np.ones(100, dtype=bool), mask=np.arange(100) != 4)
    assert load_file(path, Photometry, "TRACTORPHOT", lambda _: mask, database=database) == 1
    with database.session() as session:
        odd = set(session.scalars(select(Photometry.targetid).where(Photometry.targetid % 2 == 1)))
    assert odd == {1, 3, 61, 63, 5}
    with pytest.raises(ConfigurationError, match=r"one\.fits.*a mask of shape \(3,\) for 100 rows"):
        load_file(path, Photometry, "TRACTORPHOT", lambda _: np.ones(3, dtype=bool), database=database)


# ---- arguments


@pytest.mark.parametrize("chunksize", [0, -5])
def test_chunks_of_nothing(sample_root: Path, database: Database, chunksize: int) -> None:
    with pytest.raises(ConfigurationError, match=f"chunks of {chunksize} rows"):
        load_file(sample_root / REDUX / "tiles-sample.fits", Tile, chunksize=chunksize, database=database)


@pytest.mark.parametrize(("table", "hdu", "ra"), [(Frame, "FRAMES", "tilera"), (Exposure, "EXPOSURES", "ra")])
def test_positions_that_are_none(sample_root: Path, database: Database, table: Any, hdu: str, ra: str) -> None:
    with pytest.raises(ConfigurationError, match="has no positions"):
        load_file(sample_root / REDUX / "exposures-sample.fits", table, hdu, q3c=ra, database=database)
    assert count(database, table) == 0


# ---- upsert


def different(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, datetime):
        return datetime(2022, 1, 2, 3, 4, 5, tzinfo=UTC)
    return value + "x" if isinstance(value, str) else value + 1


@pytest.mark.parametrize("do_nothing", [False, True])
def test_upsert_sets_every_column(database: Database, do_nothing: bool) -> None:
    """Right after `setup_db`, into every table; of each row that is there, every column but the key is new, or none."""
    parents = [
        (Photometry, {"targetid": 5}),
        (Tile, {"tileid": 7}),
        (Target, {"id": 11, "targetid": 5, "tileid": 7, "survey": "main"}),
        (Exposure, {"expid": 13, "tileid": 7}),
    ]
    others = [(Zpix, {"id": 2**100 + 1, "targetid": 5}), (Frame, {"frameid": 1, "expid": 13}), (Version, {"id": 3})]
    for cls, values in (*parents, *others):
        first = row(cls, **values)
        fixed = set(values) & ({"targetid", "tileid", "expid"} | {item.name for item in table_of(cls).primary_key})
        second = {name: value if name in fixed else different(value) for name, value in first.items()}
        with database.session() as session:
            for content in (first, second):
                session.execute(upsert([cls(**content)], do_nothing=do_nothing))
                session.commit()
            found = session.execute(select(table_of(cls))).mappings().one()
        expected = first if do_nothing else second
        for name, value in found.items():
            wanted = expected[name]
            if isinstance(value, datetime):
                wanted = wanted.replace(tzinfo=value.tzinfo)
            assert value == wanted, (cls, name)
        assert first != second
        assert len(found) == len(first)


def test_upsert_shows_its_sql(database: Database) -> None:
    rows = objects(Version, {"id": 1, "package": "a"}, {"id": 2, "package": "b"})
    text = " ".join(str(upsert(rows)).split())
    assert text.startswith("INSERT INTO version (id, package, version) VALUES (")
    assert text.endswith("ON CONFLICT (id) DO UPDATE SET package = excluded.package, version = excluded.version")
    assert str(upsert(rows, do_nothing=True)).endswith("ON CONFLICT (id) DO NOTHING")
    compiled = str(upsert(rows).compile(database.engine))
    assert "ON CONFLICT (id) DO UPDATE" in compiled
    assert ("?" in compiled) == (database.kind == "sqlite")


def test_upsert_checks_references(sqlite_file: Path) -> None:
    """In SQLite at once; in PostgreSQL they come with the rows of their parents."""
    database = setup_db(sqlite_file)
    with pytest.raises(sa.exc.IntegrityError), database.session() as session:
        session.execute(upsert(objects(Exposure, {"expid": 1, "tileid": 2})))
    # Also on a connection that a load had before.
    with database.begin(check_references=False):
        pass
    with pytest.raises(sa.exc.IntegrityError), database.session() as session:
        session.execute(upsert(objects(Exposure, {"expid": 1, "tileid": 2})))


def test_text_that_the_server_cannot_hold(server: Any, tmp_path: Path, sample_root: Path) -> None:
    url = server.url("latin1")
    server.execute("CREATE DATABASE latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with setup_db(database=connect(url)) as database:
            version = {"id": 1, "package": "Ærø", "version": "é"}
            with database.begin() as connection:
                connection.execute(upsert(objects(Version, version)))
            with database.session() as session:
                assert session.scalar(select(Version.package)) == "Ærø"
            data = Table.read(sample_root / REDUX / "tiles-sample.fits", hdu=1, mask_invalid=False)[:3]
            data["FAFLAVOR"] = ["a", "b", "Ω"]
            data.write(tmp_path / "tiles.ecsv")
            with pytest.raises(DatabaseError, match=r"tiles\.ecsv.*, column FAFLAVOR: .*LATIN1"):
                load_file(tmp_path / "tiles.ecsv", Tile, database=database)
            assert count(database, Tile) == 0
    finally:
        server.drop_database("latin1")


def test_a_database_without_encoding(server: Any, tmp_path: Path, sample_root: Path) -> None:
    url = server.url("ascii")
    server.execute("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        with setup_db(database=connect(url)) as database:
            data = Table.read(sample_root / REDUX / "tiles-sample.fits", hdu=1, mask_invalid=False)[:2]
            data["FAFLAVOR"] = ["plain", "Ω"]
            data.write(tmp_path / "tiles.ecsv")
            load_file(tmp_path / "tiles.ecsv", Tile, database=database)
            with database.session() as session:
                assert set(session.scalars(select(Tile.faflavor))) == {"plain", "Ω"}
    finally:
        server.drop_database("ascii")
