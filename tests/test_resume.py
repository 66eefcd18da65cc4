"""Loads that end early, in every way that a process or a server can end, and go on where they stopped."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest

from specprod import database as specprod_database
from specprod.cli.main import main
from support.digests import digests
from support.rewriting import altered
from support.server import Server

#: Kills of each kind of database that a test must have seen to count.
KILLS = 32


def command(root: Path, target: str, *more: str) -> list[str]:
    words = ["run", str(root), "--specprod", "sample", "--database", target, "--chunksize", "60", "--quiet"]
    return [sys.executable, "-m", "specprod.cli.main", *words, *more]


def start(words: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="session")
def undisturbed(
    request: pytest.FixtureRequest, sample_root: Path, tmp_path_factory: pytest.TempPathFactory, server: Server
) -> dict[str, dict[str, tuple[int, str]]]:
    """Digests of loads that nothing disturbed, by kind of database."""
    url = server.create_database(f"undisturbed_{os.getpid()}")
    path = str(tmp_path_factory.mktemp("undisturbed") / "specprod.db")
    for target in (url, path):
        assert main(["run", str(sample_root), "--specprod", "sample", "--database", target, "--quiet"]) == 0
    return {"postgresql": digests(url), "sqlite": digests(path)}


def wipe(target: str) -> None:
    if target.startswith("postgresql"):
        with psycopg.connect(target, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS sample CASCADE")
    else:
        for name in ("", "-journal", "-wal", ".lock"):
            Path(target + name).unlink(missing_ok=True)


def kind(target: str) -> str:
    return "postgresql" if target.startswith("postgresql") else "sqlite"


def test_killed_at_random_moments(
    sample_root: Path, database_target: str, undisturbed: dict[str, dict[str, tuple[int, str]]]
) -> None:
    random_moments = random.Random(20210514)
    words = command(sample_root, database_target)
    begin = time.monotonic()
    assert start(words).wait() == 0
    whole = time.monotonic() - begin
    wipe(database_target)
    kills = completed = 0
    while kills < KILLS:
        process, begin = start(words), time.monotonic()
        try:
            process.wait(timeout=random_moments.uniform(0.35, 1.0) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, process.communicate()[1]
        assert digests(database_target) == undisturbed[kind(database_target)]
        completed += 1
        # The machine may have been busy when the first load was timed: later ones must not all end before the kill.
        whole = min(whole, time.monotonic() - begin)
        wipe(database_target)
    last = subprocess.run(words, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert digests(database_target) == undisturbed[kind(database_target)]
    print(f"{kind(database_target)}: survived {kills} kills; {completed + 1} loads ran to their end between them")


def test_terminated_connections(
    sample_root: Path, postgres_url: str, undisturbed: dict[str, dict[str, tuple[int, str]]]
) -> None:
    """The server ends our connections again and again; the load tries again and ends as if nothing had been."""
    process = start(command(sample_root, postgres_url))
    ended = 0
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        # From the moment on at which the load has begun: before it, a connection that is lost is a plain error.
        begun = "SELECT to_regclass('sample.task_result') IS NOT NULL"
        while process.poll() is None and not connection.execute(begun).fetchone()[0]:
            time.sleep(0.02)
        # Not for ever: a server that ends all connections at once is down, and that is a failure.
        for _ in range(12):
            time.sleep(0.25)
            ended += connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'specprod' AND datname = current_database()"
            ).fetchone()[0]
    output = process.communicate()[1]
    assert process.returncode == 0, output
    assert ended >= 3
    assert digests(postgres_url) == undisturbed["postgresql"]


def test_server_crashes_and_restarts(sample_root: Path, undisturbed: dict[str, dict[str, tuple[int, str]]]) -> None:
    """An immediate stop loses what was not synchronised, rows and ledger together; the same process goes on."""
    own = Server(settings=("max_wal_size = 2GB",))
    try:
        url = own.create_database("crash")
        for moment in (0.1, 0.3, 0.6):
            process = start(command(sample_root, url))
            # From the moment on at which the load has begun: before it, a server that is down is a plain error.
            while own.execute("SELECT to_regclass('sample.task_result')", "crash")[0][0] is None:
                time.sleep(0.02)
            time.sleep(moment)
            own.stop("immediate")
            time.sleep(0.3)
            own.start()
            output = process.communicate()[1]
            assert process.returncode == 0, output
            assert digests(url) == undisturbed["postgresql"]
            wipe(url)
    finally:
        own.remove()


def test_interrupted(
    sample_root: Path, database_target: str, undisturbed: dict[str, dict[str, tuple[int, str]]]
) -> None:
    words = command(sample_root, database_target)
    states: list[str] = []
    for _ in range(30):
        process = start(words)
        while process.poll() is None and not executions(database_target):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output = process.communicate()[1]
        if process.returncode == 130:
            states = executions(database_target)
            break
        # Too late.
        wipe(database_target)
    assert output.strip().splitlines()[-1] == "specprod-load: interrupted"
    assert states == ["cancelled"]
    assert subprocess.run(words, check=False).returncode == 0
    assert digests(database_target) == undisturbed[kind(database_target)]


def executions(target: str) -> list[str]:
    """States of the runs in the ledger, none if there is no ledger yet."""
    from specprod.errors import DatabaseError
    from specprod.results.orm import OrmPipelineResultsStorage

    with specprod_database.connect(target, schema="sample", create=True) as database:
        try:
            return [str(item.state) for item in OrmPipelineResultsStorage(database).get_pipeline_executions()]
        except DatabaseError:
            return []


def test_two_at_once(
    sample_root: Path, database_target: str, undisturbed: dict[str, dict[str, tuple[int, str]]]
) -> None:
    words = command(sample_root, database_target)
    processes = [start(words) for _ in range(2)]
    outputs = [process.communicate()[1] for process in processes]
    codes = sorted(process.returncode for process in processes)
    assert codes in ([0, 1], [0, 0]), outputs
    if codes == [0, 1]:
        assert "is being loaded by another process" in "".join(outputs)
    assert digests(database_target) == undisturbed[kind(database_target)]


def test_a_chunk_of_another_loader_is_refused(sample_root: Path, database_target: str) -> None:
    """Even without the lock no rows are loaded twice: the ledger refuses the second record."""
    from specprod.errors import ConstraintError
    from specprod.results.orm import OrmPipelineResultsStorage

    assert main(command(sample_root, database_target, "--stage", "exposures")[3:]) == 0
    with specprod_database.connect(database_target, schema="sample", create=True) as database:
        storage = OrmPipelineResultsStorage(database)
        first = next(storage.get_task_results(table_name="tile"))
        with pytest.raises(ConstraintError):
            storage.insert(first)


def test_lock_is_named(sample_root: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:

    held = threading.Event()
    release = threading.Event()

    def hold() -> None:
        with specprod_database.connect(postgres_url, schema="sample") as database, database.locked():
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(30)
        assert main(command(sample_root, postgres_url)[3:]) == 1
    finally:
        release.set()
        holder.join()
    assert "of user tester from 127.0.0.1" in capsys.readouterr().err


def test_changed_files(
    sample_root: Path, tmp_path: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A touched file is the same; a changed one stops the load, and --reload makes the tables what the files say."""
    tree = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    words = command(tree, database_target)[3:]
    assert main(words) == 0
    before = digests(database_target)
    zpix = tree / "spectro/redux/sample/zcatalog/zall-pix-sample.fits"
    phot = sorted((tree / "vac").rglob("tractorphot*.fits"))[0]
    zpix.touch()
    phot.touch()
    assert main(words) == 0
    assert digests(database_target) == before

    def fewer(rows: object) -> object:
        rows["Z"][5] += 0.25
        return rows[:-3]

    altered(zpix, "ZCATALOG", fewer)
    # Three sources are no longer in the Tractor file: their photometry is now that of targeting.
    altered(phot, "TRACTORPHOT", lambda rows: rows[3:])
    capsys.readouterr()
    assert main(words) == 1
    message = capsys.readouterr().err
    assert "has changed since its rows" in message
    assert "--reload" in message
    assert digests(database_target) == before
    assert main([*words, "--reload"]) == 0
    clean = database_target if database_target.startswith("postgresql") else f"{database_target}.clean"
    schema = ["--schema", "clean"] if clean == database_target else []
    assert main(["run", str(tree), "--specprod", "sample", "--database", clean, "--quiet", *schema]) == 0
    assert digests(database_target) == digests(clean, "clean" if schema else "sample") != before
    assert main(words) == 0


def test_a_reload_that_loses_its_connection_is_tried_again(
    sample_root: Path, tmp_path: Path, postgres_url: str
) -> None:
    """The server ends the connection when the new entry of the ledger is written, after the old ones were removed."""
    tree = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    words = command(tree, postgres_url)[3:]
    assert main(words) == 0
    altered(tree / "spectro/redux/sample/zcatalog/zall-pix-sample.fits", "ZCATALOG", lambda rows: rows[:-3])
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE public.once")
        # What a sequence gave is not taken back with the transaction.
        connection.execute(
            "CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF nextval('public.once') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; "
            "RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE TRIGGER lose AFTER INSERT ON sample.task_result FOR EACH STATEMENT EXECUTE FUNCTION public.lose()"
        )
        assert main([*words, "--reload"]) == 0
        assert connection.execute("SELECT last_value FROM public.once").fetchone()[0] >= 2
    assert main(["run", str(tree), "--specprod", "sample", "--database", postgres_url, "--schema", "clean"]) == 0
    assert digests(postgres_url) == digests(postgres_url, "clean")
    assert main(words) == 0


def test_other_arguments_stop_the_load(
    sample_root: Path, tmp_path: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(sample_root, database_target)[3:]
    assert main([*words, "--stage", "exposures"]) == 0
    config = tmp_path / "other.toml"
    config.write_text('[productions.sample]\nphotometry = "v9.9"\n')
    capsys.readouterr()
    assert main([*words, "--config", str(config)]) == 1
    assert "photometry 'v1.0', but 'v9.9' is asked for" in capsys.readouterr().err
