"""Connections: to what is not there, to what cannot be written, to servers and sessions as they are found."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import func, select

from specprod import connect
from specprod.cli.main import main
from specprod.database.failures import Retries
from specprod.errors import ConnectionFailedError
from specprod.load import Exposure, Photometry, Tile, Version, Zpix, load_file, setup_db
from specprod.sample import write_sample
from support.rows import objects
from support.server import Server

REDUX = "spectro/redux/sample"
RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


# ---- files that are not there, or no databases


@pytest.mark.parametrize(
    ("name", "near"),
    [("irron.db", ["iron.db"]), ("iron", ["iron.db"]), ("zz.db", ["everest.db", "fuji.db", "iron.db"])],
)
def test_a_file_that_does_not_exist(tmp_path: Path, name: str, near: list[str]) -> None:
    for other in ("iron.db", "fuji.db", "everest.db", "loa.db", "iron.txt"):
        (tmp_path / other).touch()
    with pytest.raises(ConnectionFailedError) as caught:
        connect(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: there is no such database; beside it: {', '.join(near)}"
    assert not (tmp_path / name).exists()


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailedError, match=r"there is no directory .*nowhere"):
        connect(tmp_path / "nowhere" / "x.db")


def test_commands_that_only_look(
    tmp_path: Path, sample_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    setup_db("sample.db").close()
    before = sorted(tmp_path.iterdir())
    for words in (
        ["status"],
        ["verify", str(sample_root), "--specprod", "sample"],
        ["index"],
        ["primary"],
        ["coeff-fix", "check", "--specprod", "sample"],
    ):
        assert main([*words, "--database", "sampel.db"]) == 1
        error = capsys.readouterr().err.strip()
        assert error == "specprod-load: sampel.db: there is no such database; beside it: sample.db"
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("content", [b"SIMPLE  =                    T" * 400, b"x"])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(content)
    for readonly in (False, True):
        with pytest.raises(ConnectionFailedError, match=r"x\.fits: file is not a database$"):
            connect(path, readonly=readonly)
    assert main(["status", "--database", str(path)]) == 1
    error = capsys.readouterr().err.strip()
    assert error.endswith("x.fits: file is not a database")
    assert "\n" not in error
    with pytest.raises(ConnectionFailedError, match="unable to open"):
        connect(tmp_path)
    assert path.read_bytes() == content


# ---- what cannot be written


def test_readonly(database_target: str) -> None:
    with setup_db(database=connect(database_target, schema="s", create=True)) as database, database.session() as s:
        s.add_all(objects(Version, {"id": 1}))
        s.commit()
    with connect(database_target, schema="s", readonly=True) as database, database.session() as session:
        assert session.scalar(select(func.count()).select_from(Version)) == 1
        session.add_all(objects(Version, {"id": 2, "package": "b"}))
        with pytest.raises(sa.exc.DBAPIError, match=r"read-?only"):
            session.commit()
        session.rollback()
        assert session.scalar(select(func.count()).select_from(Version)) == 1


@pytest.fixture
def closed(sample_root: Path) -> Iterator[Path]:
    """A loaded sample and its tree, where others than root cannot write, in a place that they can reach."""
    with tempfile.TemporaryDirectory(prefix="closed-", dir="/tmp") as name:
        directory = Path(name)
        write_sample(directory / "tree", tiles=1, targets_per_tile=30, potentials_per_tile=60, seed=3)
        words = ["run", str(directory / "tree"), "--specprod", "sample", "--database", str(directory / "x.db"), "-q"]
        assert main(words) == 0
        yield directory
        directory.chmod(0o700)


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("what", ["directory", "file", "both"])
def test_read_only_places(closed: Path, what: str, journal: str) -> None:
    """Queries and all commands that look work for those who may only read; as root is with fewer rights."""
    path = closed / "x.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        expected = connection.execute("SELECT count(*) FROM zpix").fetchone()[0]
    path.chmod(0o444 if what != "directory" else 0o666)
    closed.chmod(0o555 if what != "file" else 0o777)
    script = f"""
import os, sys
from specprod import connect
from specprod.cli.main import main
from specprod.load import Zpix
from sqlalchemy import func, select
assert not (os.access("x.db", os.W_OK, effective_ids=True) and os.access(".", os.W_OK, effective_ids=True))
for readonly in (False, True):
    with connect("x.db", readonly=readonly) as database, database.session() as session:
        assert session.scalar(select(func.count()).select_from(Zpix)) == {expected}
        assert session.scalars(select(Zpix).limit(1)).one().photometry is not None
assert main(["status", "--database", "x.db"]) == 0
sys.exit(main(["verify", "tree", "--specprod", "sample", "--database", "x.db"]))
"""
    result = subprocess.run(
        [*(RIGHTS if os.geteuid() == 0 else []), sys.executable, "-c", script],
        cwd=closed,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": "/tmp"},
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "zpix" in result.stdout


# ---- sessions of other settings


def test_settings_of_the_database(server: Server, sample_root: Path) -> None:
    """What a DBA sets for all sessions changes no value; q3c lies where no search_path leads."""
    url = server.create_database("settings", q3c=False)
    server.execute("CREATE SCHEMA extensions", "settings")
    server.execute("CREATE EXTENSION q3c SCHEMA extensions", "settings")
    values: dict[str, dict[int, Any]] = {}
    try:
        for name in ("usual", "odd"):
            if name == "odd":
                for setting in (
                    "datestyle = 'German, DMY'",
                    "extra_float_digits = -10",
                    "standard_conforming_strings = off",
                    "timezone = 'Asia/Tokyo'",
                    "search_path = ''",
                    "client_encoding = 'LATIN1'",
                    "intervalstyle = 'iso_8601'",
                ):
                    server.execute(f"ALTER DATABASE settings SET {setting}")
            with setup_db(database=connect(url, schema=name)) as database:
                assert database.has_q3c
                load_file(sample_root / REDUX / "tiles-sample.fits", Tile, q3c="tilera", database=database)
                path = sample_root / REDUX / "exposures-sample.fits"
                load_file(path, Exposure, "EXPOSURES", q3c="tilera", database=database)
                with database.session() as session:
                    rows = session.execute(select(Exposure.expid, Exposure.date_obs, Exposure.mjd, Exposure.airmass))
                    values[name] = {row.expid: (row.date_obs.timestamp(), row.mjd, row.airmass) for row in rows}
                    tile = session.scalars(select(Tile).limit(1)).one()
                    near = select(Tile.tileid).where(database.within(Tile, tile.tilera, tile.tiledec, 0))
                    assert list(session.scalars(near)) == [tile.tileid]
        assert values["usual"] == values["odd"] != {}
        with psycopg.connect(url) as connection:
            query = "SELECT count(*) FROM pg_indexes WHERE indexname LIKE '%q3c%' AND schemaname = 'odd'"
            assert connection.execute(query).fetchone() == (2,)
            # And for a session that is not of this package, a description that has a backslash is as it was declared.
            text = "SELECT md5(string_agg(col_description(c.oid, n), ',' ORDER BY n)) FROM pg_class c, generate_series"
            found = [
                connection.execute(f"{text}(1, 40) n WHERE c.oid = '{name}.tile'::regclass").fetchone()
                for name in ("usual", "odd")
            ]
            assert found[0] == found[1] != (None,)
    finally:
        server.drop_database("settings")


def test_q3c_that_may_not_be_used(server: Server, sample_root: Path) -> None:
    """Its schema is closed to the user: said before the rows, and the rest of the load is done."""
    url = server.create_database("closed", q3c=False)
    server.execute("CREATE SCHEMA extensions", "closed")
    server.execute("CREATE EXTENSION q3c SCHEMA extensions", "closed")
    server.execute("CREATE ROLE loader LOGIN")
    server.execute("GRANT CREATE ON DATABASE closed TO loader", "closed")
    try:
        with setup_db(database=connect(url.replace("tester", "loader"), schema="l")) as database:
            assert "q3c" in (database.missing_extension() or "")
            path = sample_root / REDUX / "tiles-sample.fits"
            assert load_file(path, Tile, q3c="tilera", database=database) > 0
            with database.session() as session:
                tile = session.scalars(select(Tile).limit(1)).one()
                near = select(Tile.tileid).where(database.within(Tile, tile.tilera, tile.tiledec, 0.01))
                assert tile.tileid in list(session.scalars(near))
    finally:
        server.drop_database("closed")
        server.execute("DROP ROLE loader")


# ---- what passes


def test_a_server_that_is_down_at_the_start(sample_root: Path) -> None:
    own = Server()
    try:
        url = own.create_database("late")
        own.stop()
        begin = time.monotonic()
        with pytest.raises(ConnectionFailedError, match="refused"):
            connect(url)
        assert time.monotonic() - begin < 3
        words = ["run", str(sample_root), "--specprod", "sample", "--stage", "exposures", "--database", url]
        later = threading.Timer(2.0, own.start)
        later.start()
        assert main(words) == 0
        later.join()
        with connect(url, schema="sample") as database, database.session() as session:
            assert session.scalar(select(func.count()).select_from(Tile)) > 0
    finally:
        own.remove()


def test_refusals_that_do_not_pass() -> None:
    own = Server(password=True)
    try:
        rule = Retries(attempts=6, first_pause=1, longest_pause=5)
        for url in (own.url(password="wrong"), own.url("no_such_database")):
            begin = time.monotonic()
            with pytest.raises(ConnectionFailedError, match="FATAL"):
                connect(url, retries=rule)
            assert time.monotonic() - begin < 1
    finally:
        own.remove()


def test_a_file_that_is_locked_at_the_start(sqlite_file: Path) -> None:
    """Longer than a statement waits."""
    setup_db(sqlite_file).close()
    other = sqlite3.connect(sqlite_file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    url = f"sqlite:///{sqlite_file}?timeout=0.1"
    with pytest.raises(ConnectionFailedError, match="locked"):
        connect(url)
    later = threading.Timer(1.5, other.execute, ("COMMIT",))
    later.start()
    rule = Retries(attempts=20, first_pause=0.2, longest_pause=0.5)
    with connect(url, retries=rule) as database:
        later.join()
        # And between the connection and the first transaction.
        other.execute("BEGIN IMMEDIATE")
        later = threading.Timer(1.5, other.execute, ("COMMIT",))
        later.start()
        begin = time.monotonic()
        setup_db(database=database, retries=rule)
        assert time.monotonic() - begin > 1
        later.join()
    other.close()


@pytest.fixture
def foreign_writer(sqlite_file: Path) -> Iterator[list[int]]:
    """Somebody else writes to the file all the time; the list grows with what they write."""
    setup_db(sqlite_file).close()
    sqlite3.connect(sqlite_file).execute("CREATE TABLE theirs (n integer)")
    ended = threading.Event()
    written: list[int] = []

    def write() -> None:
        with contextlib.closing(sqlite3.connect(sqlite_file, timeout=60)) as own:
            while not ended.wait(0.02):
                with own:
                    own.execute("INSERT INTO theirs VALUES (1)")
                written.append(1)

    thread = threading.Thread(target=write)
    thread.start()
    yield written
    ended.set()
    thread.join()


def test_transactions_beside_a_foreign_writer(sqlite_file: Path, foreign_writer: list[int]) -> None:
    """None is refused in its middle, though each reads before it writes."""
    with connect(sqlite_file) as database:
        for number in range(50):
            with database.begin() as connection:
                assert connection.scalar(select(func.count()).select_from(Version)) == number
                time.sleep(0.01)
                connection.execute(sa.insert(Version), {"id": number, "package": str(number), "version": ""})
            time.sleep(0.02)
    assert len(foreign_writer) > 10


def test_run_beside_a_foreign_writer(sample_root: Path, sqlite_file: Path, foreign_writer: list[int]) -> None:
    words = ["run", str(sample_root), "--specprod", "sample", "--quiet", "--database"]
    begin = time.monotonic()
    assert main([*words, str(sqlite_file.with_name("alone.db"))]) == 0
    alone = time.monotonic() - begin
    begin = time.monotonic()
    assert main([*words, str(sqlite_file)]) == 0
    assert time.monotonic() - begin < 3 * alone + 2
    assert len(foreign_writer) > 10


def test_readers_begin_while_somebody_writes(sample_root: Path, sqlite_file: Path) -> None:
    words = ["--specprod", "sample", "--stage", "exposures", "--database", str(sqlite_file), "-q"]
    assert main(["run", str(sample_root), *words]) == 0
    with contextlib.closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with connect(f"sqlite:///{sqlite_file}?timeout=0") as database:
            with database.session() as session:
                assert session.scalar(select(func.count()).select_from(Photometry)) == 0
            with pytest.raises(sa.exc.OperationalError, match="locked"), database.begin():
                pass
        assert main(["status", "--database", str(sqlite_file)]) == 0


# ---- who may read what


def test_the_ledger_is_not_public(server: Server, postgres_url: str, sample_root: Path) -> None:
    server.execute("CREATE ROLE desi")
    server.execute("CREATE ROLE desi_public")
    words = ["run", str(sample_root), "--specprod", "sample", "--stage", "exposures", "--quiet", "--public"]
    try:
        for _ in range(2):
            assert main([*words, "--database", postgres_url, "--schema", "open"]) == 0
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            query = "SELECT tablename FROM pg_tables WHERE schemaname = 'open'"
            tables = {name for (name,) in connection.execute(query).fetchall()}
            connection.execute("SET ROLE desi_public")
            query = "SELECT t FROM unnest(%s::text[]) t WHERE has_table_privilege('open.' || t, 'SELECT')"
            readable = {name for (name,) in connection.execute(query, (sorted(tables),)).fetchall()}
            assert connection.execute("SELECT count(*) FROM open.tile").fetchone() != (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT command FROM open.pipeline_execution")
        assert tables - readable == {"pipeline_execution", "pipeline_result", "task_execution", "task_result"}
        assert len(readable) == 10
    finally:
        server.execute("DROP OWNED BY desi, desi_public", postgres_url.rpartition("/")[2])
        server.execute("DROP ROLE desi, desi_public")


def test_zpix_is_read_beside(sqlite_file: Path) -> None:
    """The process may go elsewhere: a file keeps its place."""
    name = os.path.relpath(sqlite_file)
    with setup_db(name) as database:
        here = Path.cwd()
        os.chdir("/")
        try:
            database.engine.dispose()
            with database.session() as session:
                assert session.scalar(select(func.count()).select_from(Zpix)) == 0
        finally:
            os.chdir(here)
