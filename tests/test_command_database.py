"""The command against databases: what is refused, passwords, names, signals, progress."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fitsio
import psycopg
import pytest

from specprod.cli.main import main
from specprod.database import connect
from specprod.errors import ConfigurationError, ValueRejectedError
from specprod.files.tree import ProductionTree
from specprod.loading.interfaces import FileLoad
from specprod.loading.loader import Loader
from specprod.production.job import load_production
from specprod.production.setup import kept_version, load_versions, setup_db
from specprod.results.orm import OrmPipelineResultsStorage
from support.digests import digests

COMMAND = str(Path(sys.executable).with_name("specprod-load"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "user:geheim@host/db",
        "user:ge/heim@host/db",
        "//user:geheim@host/db",
        "postgresql:user:geheim@host/db",
        "host=localhost password=geheim",
        "host=localhost password='geheim und mehr",
        "dbname=desi user=geheim",
        "postgresql://user:geheim@host:port/db",
        ":memory:",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:geheim?mode=memory&uri=true",
    ],
)
def test_what_is_no_database_is_refused(
    name: str, sample_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["run", str(sample_root), "--specprod", "sample"], ["status"]):
        assert main([*words, "--database", name]) == 2
        printed = capsys.readouterr()
        assert len(printed.err.splitlines()) == 1
        assert "geheim" not in printed.err
        assert printed.out == ""
    with pytest.raises(ConfigurationError) as caught:
        connect(name)
    assert "geheim" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_names_of_files_that_look_like_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a=b.db", "me@home.db", "12:30.db", "./user:name@host.db", str(tmp_path / "x:y@z.db")):
        connect(name, create=True).close()
    assert {"a=b.db", "me@home.db", "12:30.db", "user:name@host.db", "x:y@z.db"} == {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize("query", ["password", "pass%77ord", "p%2561ssword", "sslpassword", "PASSWORD"])
def test_passwords_in_refused_connections(query: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"postgresql://me:ge heim'@127.0.0.1:1/d?{query}=geheim"
    assert main(["status", "--database", url]) == 1
    said = capsys.readouterr().err
    assert said.startswith("specprod-load: cannot open postgresql+psycopg://me:***@127.0.0.1:1/d?")
    assert "heim" not in said


def test_no_password_in_the_ledger(postgres_url: str, sample_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A password with all that could end it early, as a word of its own and together with its option."""
    place = postgres_url.rpartition("@")[2]
    user = postgres_url.removeprefix("postgresql://").partition("@")[0]
    # The server trusts this machine, so that any password will do.
    url = f"postgresql://{user}:ge heim'\"&:?geheim@{place}?pass%77ord=geheim"
    for number, words in enumerate((["--database", url], [f"--database={url}"])):
        schema = f"s{number}"
        assert main(["run", str(sample_root), "--specprod", "sample", *words, "--schema", schema, "-q"]) == 0
        assert main(["status", *words, "--schema", schema, "--json"]) == 0
        with connect(postgres_url, schema=schema) as database:
            (run,) = OrmPipelineResultsStorage(database).get_pipeline_executions()
        assert f"postgresql://{user}:***@{place}?pass%77ord=***" in run.command
        assert "heim" not in repr(run)
    assert "heim" not in "".join(capsys.readouterr())


def test_schema_names(postgres_url: str, sample_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--specprod", "sample", "--database", postgres_url, "--schema"]
    for name in ("x" * 64, "é" * 32):
        assert main(["run", str(sample_root), *words, name]) == 2
        assert "has 64 bytes; PostgreSQL takes names of 63 at most" in capsys.readouterr().err
    for name in ("50%", "%s"):
        assert main(["run", str(sample_root), *words, name]) == 2
        assert f"schema '{name}': expected a name without %" in capsys.readouterr().err
    for name in ("é" * 31, 'a "new" $1 :x {y}'):
        assert main(["run", str(sample_root), *words, name, "-q"]) == 0
        assert main(["verify", str(sample_root), *words, name]) == 0
        assert main(["status", *words, name, "--root", str(sample_root)]) == 0
        assert main(["index", "--database", postgres_url, "--schema", name]) == 0
        assert main(["primary", "--database", postgres_url, "--schema", name]) == 0
        assert main(["run", str(sample_root), *words, name, "-q", "--overwrite", "--yes"]) == 0
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'a %' OR nspname LIKE 'é%'")
        assert sorted(row[0] for row in found) == ['a "new" $1 :x {y}', "é" * 31]


def test_versions_that_are_too_long(
    database_target: str, sample_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "a.toml"
    config.write_text('[productions.sample]\nphotometry = "v1.0-of-the-twenty-first-day"\n')
    words = ["run", str(sample_root), "--specprod", "sample", "--database", database_target]
    assert main([*words, "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert said == (
        "specprod-load: productions.sample: photometry 'v1.0-of-the-twenty-first-day' has 28 characters; "
        "table version holds 20\n"
    )
    assert not Path(database_target).exists()


def test_versions_that_functions_are_given(sqlite_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those of data are refused; that of a package under development is cut, and a load goes on."""
    with setup_db(sqlite_file) as database:
        with pytest.raises(ValueRejectedError, match=r"version 'v1.0-of-the-twenty-first' of lsd9-photometry has 24"):
            load_versions("v1.0-of-the-twenty-first", "base", "dr1", "iron", "1.1", database=database)
        load_versions("v" * 20, "base", "dr1", "iron", "1.1", database=database)
    with contextlib.closing(sqlite3.connect(sqlite_file)) as connection:
        found = dict(connection.execute("SELECT package, version FROM version"))
    assert found["lsd9-photometry"] == "v" * 20
    with caplog.at_level(logging.WARNING, "specprod"):
        assert kept_version("numpy", "2.4.0.dev0+git20261121.abcdef") == "2.4.0.dev0+git202611"
    assert "version 2.4.0.dev0+git20261121.abcdef of numpy is kept as 2.4.0.dev0+git202611" in caplog.text


def test_files_have_one_name_in_ledger_status_and_verify(
    sample_root: Path, tmp_path: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that are links out of the root: status had no name for them."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere.fits"
    shutil.copytree(sample_root, root)
    file = root / "spectro/redux/sample/zcatalog/zall-pix-sample.fits"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    words = ["--specprod", "sample", "--database", database_target]
    assert main(["run", str(root), *words, "-q"]) == 0
    capsys.readouterr()
    assert main(["status", *words, "--root", str(root), "--files", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["left"] == []
    names = {item["file"] for item in found["files"]}
    assert {str(elsewhere), "spectro/redux/sample/tiles-sample.fits"} <= names
    assert main(["verify", str(root), *words, "--json"]) == 0
    tables = {item["table"]: item["files"] for item in json.loads(capsys.readouterr().out)["tables"]}
    assert tables["zpix"] == 1


@pytest.mark.parametrize("name", ["/dev/zero", "pipe"])
def test_configuration_that_is_no_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    assert main(["config", "--config", str(path)]) == 2
    assert capsys.readouterr().err == f"specprod-load: {path}: is a device or a pipe, expected a file\n"


def test_configuration_without_an_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    assert main(["config", "--config", str(path)]) == 2
    assert "is larger than 1 MiB" in capsys.readouterr().err


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def states(target: str) -> list[tuple[str, str]]:
    with connect(target, schema="sample") as database:
        return [(str(r.state), r.message or "") for r in OrmPipelineResultsStorage(database).get_pipeline_executions()]


def test_terminated(database_target: str, sample_root: Path, tmp_path: Path) -> None:
    """As after Ctrl-C the run is cancelled, and the same command goes on."""
    words = ["run", str(sample_root), "--specprod", "sample", "--chunksize", "20", "-q", "--database"]
    with started(*words, database_target) as process:
        while process.poll() is None:
            with contextlib.suppress(Exception):
                if states(database_target) == [("running", "")]:
                    break
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (143, "", "specprod-load: terminated\n")
    assert states(database_target) == [("cancelled", "Terminated")]
    assert main([*words, database_target]) == 0
    assert states(database_target)[1:] == [("done", "")]
    other = str(tmp_path / "undisturbed.db")
    assert main([*words, other]) == 0
    assert {k: v[0] for k, v in digests(database_target).items()} == {k: v[0] for k, v in digests(other).items()}


class Notes:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, int]] = []

    def expect(self, load: FileLoad, rows: int) -> None:
        self.said.append(("expect", load.path.name, rows))

    def start(self, load: FileLoad, rows: int) -> None:
        self.said.append(("start", load.path.name, rows))

    def advance(self, load: FileLoad, rows: int) -> None:
        self.said.append(("advance", load.path.name, rows))

    @contextlib.contextmanager
    def during(self, what: str) -> Iterator[None]:
        self.said.append(("begin", what, 0))
        yield
        self.said.append(("end", what, 0))


def test_totals_come_before_rows(database_target: str, sample_root: Path) -> None:
    from specprod.configuration import load_configuration

    notes = Notes()
    tree = ProductionTree(sample_root, load_configuration(environ={}).production("sample"))
    with connect(database_target, schema="s", create=True) as database:
        setup_db(database=database)
        load_production(database, tree, Loader(database, progress=notes))
    kinds = [kind for kind, _, _ in notes.said]
    expected = {name: rows for kind, name, rows in notes.said[: kinds.index("start")] if kind == "expect"}
    catalogue = tree.redshifts("zpix")[0][0].path
    assert expected[catalogue.name] == len(fitsio.read(str(catalogue), "ZCATALOG"))
    assert {path.name for path in tree.tractorphot()} <= expected.keys()
    told = {what for kind, what, _ in notes.said if kind == "begin"}
    assert {"keys and indexes of zpix", "references of zpix", "keys and indexes of photometry"} <= told
    assert told == {what for kind, what, _ in notes.said if kind == "end"}


def screen(text: str) -> list[str]:
    """What a terminal shows in the end, of the control sequences that rich uses."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", text):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif up := re.fullmatch(r"\x1b\[(\d+)A", token):
            row -= int(up[1])
        elif token == "\x1b[2K":
            lines[row] = ""
        elif not token.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
            column += len(token)
    return lines


def test_log_and_bars_on_one_terminal(sample_root: Path, sqlite_file: Path) -> None:
    """Each line of the log stands by itself, with the time, whatever the bars do."""
    words = ["run", str(sample_root), "--specprod", "sample", "--database", str(sqlite_file), "-v"]
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(COLUMNS="400", LINES="50", TERM="xterm")
        os.execv(COMMAND, [COMMAND, *words])
    shown = b""
    while True:
        select.select([terminal], [], [], 60)
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:
            break
        shown += part
    assert os.waitpid(child, 0)[1] == 0
    lines = screen(shown.decode())
    logged = [line for line in lines if "INFO: " in line]
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO: \S.*"
    assert len(logged) > 20
    assert [line for line in lines if "━" in line or ("INFO" in line and not re.fullmatch(pattern, line))] == []
    assert any("keys and indexes of zpix done in" in line for line in logged)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"zpix +━+ +[\d,]+ of [\d,]+ rows \d:\d\d:\d\d [-\d]:[-\d]+:[-\d]+ left", plain)


def test_log_without_a_terminal(sample_root: Path, sqlite_file: Path) -> None:
    words = [COMMAND, "run", str(sample_root), "--specprod", "sample", "--database", str(sqlite_file), "-v", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|WARNING): ", line) for line in done.stderr.splitlines())
    assert json.loads(done.stdout)["total"]["rows"] > 0
    assert logging.getLogger("specprod").level == logging.NOTSET


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    root = os.path.join(os.fsencode(tmp_path), b"prod\xff")
    os.mkdir(root)
    command, database = os.fsencode(COMMAND), os.fsencode(tmp_path / "a.db")
    words = [command, b"run", root, b"--specprod", b"sample", b"--stage", b"exposures", b"--database", database]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 1
    assert rb"prod\xff/spectro/redux/sample/tiles-sample.fits: no such file" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = subprocess.run([command, b"status", b"--database", database], capture_output=True, check=True)
    assert rb"prod\xff/spectro" in done.stdout
    jobs = os.path.join(root, b"jobs")
    words = [command, b"batch", b"a@b.org", root, b"iron", b"--job-dir", jobs]
    done = subprocess.run(words, capture_output=True, check=True)
    assert all(os.path.exists(line) for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) > 5
