"""Loads beside what is there, which take its place at once: people who query all the time never meet an error."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from specprod import connect
from specprod.cli.main import main
from specprod.sample import write_sample
from support.digests import digests
from support.server import Server

#: Kills of each kind of database that the storm must have seen to count.
KILLS = 12


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A production, and what became of it a year later, under the same root as far as the ledger is concerned."""
    place = tmp_path_factory.mktemp("swap")
    for name, seed, tiles in (("before", 7, 2), ("after", 8, 4)):
        write_sample(place / name, tiles=tiles, targets_per_tile=60, potentials_per_tile=150, seed=seed)
    return place / "before", place / "after"


@pytest.fixture
def root(trees: tuple[Path, Path], tmp_path: Path) -> Path:
    shutil.copytree(trees[0], tmp_path / "tree")
    return tmp_path / "tree"


def renew(root: Path, new: Path) -> None:
    """Replace the files of a production."""
    shutil.rmtree(root)
    shutil.copytree(new, root)


def words(root: Path, target: str, *more: str) -> list[str]:
    return ["run", str(root), "--specprod", "sample", "--database", target, "--quiet", *more]


def run(root: Path, target: str, *more: str) -> int:
    return main(words(root, target, *more))


def counts(target: str, tree: Path, tmp_path: Path) -> dict[str, tuple[int, str]]:
    """Digests of a plain load of a tree, in the same kind of database."""
    if target.startswith("postgresql"):
        assert run(tree, target, "--schema", "plain") == 0
        return digests(target, "plain")
    assert run(tree, str(tmp_path / "plain.db")) == 0
    return digests(str(tmp_path / "plain.db"))


class Reader:
    """Somebody who queries all the time, by a new connection each time or by one that is kept."""

    def __init__(self, target: str, *, keep: bool, transaction: bool = False) -> None:
        self.target, self.keep, self.transaction = target, keep, transaction
        self.seen: list[tuple[int, int]] = []
        self.errors: list[Exception] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                with self._connection() as ask:
                    for _ in range(40 if self.keep else 1):
                        self.seen.append(ask())
        except Exception as error:
            self.errors.append(error)

    def _connection(self) -> _Asking:
        return _Asking(self.target, transaction=self.transaction)


class _Asking:
    # One statement that reads three tables: a load that is half done has another relation between them.
    QUERY = (
        "SELECT (SELECT count(*) FROM {0}zpix) + (SELECT count(*) FROM {0}potential), "
        "(SELECT count(*) FROM {0}photometry JOIN {0}zpix USING (targetid))"
    )

    def __init__(self, target: str, *, transaction: bool) -> None:
        self.server = target.startswith("postgresql")
        if self.server:
            self.connection = psycopg.connect(target, autocommit=not transaction)
            self.query = self.QUERY.format("sample.")
        else:
            self.connection = sqlite3.connect(f"file:{target}?mode=ro", uri=True, isolation_level=None, timeout=30)
            self.query = self.QUERY.format("")
        self.transaction = transaction

    def __enter__(self) -> Callable[[], tuple[int, int]]:
        return self.ask

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def ask(self) -> tuple[int, int]:
        if not self.transaction:
            return self.connection.execute(self.query).fetchone()
        # In the order in which a lock of all tables would meet it the wrong way round.
        with self.connection.transaction():
            schema = "sample"
            zpix = self.connection.execute(f"SELECT count(*) FROM {schema}.zpix").fetchone()[0]
            time.sleep(0.01)
            potential = self.connection.execute(f"SELECT count(*) FROM {schema}.potential").fetchone()[0]
            joined = f"SELECT count(*) FROM {schema}.photometry JOIN {schema}.zpix USING (targetid)"
            return zpix + potential, self.connection.execute(joined).fetchone()[0]


def expected(found: dict[str, tuple[int, str]]) -> tuple[int, int]:
    return found["zpix"][0] + found["potential"][0], found["zpix"][0]


@pytest.mark.parametrize("keep_old", [False, True])
def test_readers_all_the_time(
    trees: tuple[Path, Path], root: Path, database_target: str, tmp_path: Path, keep_old: bool
) -> None:
    assert run(root, database_target) == 0
    before = digests(database_target)
    renew(root, trees[1])
    after = counts(database_target, trees[1], tmp_path)
    assert expected(after) != expected(before)
    server = database_target.startswith("postgresql")
    readers = [Reader(database_target, keep=False), Reader(database_target, keep=True)]
    readers += [Reader(database_target, keep=True, transaction=True)] if server else []
    more = ["--keep-old"] if keep_old else ["--yes"]
    with contextlib.ExitStack() as stack:
        for reader in readers:
            stack.enter_context(reader)
        process = subprocess.run(
            [sys.executable, "-m", "specprod", *words(root, database_target, "--swap", *more)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        time.sleep(0.3)
    for reader in readers:
        assert reader.errors == []
        assert {expected(before), expected(after)} == set(reader.seen)
        # At one moment, and never back.
        assert reader.seen == sorted(reader.seen, key=lambda item: item == expected(after))
    assert digests(database_target) == after
    assert leftovers(database_target) == ({"old"} if keep_old else set())
    if keep_old:
        kept = (database_target, "sample_old") if server else (f"{database_target}.old", "sample")
        assert digests(*kept) == before
        assert "sample_old" in process.stdout or "specprod.db.old" in process.stdout
    assert main(["verify", str(root), "--specprod", "sample", "--database", database_target]) == 0
    # Once more, over what is kept.
    assert run(root, database_target, "--swap", *more) == 0
    assert digests(database_target) == after


def leftovers(target: str) -> set[str]:
    """What is beside: loading, old."""
    if target.startswith("postgresql"):
        with psycopg.connect(target) as connection:
            found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'sample%'").fetchall()
        return {name.removeprefix("sample").lstrip("_") for (name,) in found} - {""}
    path = Path(target)
    return {item.name.removeprefix(f"{path.name}.") for item in path.parent.glob(f"{path.name}.*")}


def test_first_load(root: Path, database_target: str) -> None:
    """Where nothing is yet, nothing is seen before it is complete."""
    process = subprocess.Popen([sys.executable, "-m", "specprod", *words(root, database_target, "--swap", "--yes")])
    while process.poll() is None:
        if not database_target.startswith("postgresql"):
            assert not Path(database_target).exists() or Path(database_target).stat().st_size > 0
        time.sleep(0.005)
    assert process.returncode == 0
    assert leftovers(database_target) == set()
    assert digests(database_target)["zpix"][0] > 0


def test_killed_at_random_moments(trees: tuple[Path, Path], root: Path, database_target: str, tmp_path: Path) -> None:
    assert run(root, database_target) == 0
    before = digests(database_target)
    renew(root, trees[1])
    after = counts(database_target, trees[1], tmp_path)
    command = [sys.executable, "-m", "specprod", *words(root, database_target, "--swap", "--yes", "--chunksize", "60")]
    moments = random.Random(20210514)
    begin = time.monotonic()
    assert subprocess.run(command, check=False).returncode == 0
    whole = time.monotonic() - begin
    kills = 0
    with Reader(database_target, keep=False) as reader:
        while kills < KILLS:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            try:
                process.wait(timeout=moments.uniform(0.4, 1.0) * whole)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            else:
                assert process.returncode == 0
            assert digests(database_target) == after
        assert subprocess.run(command, check=False).returncode == 0
    assert reader.errors == []
    assert set(reader.seen) == {expected(after)}
    assert digests(database_target) == after != before
    assert leftovers(database_target) == set()


def test_goes_on_where_it_stopped(root: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, database_target) == 0
    broken = root / "spectro/redux/sample/exposures-sample.fits"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:4000])
    assert run(root, database_target, "--swap", "--yes") == 1
    assert "exposures-sample.fits" in capsys.readouterr().err
    assert leftovers(database_target) == {"loading"}
    server = database_target.startswith("postgresql")
    where = ["--database", database_target if server else f"{database_target}.loading", "--schema", "sample_loading"]
    assert main(["status", *where]) == 0
    broken.write_bytes(whole)
    assert run(root, database_target, "--swap", "--yes", "--verify") == 0
    assert leftovers(database_target) == set()
    capsys.readouterr()
    assert main(["status", "--database", database_target, "--schema", "sample", "--json"]) == 0
    runs = [item["name"] for item in json.loads(capsys.readouterr().out)["runs"]]
    assert runs == ["run", "run", "verify"]


def test_what_differs_does_not_take_the_place(
    root: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, database_target) == 0
    before = digests(database_target)
    assert run(root, database_target, "--schema", "sample") == 0
    with connect(database_target, schema="sample").loading() as loading:
        target = str(loading.url.database) if loading.kind == "sqlite" else database_target
        assert run(root, target, "--schema", "sample_loading") == 0
        with loading.begin() as connection:
            connection.exec_driver_sql(f"UPDATE {loading.name('zpix')} SET z = z + 1")
    capsys.readouterr()
    assert run(root, database_target, "--swap", "--yes", "--verify") == 1
    assert "differs from its files" in capsys.readouterr().err
    assert digests(database_target) == before
    assert run(root, database_target, "--swap", "--yes", "--verify", "--overwrite") == 0
    assert digests(database_target) == before


def test_things_of_others_postgresql(root: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, postgres_url) == 0
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for made, named, dropped in (
            (
                "VIEW public.good AS SELECT targetid FROM sample.zpix WHERE zwarn = 0",
                "view public.good",
                "VIEW public.good",
            ),
            ("TABLE public.mine (t integer REFERENCES sample.tile (tileid))", "public.mine", "TABLE public.mine"),
            (
                "FUNCTION public.f(sample.tile) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
                "function public.f(sample.tile)",
                "FUNCTION public.f(sample.tile)",
            ),
        ):
            connection.execute(f"CREATE {made}")
            assert run(root, postgres_url, "--swap", "--yes") == 1
            assert named in capsys.readouterr().err
            assert leftovers(postgres_url) == set()
            connection.execute(f"DROP {dropped}")
        # What stands in the schema itself can be made beside, too, and then comes along.
        connection.execute("CREATE VIEW sample.good AS SELECT targetid FROM sample.zpix WHERE zwarn = 0")
        connection.execute("CREATE INDEX mine ON sample.zpix (zwarn, z)")
        for keep in ("--keep-old", "--yes"):
            assert run(root, postgres_url, "--swap", keep) == 1
            assert (
                "schema sample has what schema sample_loading has not: index mine, view good;"
                in capsys.readouterr().err
            )
            assert leftovers(postgres_url) == {"loading"}
        connection.execute(
            "CREATE VIEW sample_loading.good AS SELECT targetid FROM sample_loading.zpix WHERE zwarn = 0"
        )
        connection.execute("CREATE INDEX mine ON sample_loading.zpix (zwarn, z)")
        assert run(root, postgres_url, "--swap", "--yes") == 0
        assert leftovers(postgres_url) == set()
        assert connection.execute("SELECT count(*) FROM sample.good").fetchone()[0] > 0


def test_things_of_others_sqlite(root: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(sqlite_file)
    assert run(root, target) == 0
    with sqlite3.connect(sqlite_file) as connection:
        connection.execute("CREATE VIEW good AS SELECT targetid FROM zpix WHERE zwarn = 0")
    assert run(root, target, "--swap", "--yes") == 1
    assert f"has what {target}.loading has not: view good;" in capsys.readouterr().err
    with sqlite3.connect(f"{target}.loading") as connection:
        connection.execute("CREATE VIEW good AS SELECT targetid FROM zpix WHERE zwarn = 0")
    assert run(root, target, "--swap", "--yes") == 0
    with sqlite3.connect(sqlite_file) as connection:
        assert connection.execute("SELECT count(*) FROM good").fetchone()[0] > 0
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert run(root, target, "--swap", "--yes") == 1
    assert "(WAL); PRAGMA journal_mode = DELETE" in capsys.readouterr().err


def test_rights_come_along(root: Path, server: Server, postgres_url: str) -> None:
    for role in ("reader one", "reader two"):
        server.execute(f'DROP ROLE IF EXISTS "{role}"')
        server.execute(f'CREATE ROLE "{role}" LOGIN')
    assert run(root, postgres_url) == 0
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute('GRANT USAGE ON SCHEMA sample TO "reader one", "reader two"')
        connection.execute('GRANT SELECT ON sample.zpix TO "reader one"')
        connection.execute('GRANT SELECT (tileid, survey) ON sample.tile TO "reader two"')
        connection.execute("GRANT SELECT ON sample.photometry TO PUBLIC")
        assert run(root, postgres_url, "--swap", "--keep-old") == 0

        def allowed(role: str, table: str, column: str = "") -> bool:
            function, more = ("has_column_privilege", ", %s") if column else ("has_table_privilege", "")
            values = [role, f"sample.{table}", *([column] if column else []), "SELECT"]
            return connection.execute(f"SELECT {function}(%s, %s{more}, %s)", values).fetchone()[0]

        assert [allowed("reader one", table) for table in ("zpix", "photometry", "ztile")] == [True, True, False]
        assert [allowed("reader two", "tile", name) for name in ("survey", "nexp")] == [True, False]
        connection.execute('DROP OWNED BY "reader one", "reader two"')
    for role in ("reader one", "reader two"):
        server.execute(f'DROP ROLE "{role}"')


def test_waits_for_who_reads(trees: tuple[Path, Path], root: Path, postgres_url: str) -> None:
    """A transaction that sees what was there when it began (as a backup does) sees that to its end."""
    assert run(root, postgres_url) == 0
    before = expected(digests(postgres_url))
    renew(root, trees[1])
    with psycopg.connect(postgres_url) as backup, psycopg.connect(postgres_url, autocommit=True) as other:
        backup.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        backup.execute("SELECT count(*) FROM sample.potential")
        process = subprocess.Popen([sys.executable, "-m", "specprod", *words(root, postgres_url, "--swap", "--yes")])
        complete = (
            "SELECT 1 FROM pg_constraint WHERE conname = 'zpix_targetid_fkey' AND convalidated "
            "AND connamespace = to_regnamespace('sample_loading')"
        )
        while not other.execute(complete).fetchone():
            assert process.poll() is None
            time.sleep(0.05)
        # Longer than PostgreSQL waits before it looks for deadlocks.
        end = time.monotonic() + 4
        while time.monotonic() < end:
            start = time.monotonic()
            query = _Asking.QUERY.format("sample.")
            assert other.execute(query).fetchone() == before
            assert time.monotonic() - start < 1.0
        assert process.poll() is None
        assert backup.execute(_Asking.QUERY.format("sample.")).fetchone() == before
        backup.rollback()
        assert process.wait(30) == 0
        assert other.execute(_Asking.QUERY.format("sample.")).fetchone() != before


def test_a_reader_of_the_old_file_keeps_it(trees: tuple[Path, Path], root: Path, sqlite_file: Path) -> None:
    assert run(root, str(sqlite_file)) == 0
    link = sqlite_file.with_name("link.db")
    link.symlink_to(sqlite_file)
    sqlite_file.chmod(0o640)
    reader = sqlite3.connect(sqlite_file)
    (before,) = reader.execute("SELECT count(*) FROM potential").fetchone()
    renew(root, trees[1])
    assert run(root, str(link), "--swap", "--yes") == 0
    assert link.is_symlink()
    assert sqlite_file.stat().st_mode & 0o777 == 0o640
    assert reader.execute("SELECT count(*) FROM potential").fetchone() == (before,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        # What has no name any more is not written to: its journal would be that of another file.
        reader.execute("DELETE FROM potential")
    reader.close()
    with sqlite3.connect(link) as connection:
        assert connection.execute("SELECT count(*) FROM potential").fetchone()[0] > before
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_another_production(
    trees: tuple[Path, Path], root: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, database_target) == 0
    assert run(trees[1], database_target, "--swap", "--yes") == 1
    assert "was loaded from" in capsys.readouterr().err
    assert leftovers(database_target) == set()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--swap", "--yes", "--table", "zpix"], "--swap takes a whole load"),
        (["--swap", "--yes", "--dry-run"], "--swap takes a whole load"),
        (["--keep-old"], "belong to --swap"),
        (["--verify"], "belong to --swap"),
        (["--swap"], "--swap drops tables; without a terminal"),
    ],
)
def test_refused(
    root: Path, sqlite_file: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, str(sqlite_file), *more) == 2
    assert message in capsys.readouterr().err
    assert not sqlite_file.exists()
