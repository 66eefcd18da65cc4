"""The coefficient fix, step by step, on both databases: counts, one transaction, a backup, the same by psql."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import psycopg
import pytest

from specprod import connect
from specprod.cli.main import main
from specprod.coeff import ZpixPatch
from support.coeff import CATALOGUES, COEFFICIENTS, truth
from support.server import Server

pytestmark = pytest.mark.compat

SQL = Path(__file__).parents[1] / "data" / "coeff_patch.sql"

Statements = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def loaded_sqlite(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loaded") / "sample.db"
    assert main(["run", str(sample_root), "--specprod", "sample", "--quiet", "--database", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def loaded_database(server: Server, sample_root: Path) -> Iterator[str]:
    """Name of a database with the sample production, which is copied for each test."""
    name = f"coeff_{os.getpid()}"
    url = server.create_database(name)
    assert main(["run", str(sample_root), "--specprod", "sample", "--quiet", "--database", url]) == 0
    yield name
    server.drop_database(name)


@pytest.fixture
def on_server(server: Server, loaded_database: str) -> Iterator[str]:
    """URL of a database that holds the sample production."""
    name = f"{loaded_database}_copy"
    server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{loaded_database}"')
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def in_file(sqlite_file: Path, loaded_sqlite: Path) -> str:
    """File that holds the sample production."""
    return str(shutil.copy(loaded_sqlite, sqlite_file))


@pytest.fixture(params=["on_server", "in_file"])
def target(request: pytest.FixtureRequest) -> str:
    """Each of both in turn."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def execute(target: str) -> Iterator[Statements]:
    """Executes and commits SQL, in which {p} stands before tables of the production, {c} before those of the patch."""
    if target.startswith("postgresql"):
        with psycopg.connect(target, autocommit=True) as connection:
            yield statements(connection)
    else:

        def run(statement: str) -> list[tuple[Any, ...]]:
            with sqlite3.connect(target) as file:
                rows = file.execute(statement.format(p="", c="")).fetchall()
            file.close()
            return rows

        yield run


def statements(connection: psycopg.Connection[Any]) -> Statements:
    def run(statement: str) -> list[tuple[Any, ...]]:
        cursor = connection.execute(statement.format(p="sample.", c="coeff_patch_sample."))
        return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def patched(target: str, patch_files: list[str]) -> str:
    """A database with the patch loaded and nothing applied."""
    assert fix("load", target, *patch_files) == 0
    return target


def fix(step: str, target: str, *words: str) -> int:
    return main(["coeff-fix", step, *words, "--specprod", "sample", "--database", target, "--quiet"])


def spoil(execute: Statements) -> tuple[int, int]:
    """Make coefficients wrong, in zpix two in three rows, in ztile one in five; return how many rows."""
    execute("UPDATE {p}zpix SET coeff_0 = coeff_0 + 1, coeff_9 = -9999 WHERE targetid % 3 <> 0")
    execute("UPDATE {p}ztile SET coeff_4 = 1e300 WHERE targetid % 5 = 0")
    zpix, ztile = (
        execute(f"SELECT count(*) FROM {{p}}{table} WHERE {condition}")[0][0]
        for table, condition in (("zpix", "targetid % 3 <> 0"), ("ztile", "targetid % 5 = 0"))
    )
    assert zpix > 10
    assert ztile > 10
    return zpix, ztile


def whole(execute: Statements, table: str, schema: str = "{p}") -> list[tuple[Any, ...]]:
    return sorted(execute(f"SELECT * FROM {schema}{table}"), key=str)


def output(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return json.loads(capsys.readouterr().out)


# Load


def test_loaded_tables(patched: str, execute: Statements, catalogues: dict[str, np.ndarray]) -> None:
    for table, catalogue in catalogues.items():
        rows = execute(f"SELECT id, {', '.join(COEFFICIENTS)} FROM {{c}}{table}patch")
        assert {int(key): list(values) for key, *values in rows} == truth(catalogue, table)
    columns = "targetid, survey, program, healpix, desiname"
    expected = {
        (*(int(row["TARGETID"]), *(str(row[n]).strip() for n in ("SURVEY", "PROGRAM"))), int(row["HEALPIX"]),
         str(row["DESINAME"]))
        for row in catalogues["zpix"]
    }  # fmt: skip
    assert set(execute(f"SELECT {columns} FROM {{c}}zpixpatch")) == expected
    if patched.startswith("postgresql"):
        nullable = execute(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'coeff_patch_sample' "
            "AND is_nullable = 'YES'"
        )
        assert nullable == [(0,)]


def test_load_twice(patched: str, patch_files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fix("load", patched, patch_files[0]) == 1
    assert "loaded already" in capsys.readouterr().err
    assert fix("load", patched, patch_files[0], "--overwrite", "--json") == 0
    assert [item["table"] for item in output(capsys)] == ["zpixpatch"]


def test_load_that_did_not_end(
    target: str, patch_files: list[str], execute: Statements, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = fitsio.read(patch_files[0], ext="COEFF_PATCH")
    rows["SURVEY"][-1] = b"sv9"
    broken = tmp_path / "broken.fits"
    fitsio.write(str(broken), rows, extname="COEFF_PATCH")
    assert fix("load", target, str(broken), "--chunksize", "10") == 1
    message = capsys.readouterr().err
    assert f"{broken}, HDU COEFF_PATCH, column SURVEY, row {rows.size - 1}" in message
    assert 0 < execute("SELECT count(*) FROM {c}zpixpatch")[0][0] < rows.size
    for step in ("check", "apply"):
        assert fix(step, target, "--table", "zpix") == 1
        assert "did not end" in capsys.readouterr().err
    assert fix("load", target, patch_files[0]) == 0
    assert fix("check", target, "--table", "zpix") == 0


def test_load_of_another_file(target: str, sample_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue = next(sample_root.rglob("zall-pix-sample.fits"))
    assert fix("load", target, str(catalogue)) == 1
    assert "no HDU COEFF_PATCH" in capsys.readouterr().err
    assert fix("load", target, "absent.fits") == 1
    assert "absent.fits: no such file" in capsys.readouterr().err


# Check, apply, undo


@pytest.fixture(params=["same order", "reversed", "two exchanged"])
def ordered(request: pytest.FixtureRequest, patched: str, execute: Statements) -> str:
    """A database whose patches were written anew, in the order of their tables and in others.

    SQLite matches the rows by their number where all agree, else by id.
    """
    by = {
        "same order": "number",
        "reversed": "number DESC",
        "two exchanged": "CASE number WHEN 1 THEN 2.5 ELSE number END",
    }
    place = "ctid" if patched.startswith("postgresql") else "rowid"
    for table in CATALOGUES:
        numbers = f"SELECT id, row_number() OVER (ORDER BY {place}) AS number FROM {{p}}{table}"
        execute(f"CREATE TABLE {{c}}old AS SELECT * FROM {{c}}{table}patch")
        execute(f"DELETE FROM {{c}}{table}patch")
        execute(
            f"INSERT INTO {{c}}{table}patch SELECT old.* FROM {{c}}old AS old JOIN ({numbers}) AS numbers "
            f"ON old.id = numbers.id ORDER BY {by[request.param]}"
        )
        execute("DROP TABLE {c}old")
        if place == "rowid":
            rows, patch = (set(execute(f"SELECT rowid, id FROM {name}")) for name in (table, f"{table}patch"))
            agree = {"same order": len(rows), "reversed": len(rows) % 2, "two exchanged": len(rows) - 2}
            assert len(rows & patch) == agree[request.param]
    return patched


def test_any_order_of_the_patch(
    ordered: str, execute: Statements, catalogues: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    right = {table: whole(execute, table) for table in CATALOGUES}
    wrong_rows = spoil(execute)
    wrong = {table: whole(execute, table) for table in CATALOGUES}
    assert fix("apply", ordered, "--backup", "--json") == 0
    done = output(capsys)
    assert [item["changed"] for item in done] == [item["saved"] for item in done] == list(wrong_rows)
    for table, catalogue in catalogues.items():
        rows = execute(f"SELECT id, {', '.join(COEFFICIENTS)} FROM {{p}}{table}")
        assert {int(key): list(values) for key, *values in rows} == truth(catalogue, table)
    assert {table: whole(execute, table) for table in CATALOGUES} == right
    assert fix("undo", ordered, "--json") == 0
    assert [item["changed"] for item in output(capsys)] == list(wrong_rows)
    assert {table: whole(execute, table) for table in CATALOGUES} == wrong


def test_one_other_id_in_any_order(
    ordered: str, execute: Statements, catalogues: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(execute)
    before = {table: whole(execute, table) for table in CATALOGUES}
    key = sorted(truth(catalogues["zpix"], "zpix"))[5]
    execute(f"UPDATE {{c}}zpixpatch SET id = '{12:039}' WHERE id = '{key:039}'")
    assert fix("apply", ordered, "--backup") == 1
    rows = catalogues["zpix"].size
    message = f"zpix has {rows} rows, its patch {rows}, and {rows - 1} have the same id"
    assert message in capsys.readouterr().err
    assert {table: whole(execute, table) for table in CATALOGUES} == before
    assert fix("undo", ordered) == 1
    assert "no backup" in capsys.readouterr().err


def test_fix_and_undo(patched: str, execute: Statements, capsys: pytest.CaptureFixture[str]) -> None:
    right = {table: whole(execute, table) for table in CATALOGUES}
    wrong_rows = spoil(execute)
    wrong = {table: whole(execute, table) for table in CATALOGUES}
    assert fix("check", patched, "--json") == 0
    counts = output(capsys)
    assert [item["table"] for item in counts] == ["zpix", "ztile"]
    for item, differing, table in zip(counts, wrong_rows, CATALOGUES, strict=True):
        rows = len(right[table])
        assert list(item.values()) == [table, rows, rows, rows, differing]

    assert fix("apply", patched, "--dry-run", "--json") == 0
    assert [item["changed"] for item in output(capsys)] == list(wrong_rows)
    assert {table: whole(execute, table) for table in CATALOGUES} == wrong

    assert fix("apply", patched, "--backup", "--json") == 0
    done = output(capsys)
    assert [item["changed"] for item in done] == [item["saved"] for item in done] == list(wrong_rows)
    assert {table: whole(execute, table) for table in CATALOGUES} == right

    for words in (["--backup"], []):
        assert fix("apply", patched, *words, "--json") == 0
        assert [item["changed"] for item in output(capsys)] == [0, 0]
    assert {table: whole(execute, table) for table in CATALOGUES} == right

    assert fix("undo", patched, "--json") == 0
    assert [item["changed"] for item in output(capsys)] == list(wrong_rows)
    assert {table: whole(execute, table) for table in CATALOGUES} == wrong
    assert fix("undo", patched) == 1
    assert "no backup" in capsys.readouterr().err
    assert fix("apply", patched, "--backup") == 0
    assert {table: whole(execute, table) for table in CATALOGUES} == right


def test_rows_that_are_right_are_not_written(patched: str, execute: Statements) -> None:
    if not patched.startswith("postgresql"):
        execute("CREATE TABLE seen (id TEXT)")
        execute("CREATE TRIGGER watch AFTER UPDATE ON zpix BEGIN INSERT INTO seen VALUES (new.id); END")
    spoil(execute)
    if patched.startswith("postgresql"):
        before = dict(execute("SELECT id, xmin::text FROM {p}zpix"))
        assert fix("apply", patched) == 0
        after = dict(execute("SELECT id, xmin::text FROM {p}zpix"))
        written = {key for key, transaction in after.items() if transaction != before[key]}
    else:
        execute("DELETE FROM seen")
        assert fix("apply", patched) == 0
        written = {key for (key,) in execute("SELECT id FROM seen")}
    assert written == {key for (key,) in execute("SELECT id FROM {p}zpix WHERE targetid % 3 <> 0")}


@pytest.mark.parametrize(
    ("statement", "numbers"),
    [
        ("DELETE FROM {c}ztilepatch WHERE id = (SELECT min(id) FROM {c}ztilepatch)", (0, -1, -1)),
        ("DELETE FROM {p}ztile WHERE id = (SELECT min(id) FROM {p}ztile)", (-1, 0, -1)),
        (
            "UPDATE {c}ztilepatch SET id = '0000000000000000012' WHERE id = (SELECT min(id) FROM {c}ztilepatch)",
            (0, 0, -1),
        ),
    ],
)
def test_counts_disagree(
    patched: str,
    execute: Statements,
    statement: str,
    numbers: tuple[int, int, int],
    catalogues: dict[str, np.ndarray],
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(execute)
    execute(statement)
    production, patch, joined = (catalogues["ztile"].size + number for number in numbers)
    before = {table: whole(execute, table) for table in CATALOGUES}
    for words in (["check"], ["apply", "--backup"], ["apply", "--dry-run"]):
        assert fix(words[0], patched, *words[1:]) == 1
        expected = f"ztile has {production} rows, its patch {patch}, and {joined} have the same id"
        message = capsys.readouterr().err
        assert expected in message
        assert "zpix has" not in message
    assert {table: whole(execute, table) for table in CATALOGUES} == before
    # The other table can be fixed by itself.
    assert fix("apply", patched, "--table", "zpix") == 0


def test_failure_in_the_last_moment(patched: str, execute: Statements, capsys: pytest.CaptureFixture[str]) -> None:
    """A trigger of the database turns a new value into another: the check sees it, and nothing stays."""
    zpix, _ = spoil(execute)
    if patched.startswith("postgresql"):
        execute(
            "CREATE FUNCTION {p}worse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN new.coeff_1 := 5; RETURN new; END $$"
        )
        execute("CREATE TRIGGER worse BEFORE UPDATE ON {p}zpix FOR EACH ROW EXECUTE FUNCTION {p}worse()")
    else:
        execute(
            "CREATE TRIGGER worse AFTER UPDATE OF coeff_0 ON zpix "
            "BEGIN UPDATE zpix SET coeff_1 = 5 WHERE id = new.id; END"
        )
    before = {table: whole(execute, table) for table in CATALOGUES}
    assert fix("apply", patched, "--backup") == 1
    assert f"{zpix} rows of zpix differ after the fix" in capsys.readouterr().err
    assert {table: whole(execute, table) for table in CATALOGUES} == before
    assert fix("undo", patched) == 1
    assert "no backup" in capsys.readouterr().err


def test_undo_leaves_later_changes(patched: str, execute: Statements, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(execute)
    assert fix("apply", patched, "--backup") == 0
    execute("UPDATE {p}zpix SET coeff_5 = 77 WHERE id = (SELECT min(id) FROM {c}zpixbackup)")
    before = {table: whole(execute, table) for table in CATALOGUES}
    assert fix("undo", patched) == 1
    assert "1 rows of zpix no longer have the values of the patch" in capsys.readouterr().err
    assert {table: whole(execute, table) for table in CATALOGUES} == before
    assert fix("undo", patched, "--table", "ztile") == 0
    assert {table: whole(execute, table) for table in CATALOGUES} != before


def test_backup_is_not_replaced(patched: str, execute: Statements, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(execute)
    assert fix("apply", patched, "--backup") == 0
    kept = whole(execute, "zpixbackup", "{c}")
    spoil(execute)
    before = whole(execute, "zpix")
    assert fix("apply", patched, "--backup") == 1
    assert "holds the backup of an earlier fix" in capsys.readouterr().err
    assert whole(execute, "zpixbackup", "{c}") == kept
    assert whole(execute, "zpix") == before


def test_another_loader(patched: str, execute: Statements, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(execute)
    before = whole(execute, "zpix")
    with connect(patched, schema="sample") as database, database.locked():
        for step in ("apply", "undo"):
            assert fix(step, patched) == 1
            assert "by another process" in capsys.readouterr().err
    assert whole(execute, "zpix") == before


def test_absent_tables(target: str, sqlite_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fix("apply", target) == 1
    assert 'zpixpatch"; specprod-load coeff-fix load makes it' in capsys.readouterr().err
    assert fix("check", str(sqlite_file.with_name("empty.db"))) == 1
    assert "there is no such database" in capsys.readouterr().err


def test_all(target: str, execute: Statements, sample_root: Path, tmp_path: Path) -> None:
    right = {table: whole(execute, table) for table in CATALOGUES}
    spoil(execute)
    words = [str(sample_root), "--output", str(tmp_path / "patches"), "--backup"]
    assert fix("all", target, *words) == 0
    assert {table: whole(execute, table) for table in CATALOGUES} == right
    assert execute("SELECT count(*) FROM {c}zpixbackup")[0][0] > 0
    assert main(["verify", str(sample_root), "--specprod", "sample", "--database", target, "--quiet"]) == 0


# By hand


def psql(url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    words = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
    return subprocess.run(
        ["psql", url, "-X", "-At", *words, "-f", str(SQL)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def by_hand(on_server: str, patch_files: list[str]) -> Iterator[Statements]:
    """Executes SQL in a database with the patch loaded."""
    assert fix("load", on_server, *patch_files) == 0
    with psycopg.connect(on_server, autocommit=True) as connection:
        yield statements(connection)


def test_file_and_command_give_the_same_tables(on_server: str, by_hand: Statements) -> None:
    names = [*CATALOGUES, "zpixbackup", "ztilebackup"]
    places = ["{p}", "{p}", "{c}", "{c}"]

    def everything() -> dict[str, list[tuple[Any, ...]]]:
        return {name: whole(by_hand, name, place) for name, place in zip(names, places, strict=True)}

    wrong_rows = spoil(by_hand)
    wrong = {name: whole(by_hand, name) for name in CATALOGUES}
    assert fix("apply", on_server, "--backup") == 0
    by_command = everything()
    assert fix("undo", on_server) == 0
    assert {name: whole(by_hand, name) for name in CATALOGUES} == wrong

    done = psql(on_server, specprod="sample", backup="on")
    assert done.returncode == 0, done.stderr
    rows = [len(wrong[name]) for name in CATALOGUES]
    assert done.stdout.splitlines() == [
        f"{name}|{total}|{number}|{number}" for name, total, number in zip(CATALOGUES, rows, wrong_rows, strict=True)
    ]
    assert everything() == by_command
    # What the file kept, the command restores; and a second run of the file changes nothing.
    again = psql(on_server, specprod="sample", schema="coeff_patch_sample", table="ztile")
    assert again.stdout.splitlines() == [f"ztile|{rows[1]}|0|"]
    assert fix("undo", on_server) == 0
    assert {name: whole(by_hand, name) for name in CATALOGUES} == wrong


def test_file_stops(on_server: str, by_hand: Statements) -> None:
    spoil(by_hand)
    by_hand("DELETE FROM {c}ztilepatch WHERE id = (SELECT max(id) FROM {c}ztilepatch)")
    before = whole(by_hand, "zpix")
    done = psql(on_server, specprod="sample", backup="on")
    assert done.returncode == 3
    assert "ztile has 168 rows, its patch 167, and 167 have the same id" in done.stderr
    assert whole(by_hand, "zpix") == before
    for variables, message in (
        ({}, "specprod is not set"),
        ({"specprod": "absent"}, "there is no table absent.zpix"),
        ({"specprod": "sample", "table": "tile"}, "no table coeff_patch_sample.tilepatch"),
        ({"specprod": "sample", "table": "zpix", "rename": "dr1"}, "must be desi_edr or desi_dr1"),
    ):
        done = psql(on_server, **variables)
        assert done.returncode == 3
        assert message in done.stderr
    assert whole(by_hand, "zpix") == before


def test_file_renames(on_server: str, by_hand: Statements) -> None:
    done = psql(on_server, specprod="sample", rename="desi_dr1")
    assert done.returncode == 0, done.stderr
    by_hand("ALTER SCHEMA sample RENAME TO desi_dr1")
    by_hand("UPDATE desi_dr1.zpix SET coeff_0 = 0.5")
    assert main(["coeff-fix", "check", "--specprod", "desi_dr1", "--database", on_server]) == 0
    done = psql(on_server, specprod="desi_dr1")
    assert done.returncode == 0, done.stderr
    assert by_hand("SELECT count(*) FROM desi_dr1.zpix WHERE coeff_0 = 0.5") == [(0,)]


def test_patches_take_survey_and_program_from_the_caller() -> None:
    """The key of zpix is made of both; what is given counts where the data do not have it."""
    data = {
        "TARGETID": np.array([123456789]),
        "HEALPIX": np.array([5]),
        "DESINAME": np.array(["DESI J001.0000+02.0000"]),
    }
    data |= {f"COEFF_{i}": np.array([0.5 + i]) for i in range(10)}
    (dark,) = ZpixPatch.convert(data, survey="main", program="dark")
    (bright,) = ZpixPatch.convert(data, survey="main", program="bright")
    assert (dark.program, dark.id) == ("dark", 237684487653473477223012617493)
    assert (bright.program, bright.id) == ("bright", dark.id - (1 << 96))
    with pytest.raises(KeyError):
        ZpixPatch.convert(data, survey="main")
