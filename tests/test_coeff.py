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
from astropy.table import Table

from sample_files import objects
from specprod import connect, load
from specprod.cli.main import main
from specprod.coeff import ZpixPatch, ZtilePatch, copy_columns
from specprod.database.locking import locked
from specprod.database.schema import TABLES
from specprod.errors import ConfigurationError, MissingColumnError, ValueRejectedError
from support.server import Server

pytestmark = pytest.mark.compat

SQL = Path(__file__).parents[1] / "data" / "coeff_patch.sql"
CATALOGUES = {"zpix": "zall-pix-sample", "ztile": "zall-tilecumulative-sample"}
PROGRAMS = {"backup": 1, "bright": 2, "dark": 3, "other": 4, "dark1b": 5, "bright1b": 6}
SURVEYS = {"cmx": 1, "special": 2, "sv1": 3, "sv2": 4, "sv3": 5, "main": 6}
COEFFICIENTS = [f"coeff_{i}" for i in range(10)]

Statements = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def catalogues(sample_root: Path) -> dict[str, np.ndarray]:
    """Rows of the catalogues that are not sky, by table."""
    found = {table: next(sample_root.rglob(f"{name}.fits")) for table, name in CATALOGUES.items()}
    return {table: objects(fitsio.read(str(path), ext="ZCATALOG")) for table, path in found.items()}


@pytest.fixture(scope="module")
def patch_files(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("patches") / "new"
    words = ["coeff-fix", "extract", str(sample_root), "--specprod", "sample", "--output", str(directory)]
    assert main(words) == 0
    return [str(directory / f"{name}-coeff-patch.fits") for name in CATALOGUES.values()]


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


def truth(catalogue: np.ndarray, table: str) -> dict[int, list[float]]:
    """Coefficients by id, after the rules of the catalogue."""
    found = {}
    for row in catalogue:
        survey, program = (str(row[name]).strip() for name in ("SURVEY", "PROGRAM"))
        if table == "zpix":
            key = PROGRAMS[program] << 96 | SURVEYS[survey] << 64 | int(row["TARGETID"])
        else:
            group = 3 << 27 | int(row["SPGRPVAL"])
            key = group << 96 | int(row["TILEID"]) << 64 | int(row["TARGETID"])
        found[key] = row["COEFF"].tolist()
    return found


# Extraction


@pytest.mark.parametrize("table", ["zpix", "ztile"])
def test_patch_file(table: str, patch_files: list[str], catalogues: dict[str, np.ndarray]) -> None:
    path = patch_files[list(CATALOGUES).index(table)]
    catalogue = catalogues[table]
    assert [hdu.get_extname() for hdu in fitsio.FITS(path)][1:] == ["COEFF_PATCH"]
    patch = fitsio.read(path, ext="COEFF_PATCH")
    keys = {"zpix": ["TARGETID", "SURVEY", "PROGRAM", "HEALPIX"], "ztile": ["TARGETID", "TILEID", "SPGRPVAL"]}[table]
    assert list(patch.dtype.names) == [*keys, "DESINAME", *(name.upper() for name in COEFFICIENTS)]
    for name in [*keys, "DESINAME"]:
        np.testing.assert_array_equal(patch[name], catalogue[name])
    for i in range(10):
        np.testing.assert_array_equal(patch[f"COEFF_{i}"], catalogue["COEFF"][:, i])
    assert not list(Path(path).parent.glob(".*"))


def test_chunks_make_the_same_file(sample_root: Path, patch_files: list[str], tmp_path: Path) -> None:
    words = ["--specprod", "sample", "--output", str(tmp_path), "--chunksize", "7"]
    assert main(["coeff-fix", "extract", str(sample_root), *words]) == 0
    for whole_file in patch_files:
        pieces = tmp_path / Path(whole_file).name
        np.testing.assert_array_equal(fitsio.read(str(pieces), ext=1), fitsio.read(whole_file, ext=1))


def test_catalogues_of_each_survey_and_program(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    sample = ["sample", str(root), "--tiles", "3", "--assigned", "12", "--potential", "20", "--split"]
    assert main(sample) == 0
    assert main(["coeff-fix", "extract", str(root), "--specprod", "sample", "--output", str(tmp_path)]) == 0
    patch = fitsio.read(str(tmp_path / "zall-pix-sample-coeff-patch.fits"), ext="COEFF_PATCH")
    files = sorted(root.rglob("zpix-*.fits"))
    assert len(files) > 1
    expected = set()
    for path in files:
        _, survey, program = path.stem.split("-")
        for row in objects(fitsio.read(str(path), ext="ZCATALOG")):
            expected.add((int(row["TARGETID"]), survey, program, *row["COEFF"].tolist()))
    found = {
        (int(row["TARGETID"]), str(row["SURVEY"]), str(row["PROGRAM"]), *(row[f"COEFF_{i}"] for i in range(10)))
        for row in patch
    }
    assert found == expected


def test_existing_file(sample_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["coeff-fix", "extract", str(sample_root), "--specprod", "sample", "--output", str(tmp_path)]
    mine = tmp_path / "zall-tilecumulative-sample-coeff-patch.fits"
    mine.write_text("mine")
    assert main(words) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]
    assert mine.read_text() == "mine"
    assert main([*words, "--overwrite", "--json"]) == 0
    assert {item["table"] for item in output(capsys)} == {"zpix", "ztile"}


def test_other_catalogues(
    sample_root: Path, patch_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue, _ = fitsio.read(str(next(sample_root.rglob("zall-pix-sample.fits"))), ext="ZCATALOG", header=True)
    catalogue["COEFF"] *= 2
    fitsio.write(str(tmp_path / "zall-pix-sample.fits.gz"), catalogue, extname="ZCATALOG")
    words = [str(sample_root), "--specprod", "sample", "--catalogues", str(tmp_path), "--output", str(tmp_path)]
    assert main(["coeff-fix", "extract", *words]) == 1
    assert "zall-tilecumulative-sample.fits: no such file" in capsys.readouterr().err
    assert main(["coeff-fix", "extract", *words, "--table", "zpix"]) == 0
    other = fitsio.read(str(tmp_path / Path(patch_files[0]).name), ext="COEFF_PATCH")
    np.testing.assert_array_equal(other["COEFF_1"], 2 * fitsio.read(patch_files[0], ext="COEFF_PATCH")["COEFF_1"])


def test_broken_catalogue(sample_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "tree"
    shutil.copytree(sample_root, root)
    path = next(root.rglob("zall-pix-sample.fits"))
    path.write_bytes(path.read_bytes()[:-30000])
    words = ["--specprod", "sample", "--output", str(tmp_path / "out"), "--table", "zpix"]
    assert main(["coeff-fix", "extract", str(root), *words]) == 1
    assert "zall-pix-sample.fits" in capsys.readouterr().err
    assert list((tmp_path / "out").glob("*")) == list((tmp_path / "out").glob(".*")) == []


def test_copy_columns(catalogues: dict[str, np.ndarray]) -> None:
    catalogue = Table(catalogues["ztile"])
    names = list(catalogue["DESINAME"][:9:2])
    del catalogue["DESINAME"]
    before = catalogue.copy()
    by_mask = copy_columns(catalogue, np.arange(len(catalogue)) % 2 == 0, "ztile")
    by_index = copy_columns(catalogue, range(0, 10, 2), "ztile")
    assert len(by_mask) == (len(catalogue) + 1) // 2
    assert by_index.meta["EXTNAME"] == "COEFF_PATCH"
    for table in (by_mask, by_index):
        assert list(table["DESINAME"][:5]) == names
        np.testing.assert_array_equal(table["COEFF_3"][:5], before["COEFF"][:9:2, 3])
    assert len(copy_columns(catalogue, None, "ztile")) == len(catalogue)
    assert catalogue.colnames == before.colnames
    for name in before.colnames:
        np.testing.assert_array_equal(catalogue[name], before[name])


def test_copy_columns_of_wrong_catalogues(catalogues: dict[str, np.ndarray]) -> None:
    catalogue = Table(catalogues["zpix"])
    with pytest.raises(ConfigurationError, match="zpix, ztile"):
        copy_columns(catalogue, None, "photometry")
    with pytest.raises(MissingColumnError, match="TILEID"):
        copy_columns(catalogue["TARGETID", "SPGRPVAL", "DESINAME", "COEFF"], None, "ztile")
    short = catalogue.copy()
    short["COEFF"] = short["COEFF"][:, :4]
    with pytest.raises(ValueRejectedError, match="more than 4 elements"):
        copy_columns(short, None, "zpix")
    catalogue["SURVEY"][3] = "sv9"
    with pytest.raises(ValueRejectedError, match="row 3"):
        copy_columns(catalogue, None, "zpix")


def test_objects(patch_files: list[str]) -> None:
    zpix, ztile = (Table.read(path, hdu="COEFF_PATCH") for path in patch_files)
    one = {name: zpix[name][:1] for name in zpix.colnames} | {"TARGETID": np.array([123456789])}
    (pix,) = ZpixPatch.convert(Table(one), survey="main", program="dark")
    # Check value of the survey's identifiers.
    assert pix.id == 237684487653473477223012617493
    assert (pix.survey, pix.program, pix.coeff_2) == ("main", "dark", zpix["COEFF_2"][0])
    one = {name: ztile[name][:2] for name in ztile.colnames}
    one |= {"TARGETID": np.array([1, 123456789]), "SPGRPVAL": np.array([1, 20220613])}
    (tile,) = ZtilePatch.convert(Table(one), tileid=1234, night=20220601, row_index=[1])
    assert tile.id == 33503513911740049863153959922673896725
    assert (tile.tileid, tile.coeff_9) == (1234, ztile["COEFF_9"][1])


def test_ten_tables() -> None:
    assert len(TABLES) == 10
    assert not {"zpixpatch", "ztilepatch", "zpixbackup", "ztilebackup"} & set(load.Base.metadata.tables)


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


def test_patch_in_another_order(patched: str, execute: Statements, capsys: pytest.CaptureFixture[str]) -> None:
    right = whole(execute, "zpix")
    (changed, _) = spoil(execute)
    wrong = whole(execute, "zpix")
    execute("CREATE TABLE {c}turned AS SELECT * FROM {c}zpixpatch")
    execute("DELETE FROM {c}zpixpatch")
    execute("INSERT INTO {c}zpixpatch SELECT * FROM {c}turned ORDER BY id DESC")
    assert fix("apply", patched, "--table", "zpix", "--backup", "--json") == 0
    assert output(capsys)[0]["changed"] == changed
    assert whole(execute, "zpix") == right
    assert fix("undo", patched, "--table", "zpix") == 0
    assert whole(execute, "zpix") == wrong
    # As many rows, but one of them belongs to none.
    last = execute("SELECT max(id) FROM {c}zpixpatch")[0][0]
    execute(f"UPDATE {{c}}zpixpatch SET id = '{int(last) + 1:039}' WHERE id = '{int(last):039}'")
    capsys.readouterr()
    assert fix("apply", patched, "--table", "zpix") == 1
    assert (
        f"{len(right)} rows, its patch {len(right)}, and {len(right) - 1} have the same id" in capsys.readouterr().err
    )
    assert whole(execute, "zpix") == wrong


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
    with connect(patched, schema="sample") as database, locked(database):
        for step in ("apply", "undo"):
            assert fix(step, patched) == 1
            assert "by another process" in capsys.readouterr().err
    assert whole(execute, "zpix") == before


def test_absent_tables(target: str, sqlite_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fix("apply", target) == 1
    assert 'zpixpatch"; specprod-load coeff-fix load makes it' in capsys.readouterr().err
    assert fix("check", str(sqlite_file.with_name("empty.db"))) == 1
    assert 'there is no table "zpix"' in capsys.readouterr().err


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
