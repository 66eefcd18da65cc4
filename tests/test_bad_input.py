"""Input that is not what it should be: one line that says where and what, exit code 1, and nothing half done."""

from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fitsio
import numpy as np
import psycopg
import pytest

from specprod.cli.main import main
from support.digests import digests
from support.server import PASSWORD, Server

REDUX = "spectro/redux/sample"
TILES = f"{REDUX}/tiles-sample.fits"
EXPOSURES = f"{REDUX}/exposures-sample.fits"
ZPIX = f"{REDUX}/zcatalog/zall-pix-sample.fits"
ZTILE = f"{REDUX}/zcatalog/zall-tilecumulative-sample.fits"


@pytest.fixture
def tree(sample_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample_root, tmp_path / "tree"))


def run(tree: Path, target: str, *more: str) -> int:
    words = ["run", str(tree), "--specprod", "sample", "--database", target, "--chunksize", "40", "--quiet", *more]
    return main(words)


def rewrite(path: Path, hdu: str, edit: Callable[[Any], Any]) -> None:
    """Rewrite one table of a file; the others are kept as they are."""
    with fitsio.FITS(str(path)) as file:
        tables = [(item.get_extname(), item.read()) for item in list(file)[1:]]
    path.unlink()
    with fitsio.FITS(str(path), "rw") as file:
        for name, rows in tables:
            file.write(edit(rows) if name == hdu else rows, extname=name)


def retyped(rows: Any, column: str, kind: str, value: Any, row: int) -> Any:
    """Give a column another type, and one row a value of it."""
    old = rows.dtype
    new = np.dtype([(name, kind if name == column else old[name]) for name in old.names])
    result = np.zeros(rows.size, dtype=new)
    for name in old.names:
        result[name] = rows[name]
    result[column][row] = value
    return result


def without(rows: Any, column: str) -> Any:
    return (
        rows[[name for name in rows.dtype.names if name != column]]
        .copy()
        .astype([(name, rows.dtype[name]) for name in rows.dtype.names if name != column])
    )


def set_value(rows: Any, column: str, row: int, value: Any) -> Any:
    rows[column][row] = value
    return rows


def cut(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def gz(tree: Path) -> Path:
    return sorted((tree / "target/fiberassign").rglob("*.fits.gz"))[0]


def science(path: Path) -> np.ndarray:
    with fitsio.FITS(str(path)) as file:
        targetid = file["ZCATALOG"]["TARGETID"][:]
    return np.flatnonzero((targetid > 0) & ((targetid >> 59) & 1 == 0))


@dataclass
class Case:
    spoil: Callable[[Path], object]
    says: tuple[str, ...]
    file: Callable[[Path], Path]


def table(name: str, hdu: str, edit: Callable[[Any], Any], *says: str) -> Case:
    return Case(lambda tree: rewrite(tree / name, hdu, edit), (Path(name).name, hdu, *says), lambda tree: tree / name)


CASES: dict[str, Case] = {
    "truncated": Case(
        lambda tree: cut(tree / ZTILE), ("zall-tilecumulative-sample.fits", "truncated"), lambda tree: tree / ZTILE
    ),
    "truncated gz": Case(
        lambda tree: cut(gz(tree)), ("fiberassign-", ".fits.gz", "truncated or corrupt"), gz
    ),
    "no FITS": Case(
        lambda tree: (tree / ZPIX).write_text("no file of this kind"),
        ("zall-pix-sample.fits", "not a FITS file"),
        lambda tree: tree / ZPIX,
    ),
    "missing HDU": Case(
        lambda tree: rename_hdu(tree / ZPIX), ("zall-pix-sample.fits", "no HDU ZCATALOG", "OTHER"), lambda t: t / ZPIX
    ),
    "missing column": table(ZPIX, "ZCATALOG", lambda rows: without(rows, "CHI2"), "column CHI2", "zpix needs CHI2"),
    "out of range": table(
        EXPOSURES, "EXPOSURES", lambda rows: retyped(rows, "NIGHT", "i8", 1 << 40, 2), "column NIGHT, row 2", "range"
    ),
    "text too long": table(
        EXPOSURES, "EXPOSURES", lambda rows: retyped(rows, "SURVEY", "S30", b"a survey of a long name", 1),
        "column SURVEY, row 1", "longer than the 7 characters",
    ),
    "wrong type": table(
        EXPOSURES, "FRAMES", lambda rows: retyped(rows, "EXPID", "f8", 0.5, 0), "column EXPID", "expected integers"
    ),
    "empty table": table(TILES, "TILE_COMPLETENESS", lambda rows: rows[:0], "no rows"),
    "repeated key": table(
        EXPOSURES, "EXPOSURES", lambda rows: set_value(rows, "EXPID", 3, rows["EXPID"][1]), "row 3", "repeats the key"
    ),
    "unknown camera": table(
        EXPOSURES, "FRAMES", lambda rows: set_value(rows, "CAMERA", 57, "q7"), "column CAMERA, row 57", "q7"
    ),
}  # fmt: skip


def rename_hdu(path: Path) -> None:
    rows = fitsio.read(str(path), ext="ZCATALOG")
    fitsio.write(str(path), rows, extname="OTHER", clobber=True)


@pytest.fixture(scope="module")
def undisturbed(
    sample_root: Path, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, tuple[int, str]]]:
    url, path = server.create_database(f"clean_{os.getpid()}"), str(tmp_path_factory.mktemp("clean") / "specprod.db")
    for target in (url, path):
        assert run(sample_root, target) == 0
    return {"postgresql": digests(url), "sqlite": digests(path)}


@pytest.mark.parametrize("name", CASES)
def test_file(
    name: str,
    tree: Path,
    database_target: str,
    undisturbed: dict[str, dict[str, tuple[int, str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = CASES[name]
    path = case.file(tree)
    whole = path.read_bytes()
    case.spoil(tree)
    assert run(tree, database_target) == 1
    output = capsys.readouterr()
    lines = output.err.strip().splitlines()
    assert len(lines) == 1, output.err
    for words in case.says:
        assert words in lines[0]
    clean = undisturbed["postgresql" if database_target.startswith("postgresql") else "sqlite"]
    for table_name, (rows, _) in digests(database_target).items():
        assert rows <= clean[table_name][0]
    path.write_bytes(whole)
    assert run(tree, database_target) == 0, capsys.readouterr().err
    assert digests(database_target) == clean


@pytest.mark.parametrize(("column", "value"), [("SURVEY", "nowhere"), ("PROGRAM", "dusk")])
def test_unknown_survey_and_program(
    column: str,
    value: str,
    tree: Path,
    database_target: str,
    undisturbed: dict[str, dict[str, tuple[int, str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = int(science(tree / ZPIX)[50])
    original = (tree / ZPIX).read_bytes()
    rewrite(tree / ZPIX, "ZCATALOG", lambda rows: set_value(rows, column, row, value))
    assert run(tree, database_target) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert f"zall-pix-sample.fits, HDU ZCATALOG, column {column}, row {row}: unknown name" in lines[0]
    assert repr(value) in lines[0]
    # The chunks of 40 rows of the file before that one are there, sky left out, and nothing of it.
    assert digests(database_target)["zpix"][0] in {0, int(np.sum(science(tree / ZPIX) < row // 40 * 40))}
    (tree / ZPIX).write_bytes(original)
    assert run(tree, database_target) == 0, capsys.readouterr().err
    assert (
        digests(database_target) == undisturbed["postgresql" if database_target.startswith("postgresql") else "sqlite"]
    )


def test_key_that_the_database_has(tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A row of ours that somebody put there by hand is in the way of the file's own."""
    assert run(tree, database_target, "--stage", "exposures") == 0
    before = digests(database_target)
    statement = "DELETE FROM {}task_result WHERE table_name = 'frame'"
    if database_target.startswith("postgresql"):
        with psycopg.connect(database_target) as connection:
            connection.execute(statement.format("sample."))
    else:
        with sqlite3.connect(database_target) as other:
            other.execute(statement.format(""))
    capsys.readouterr()
    assert run(tree, database_target, "--stage", "exposures") == 1
    message = capsys.readouterr().err
    assert "exposures-sample.fits" in message
    assert "frame" in message
    assert digests(database_target) == before


def test_absent_files(tmp_path: Path, tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere", database_target) == 2
    assert "does not exist" in capsys.readouterr().err
    shutil.rmtree(tree / "vac")
    assert run(tree, database_target) == 1
    assert "potential-targets" in capsys.readouterr().err


def test_unwritable_file(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, str(tmp_path / "no" / "such" / "directory.db")) == 1
    assert "directory.db" in capsys.readouterr().err
    other = tmp_path / "other.db"
    other.write_bytes(b"this is not a database at all, but some other file of somebody's" * 40)
    assert run(tree, str(other)) == 1
    assert "not a database" in capsys.readouterr().err


def test_wrong_password(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    server = Server(password=True)
    try:
        url = server.url("postgres", password="secret-but-wrong")
        words = [sys.executable, "-m", "specprod.cli.main", "run", str(tree), "--specprod", "sample"]
        done = subprocess.run([*words, "--database", url, "-vv"], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "password authentication failed" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert "secret-but-wrong" not in done.stdout + done.stderr
        good = subprocess.run([*words, "--database", server.url()], capture_output=True, text=True, check=False)
        assert good.returncode == 0, good.stderr
        commands = "".join(row[0] for row in stored_commands(server.url()))
        assert "tester:***@" in commands
        assert quote(PASSWORD, safe="") not in commands
    finally:
        server.remove()


def stored_commands(url: str) -> list[tuple[str]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT command FROM sample.pipeline_execution").fetchall()


def test_server_down(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, "postgresql://somebody@127.0.0.1:1/none") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "127.0.0.1" in lines[0]
    assert "refused" in lines[0]


def test_tables_of_somebody_else(tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    if database_target.startswith("postgresql"):
        with psycopg.connect(database_target) as connection:
            connection.execute("CREATE SCHEMA sample")
            connection.execute("CREATE TABLE sample.tile (name text)")
            connection.execute("CREATE TABLE sample.diary (day text)")
            connection.execute("INSERT INTO sample.diary VALUES ('monday')")
    else:
        with sqlite3.connect(database_target) as other:
            other.execute("CREATE TABLE tile (name text)")
    for more in ((), ("--overwrite", "--yes")):
        assert run(tree, database_target, *more) == 1
        assert "table tile that is not of this package" in capsys.readouterr().err
    if database_target.startswith("postgresql"):
        with psycopg.connect(database_target) as connection:
            connection.execute("DROP TABLE sample.tile")
        assert run(tree, database_target, "--overwrite", "--yes") == 0
        with psycopg.connect(database_target) as connection:
            assert connection.execute("SELECT day FROM sample.diary").fetchall() == [("monday",)]


def test_role_that_does_not_exist(tree: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, postgres_url, "--public") == 1
    assert "role 'desi' does not exist" in capsys.readouterr().err
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'sample'").fetchone()
        assert found == (0,)


def test_public(tree: Path, server: Server, postgres_url: str, tmp_path: Path) -> None:
    config = tmp_path / "specprod.toml"
    config.write_text('[roles]\ncollaboration = "ourGroup"\npublic = "anybody"\n')
    server.execute('CREATE ROLE "ourGroup"')
    server.execute("CREATE ROLE anybody")
    try:
        assert run(tree, postgres_url, "--public", "--config", str(config)) == 0
        with psycopg.connect(postgres_url) as connection:
            for role in ("ourGroup", "anybody"):
                connection.execute(f'SET ROLE "{role}"')
                assert connection.execute("SELECT count(*) FROM sample.zpix").fetchone()[0] > 0
                connection.execute("RESET ROLE")
    finally:
        server.execute('DROP OWNED BY anybody, "ourGroup"', postgres_url.rpartition("/")[2])
        server.execute('DROP ROLE "ourGroup"')
        server.execute("DROP ROLE anybody")


def test_no_q3c(
    tree: Path,
    server: Server,
    undisturbed: dict[str, dict[str, tuple[int, str]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = f"plain_{os.getpid()}"
    url = server.create_database(name, q3c=False)
    try:
        words = ["run", str(tree), "--specprod", "sample", "--database", url]
        assert main(words) == 0
        assert any("q3c" in record.getMessage() for record in caplog.records if record.levelname == "WARNING")
        assert digests(url) == undisturbed["postgresql"]
    finally:
        server.drop_database(name)


def test_csv_and_ecsv_that_are_none(tmp_path: Path) -> None:
    from specprod.errors import FormatError
    from specprod.files import open_table

    ragged = tmp_path / "tiles.csv"
    ragged.write_text("TILEID,SURVEY\n1,main\n2,main,dark,more\n")
    with pytest.raises(FormatError, match=r"tiles\.csv: cannot be read as csv"):
        open_table(ragged)
    broken = tmp_path / "toos.ecsv"
    broken.write_text("# %ECSV 1.0\n# ---\n# datatype: [nothing\nA B\n1 2\n")
    with pytest.raises(FormatError, match=r"toos\.ecsv: cannot be read as ecsv"):
        open_table(broken)
    packed = tmp_path / "tiles.csv.gz"
    packed.write_bytes(gzip.compress(b"TILEID,SURVEY\n1,main\n")[:-9])
    with pytest.raises(FormatError, match="truncated or corrupt"):
        open_table(packed)
