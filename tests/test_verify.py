"""Each kind of difference between a database and its files is found and named, and nothing else is."""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import fitsio
import numpy as np
import pytest

from specprod.configuration import load_configuration
from specprod.database import connect
from specprod.files.tree import ProductionTree
from specprod.model import Zpix
from specprod.production.verification import verify as verify_database
from support.production import Loaded, is_postgresql, named, run, sql, verify
from support.server import Server

ZPIX = "spectro/redux/sample/zcatalog/zall-pix-sample.fits"
DATABASES = ("postgresql", "sqlite")


@pytest.fixture(scope="module")
def loaded(sample_root: Path, tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Loaded]:
    production = Loaded(sample_root, tmp_path_factory.mktemp("loaded"), server)
    yield production
    production.drop()


@pytest.fixture(params=DATABASES)
def target(request: pytest.FixtureRequest, loaded: Loaded, tmp_path: Path) -> str:
    return loaded.copy(request.param, tmp_path)


@pytest.fixture
def sqlite_target(loaded: Loaded, tmp_path: Path) -> str:
    return loaded.copy("sqlite", tmp_path)


@pytest.fixture
def postgresql_target(loaded: Loaded, tmp_path: Path) -> str:
    return loaded.copy("postgresql", tmp_path)


def free(target: str, *columns: str) -> None:
    """Let columns of PostgreSQL be NULL: SQLite is not asked."""
    if is_postgresql(target):
        for column in columns:
            table, _, name = column.partition(".")
            sql(target, f"ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL")


def unconstrained(target: str, table: str) -> None:
    """Take the key and the references to it from a table."""
    if is_postgresql(target):
        sql(target, f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey CASCADE")
    else:
        sql(target, f"DROP INDEX {table}_pkey")
    sql(target, f"DROP INDEX ix_{table}_unique")


def copy_row(target: str, table: str, where: str, **values: str) -> None:
    """Insert a row that is one of the others, with some values changed."""
    if is_postgresql(target):
        columns = sql(
            target,
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'sample' "
            f"AND table_name = '{table}' ORDER BY ordinal_position",
        )
        names = [name for (name,) in columns]
    else:
        names = [row[1] for row in sql(target, f"PRAGMA table_info({table})")]
    shown = ", ".join(values.get(name, f'"{name}"') for name in names)
    sql(target, f"INSERT INTO {table} SELECT {shown} FROM {table} WHERE {where}")


def test_what_is_equal(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    code, reports = verify(loaded.root, target, capsys)
    assert (code, named(reports)) == (0, [])
    rows = {table: sql(target, f"SELECT count(*) FROM {table}")[0][0] for table in reports}
    assert all(rows.values())
    assert {table: report["found"] for table, report in reports.items()} == rows
    assert {table: report["expected"] for table, report in reports.items()} == rows
    assert list(rows) == [
        "tile", "exposure", "frame", "photometry", "target", "ztile", "zpix", "fiberassign", "potential", "version",
    ]  # fmt: skip


def ulp(value: float, size: int) -> float:
    """Give the next number of 4 or 8 bytes."""
    number, word = (">f", ">I") if size == 4 else (">d", ">Q")
    bits = struct.unpack(word, struct.pack(number, value))[0]
    return float(struct.unpack(number, struct.pack(word, bits + 1))[0])


@pytest.mark.parametrize(
    ("table", "column", "new"),
    [
        ("photometry", "nobs_g", "nobs_g + 1"),
        ("zpix", "zwarn", "zwarn + 1"),
        ("target", "desi_target", "desi_target + 1"),
        ("photometry", "flux_g", 4),
        ("zpix", "z", 8),
        ("zpix", "coeff_3", "coeff_3 + 1"),
        ("zpix", "main_primary", "NOT main_primary"),
        ("zpix", "spectype", "'X'"),
        ("tile", "tilera", 8),
        ("exposure", "date_obs", "date_obs"),
        ("photometry", "maskbits", "maskbits + 1"),
        ("zpix", "desiname", "'DESI J000.0000+00.000é'"),
    ],
)
def test_one_value_of_each_type(
    table: str, column: str, new: str | int, target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    """Small, plain and large integers, 4 and 8 bytes of floating point by one ulp, logical values, text, time."""
    key = {"photometry": "targetid", "tile": "tileid", "exposure": "expid"}.get(table, "id")
    where = f"{key} = (SELECT max({key}) FROM {table})"
    ((number, old),) = sql(target, f"SELECT {key}, {column} FROM {table} WHERE {where}")
    if isinstance(new, int):
        new = repr(ulp(old, new))
    elif column == "date_obs":
        new = "'2021-05-06 07:08:09.000001'" + ("::timestamptz AT TIME ZONE 'UTC'" if is_postgresql(target) else "")
    sql(target, f"UPDATE {table} SET {column} = {new} WHERE {where}")
    code, reports = verify(loaded.root, target, capsys)
    assert code == 3
    ((found_table, what, row, found_column, expected, found),) = named(reports)
    assert (found_table, found_column) == (table, column)
    assert what == f"the row with key {int(number)} differs"
    assert row is not None
    assert expected != found


@pytest.mark.parametrize("column", ["zpix.subtype", "photometry.morphtype", "tile.faprgrm"])
def test_blanks_at_the_end(column: str, target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    table, _, name = column.partition(".")
    key = {"photometry": "targetid", "tile": "tileid"}.get(table, "id")
    ((text,),) = sql(target, f"SELECT {name} FROM {table} WHERE {key} = (SELECT min({key}) FROM {table})")
    sql(target, f"UPDATE {table} SET {name} = {name} || ' ' WHERE {key} = (SELECT min({key}) FROM {table})")
    code, reports = verify(loaded.root, target, capsys)
    ((_, _, _, found_column, expected, found),) = named(reports)
    assert (code, found_column, expected, found) == (3, name, repr(text), repr(f"{text} "))


def test_null(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    if is_postgresql(target):
        free(target, "zpix.z", "zpix.subtype")
    else:
        # SQLite has no way to take NOT NULL from a column but its schema.
        ((schema,),) = sql(target, "SELECT sql FROM sqlite_master WHERE name = 'zpix'")
        schema = re.sub(r'("(?:z|subtype)" [^,]+) NOT NULL', r"\1", schema).replace("'", "''")
        sql(target, "PRAGMA writable_schema = 1", f"UPDATE sqlite_master SET sql = '{schema}' WHERE name = 'zpix'")
    (first, last) = sql(target, "SELECT min(id), max(id) FROM zpix")[0]
    literal = (lambda value: f"'{value}'") if not is_postgresql(target) else str
    sql(target, f"UPDATE zpix SET z = NULL WHERE id = {literal(first)}",
        f"UPDATE zpix SET subtype = NULL WHERE id = {literal(last)}")  # fmt: skip
    code, reports = verify(loaded.root, target, capsys)
    assert code == 3
    found = named(reports)
    values = {(what, column, value) for _, what, row, column, _, value in found if row is not None}
    assert values == {
        (f"the row with key {int(first)} differs", "z", "NULL"),
        (f"the row with key {int(last)} differs", "subtype", "NULL"),
    }
    assert [what for _, what, row, *_ in found if row is None] == ["column z may be NULL", "column subtype may be NULL"]


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("zpix.main_primary", "2", "2"),
        ("zpix.zwarn", "0.5", "0.5"),
        ("zpix.zwarn", "1e30", "1e+30"),
        ("zpix.zwarn", "5000000000", "5000000000"),
        ("zpix.z", "'fast'", "'fast'"),
        ("zpix.healpix", "'here'", "'here'"),
        ("photometry.flux_g", "0.1", "0.1"),
        ("exposure.date_obs", "'yesterday'", "'yesterday'"),
        ("exposure.date_obs", "'2021-05-06 25:61:00.000000'", "'2021-05-06 25:61:00.000000'"),
        ("zpix.spectype", "X'414243'", "X'414243'"),
        ("zpix.spectype", "'A' || char(0) || 'B'", "'A\0B'"),
    ],
)
def test_values_that_no_column_holds(
    column: str, value: str, shown: str, sqlite_target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two in a logical column, half in one of integers, what 4 bytes cannot hold, text for numbers, no date."""
    table, _, name = column.partition(".")
    key = {"photometry": "targetid", "exposure": "expid"}.get(table, "id")
    ((number,),) = sql(sqlite_target, f"SELECT max({key}) FROM {table}")
    sql(sqlite_target, f"UPDATE {table} SET {name} = {value} WHERE {key} = (SELECT max({key}) FROM {table})")
    code, reports = verify(loaded.root, sqlite_target, capsys)
    ((found_table, what, row, found_column, _, found),) = named(reports)
    assert (code, found_table, found_column, found) == (3, table, name, shown)
    assert what == f"the row with key {int(number)} differs"
    assert row is not None


def test_key_of_forty_digits(sqlite_target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    ((key,),) = sql(sqlite_target, "SELECT max(id) FROM zpix")
    sql(sqlite_target, f"UPDATE zpix SET id = id || '7' WHERE id = '{key}'")
    code, reports = verify(loaded.root, sqlite_target, capsys)
    missing, extra = named(reports)
    assert code == 3
    assert missing[1] == f"the row with key {int(key)} is missing"
    assert extra[1:] == (f"the row with key {int(key)}7 is in no file", None, "id", "has none", f"'{key}7'")


def test_text_beyond_ascii(database_target: str, sample_root: Path, tmp_path: Path,
                           capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    root = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    with fitsio.FITS(str(root / ZPIX)) as file:
        rows = file["ZCATALOG"].read()
    rows = rows.astype([(n, f"S{k.itemsize // 4}" if k.kind == "U" else k) for n, (k, _) in rows.dtype.fields.items()])
    rows["SUBTYPE"][:7] = "né".encode()
    fitsio.write(str(root / ZPIX), rows, extname="ZCATALOG", clobber=True)
    assert run(root, database_target) == 0
    assert sql(database_target, "SELECT count(*) FROM zpix WHERE subtype = 'né'")[0][0] > 0
    assert verify(root, database_target, capsys)[0] == 0
    sql(database_target, "UPDATE zpix SET subtype = 'ne' WHERE subtype = 'né'")
    code, reports = verify(root, database_target, capsys)
    assert (code, {item[3:] for item in named(reports)}) == (3, {("subtype", "'né'", "'ne'")})


# Rows


def test_row_gone(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    ((key,),) = sql(target, "SELECT max(id) FROM zpix")
    sql(target, "DELETE FROM zpix WHERE id = (SELECT max(id) FROM zpix)")
    code, reports = verify(loaded.root, target, capsys)
    ((table, what, row, *_),) = named(reports)
    assert (code, table, what) == (3, "zpix", f"the row with key {int(key)} is missing")
    rows = fitsio.read(str(loaded.root / ZPIX), ext="ZCATALOG")
    assert rows["TARGETID"][row] == int(key) & ((1 << 64) - 1)
    assert reports["zpix"]["expected"] == reports["zpix"]["found"] + 1


def test_row_added(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    other = "42" if is_postgresql(target) else f"'{42:039d}'"
    copy_row(target, "potential", "id = (SELECT min(id) FROM potential)", id=other, location="99999")
    code, reports = verify(loaded.root, target, capsys)
    assert (code, [item[:2] for item in named(reports)]) == (
        3, [("potential", "the row with key 42 is in no file")],
    )  # fmt: skip


def test_row_twice_and_key_gone(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    ((key,),) = sql(target, "SELECT max(id) FROM zpix")
    unconstrained(target, "zpix")
    code, reports = verify(loaded.root, target, capsys)
    gone = [("zpix", f"index or key {name} is missing") for name in ("ix_zpix_unique", "zpix_pkey")]
    assert (code, [item[:2] for item in named(reports)]) == (3, gone)
    copy_row(target, "zpix", "id = (SELECT max(id) FROM zpix)")
    code, reports = verify(loaded.root, target, capsys)
    twice = ("zpix", f"the row with key {int(key)} is in the table 2 times")
    assert [item[:2] for item in named(reports)] == [twice, *gone]
    # One row twice and another gone: the numbers of rows agree.
    sql(target, "DELETE FROM zpix WHERE id = (SELECT min(id) FROM zpix)")
    code, reports = verify(loaded.root, target, capsys)
    assert code == 3
    assert reports["zpix"]["expected"] == reports["zpix"]["found"]
    assert len(named(reports)) == 4


def test_two_rows_changed_for_each_other(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    """Each column has the same values as before."""
    first, last = (row[0] for row in sql(target, "SELECT z FROM zpix WHERE id IN ((SELECT min(id) FROM zpix), "
                                                 "(SELECT max(id) FROM zpix)) ORDER BY id"))  # fmt: skip
    assert first != last
    sql(target, f"UPDATE zpix SET z = {last!r} WHERE id = (SELECT min(id) FROM zpix)",
        f"UPDATE zpix SET z = {first!r} WHERE id = (SELECT max(id) FROM zpix)")  # fmt: skip
    code, reports = verify(loaded.root, target, capsys)
    assert (code, len(named(reports))) == (3, 2)


def test_file_that_repeats_a_key(target: str, sample_root: Path, tmp_path: Path,
                                 capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """As many rows as in the table, all of which are there, and one of the table that is in no file."""
    root = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    with fitsio.FITS(str(root / ZPIX)) as file:
        rows = file["ZCATALOG"].read()
    good = np.flatnonzero((rows["TARGETID"] > 0) & ((rows["TARGETID"] >> 59) & 1 == 0))
    first, last = good[0], good[-1]
    assert last - first > 40
    rows[last] = rows[first]
    fitsio.write(str(root / ZPIX), rows, extname="ZCATALOG", clobber=True)
    code, reports = verify(root, target, capsys)
    repeated, extra = named(reports)
    assert (code, repeated[1].split()[0], repeated[2]) == (3, "key", last)
    assert repeated[1].endswith("occurs in a row of the files before")
    assert extra[1].endswith("is in no file")


@pytest.mark.parametrize("limit", [1, 3])
def test_limit(limit: int, target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    sql(target, "UPDATE zpix SET z = z + 1")
    code, reports = verify(loaded.root, target, capsys, "--limit", str(limit))
    assert (code, len(named(reports))) == (3, limit)
    sql(target, "DELETE FROM zpix")
    code, reports = verify(loaded.root, target, capsys, "--limit", str(limit))
    assert (code, len(named(reports))) == (3, limit)


@pytest.mark.parametrize("keys", [7, 50, 10**6])
def test_few_keys_at_a_time(keys: int, target: str, loaded: Loaded) -> None:
    """What is found does not depend on how many keys are held."""
    for number in (41, 42, 43):
        key = str(number) if is_postgresql(target) else f"'{number:039d}'"
        copy_row(target, "potential", "id = (SELECT min(id) FROM potential)", id=key, location=str(90000 + number))
    where, gone = "targetid % 5 = 0 AND location < 90000", "targetid % 11 = 0 AND location < 90000"
    deleted = [int(key) for (key,) in sql(target, f"SELECT id FROM potential WHERE {gone}")]
    sql(target, f"UPDATE potential SET fiber = fiber + 1 WHERE {where}", f"DELETE FROM potential WHERE {gone}")
    changed = [int(key) for (key,) in sql(target, f"SELECT id FROM potential WHERE {where}")]
    assert min(len(deleted), len(changed)) > 10
    with connect(target, schema="sample") as database:
        tree = ProductionTree(loaded.root, load_configuration(environ={}).production("sample"))
        reports = verify_database(database, tree, stages=["fiberassign"], limit=10**6, keys=keys)
    (report,) = (item for item in reports if item.table == "potential")
    expected = [f"the row with key {key} is missing" for key in deleted]
    expected += [f"the row with key {key} differs" for key in changed]
    expected += [f"the row with key {key} is in no file" for key in (41, 42, 43)]
    assert sorted(item.what for item in report.differences) == sorted(expected)


# What tables have besides rows


def test_dropped_table(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    sql(target, "DROP TABLE potential")
    code, reports = verify(loaded.root, target, capsys)
    assert (code, [item[:2] for item in named(reports)]) == (3, [("potential", "the table is missing")])
    assert len(reports) == 10


def test_dropped_parent(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    sql(target, "DROP TABLE photometry" + (" CASCADE" if is_postgresql(target) else ""))
    code, reports = verify(loaded.root, target, capsys)
    assert (code, ("photometry", "the table is missing") in [item[:2] for item in named(reports)]) == (3, True)
    assert all(item[2] is None for item in named(reports))


def test_dropped_column(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    sql(target, "ALTER TABLE zpix DROP COLUMN deltachi2")
    sql(target, "UPDATE zpix SET z = z + 1 WHERE id = (SELECT max(id) FROM zpix)")
    code, reports = verify(loaded.root, target, capsys)
    assert (code, [item[3] or item[1] for item in named(reports)]) == (3, ["z", "column deltachi2 is missing"])


def test_type_of_a_column(postgresql_target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    sql(postgresql_target, "ALTER TABLE zpix ALTER COLUMN z TYPE REAL")
    code, reports = verify(loaded.root, postgresql_target, capsys)
    ((table, what, *_),) = named(reports)
    assert (code, table, what) == (3, "zpix", "column z has type REAL, expected DOUBLE PRECISION")


@pytest.mark.parametrize("name", ["ix_zpix_healpix", "zpix_pkey"])
def test_index_gone(name: str, target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    if name.endswith("pkey") and is_postgresql(target):
        sql(target, f"ALTER TABLE zpix DROP CONSTRAINT {name}")
    else:
        sql(target, f"DROP INDEX {name}")
    code, reports = verify(loaded.root, target, capsys)
    assert (code, [item[:2] for item in named(reports)]) == (3, [("zpix", f"index or key {name} is missing")])


def test_reference_gone(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    if is_postgresql(target):
        sql(target, "ALTER TABLE zpix DROP CONSTRAINT zpix_targetid_fkey")
        what = "index or key zpix_targetid_fkey is missing"
    else:
        sql(target, "PRAGMA writable_schema = 1",
            "UPDATE sqlite_master SET sql = substr(sql, 1, instr(sql, ',\n  CONSTRAINT') - 1) || ')' "
            "WHERE name = 'zpix'")  # fmt: skip
        what = "reference zpix_targetid_fkey is missing"
    code, reports = verify(loaded.root, target, capsys)
    assert (code, [item[:2] for item in named(reports)]) == (3, [("zpix", what)])


def test_comments_gone(postgresql_target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    sql(postgresql_target, "COMMENT ON TABLE zpix IS NULL", "COMMENT ON COLUMN tile.tilera IS 'something'")
    code, reports = verify(loaded.root, postgresql_target, capsys)
    assert (code, [item[:2] for item in named(reports)]) == (3, [
        ("tile", "the comment of column tilera is missing or another"),
        ("zpix", "the comment of the table is missing"),
    ])  # fmt: skip


def test_orphan(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    if is_postgresql(target):
        sql(target, "SET session_replication_role = replica",
            "DELETE FROM photometry WHERE targetid = (SELECT max(targetid) FROM zpix)")  # fmt: skip
    else:
        sql(target, "DELETE FROM photometry WHERE targetid = (SELECT max(targetid) FROM zpix)")
    code, reports = verify(loaded.root, target, capsys)
    found = named(reports)
    assert code == 3
    assert any(item[0] == "zpix" and "refer to a photometry.targetid that is not there" in item[1] for item in found)
    assert any(item[0] == "photometry" and item[1].endswith("is missing") for item in found)


# The ledger, and what it names


def test_ledger_gone(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    for table in ("task_result", "task_execution", "pipeline_result", "pipeline_execution"):
        sql(target, f"DROP TABLE {table}")
    code, reports = verify(loaded.root, target, capsys)
    assert code == 3
    assert named(reports)[0][:2] == (
        "ledger", "there is no ledger: what was loaded from which files is not known",
    )  # fmt: skip
    rows = reports["zpix"]["found"]
    assert ("zpix", f"has {rows} rows, but the ledger names no file from which they came") in [
        item[:2] for item in named(reports)
    ]


def test_entry_of_the_ledger_gone(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    sql(target, "DELETE FROM task_result WHERE table_name = 'zpix' AND first_row = 40")
    code, reports = verify(loaded.root, target, capsys)
    found = named(reports)
    assert (code, {item[0] for item in found}) == (3, {"zpix"})
    assert found[0][1] == "rows 40 to 80 are not in the ledger, though later ones are"
    assert all(item[1].endswith("is in no file") for item in found[1:])
    assert len(found) > 1


def test_last_entry_of_a_file_gone(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    ((last, rows),) = sql(target, "SELECT id, rows FROM task_result WHERE table_name = 'zpix' "
                          "ORDER BY first_row DESC LIMIT 1")  # fmt: skip
    sql(target, f"DELETE FROM task_result WHERE id = {last}")
    code, reports = verify(loaded.root, target, capsys, "--limit", "1000")
    assert (code, len(named(reports))) == (3, rows)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE version SET version = 'v9' WHERE package = 'redshift'", "redshift has version 'v9', expected"),
        ("UPDATE version SET version = '0' WHERE package = 'numpy'", "numpy has version '0', expected"),
        ("DELETE FROM version WHERE package = 'tiles'", "the row of tiles is missing"),
        ("UPDATE version SET package = 'mine' WHERE package = 'tiles'", "has a row of mine, which no load writes"),
    ],
)
def test_versions(statement: str, what: str, target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    sql(target, statement)
    code, reports = verify(loaded.root, target, capsys)
    assert (code, {item[0] for item in named(reports)}) == (3, {"version"})
    assert any(item[1].startswith(what) for item in named(reports))


def test_extra_tile(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    """What is compared comes from the ledger: no file is looked for that no load read."""
    copy_row(target, "tile", "tileid = (SELECT min(tileid) FROM tile)", tileid="999999")
    code, reports = verify(loaded.root, target, capsys)
    assert (code, [item[:2] for item in named(reports)]) == (3, [("tile", "the row with key 999999 is in no file")])


def test_file_that_is_absent(target: str, sample_root: Path, tmp_path: Path,
                             capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """It is named, and the rest is compared."""
    root = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    file = sorted((root / "target").rglob("fiberassign-*.fits*"))[0]
    file.unlink()
    code, reports = verify(root, target, capsys)
    what = "the ledger names this file, which is not there"
    assert (code, [item[:2] for item in named(reports)]) == (3, [("fiberassign", what), ("potential", what)])
    assert reports["potential"]["differences"][0]["file"] == str(file.relative_to(root))
    sql(target, "UPDATE potential SET fiber = fiber + 1 WHERE tileid = (SELECT max(tileid) FROM potential)")
    code, reports = verify(root, target, capsys)
    assert {item[3] for item in named(reports)} == {None, "fiber"}
    other = "42" if is_postgresql(target) else f"'{42:039d}'"
    copy_row(target, "fiberassign", "id = (SELECT min(id) FROM fiberassign)", id=other, location="99999")
    code, reports = verify(root, target, capsys)
    assert ("fiberassign", "1 rows are in no file") in [item[:2] for item in named(reports)]


@pytest.mark.parametrize("fault", ["truncated", "other", "shorter"])
def test_file_that_cannot_be_read(fault: str, target: str, sample_root: Path, tmp_path: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    root = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    file = root / ZPIX
    if fault == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif fault == "other":
        file.write_text("no FITS")
    else:
        fitsio.write(str(file), fitsio.read(str(file), ext="ZCATALOG")[:50], extname="ZCATALOG", clobber=True)
    code, reports = verify(root, target, capsys)
    assert (code, {item[0] for item in named(reports)}) == (3, {"zpix"})
    assert len(reports) == 10
    if fault != "shorter":
        ((_, what, *_),) = named(reports)
        assert what.startswith("cannot be read: ")


def test_nothing_was_loaded(database_target: str, sample_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty ledger: there is nothing that could be equal."""
    from specprod.load import setup_db

    with connect(database_target, schema="sample", create=True) as database:
        setup_db(database=database)
    capsys.readouterr()
    code = main_verify(sample_root, database_target)
    assert (code, "there is no ledger" in capsys.readouterr().out) == (3, True)


def main_verify(root: Path, target: str, *more: str) -> int:
    from specprod.cli.main import main

    return main(["verify", str(root), "--specprod", "sample", "--database", target, "--quiet", *more])


def test_what_is_printed(target: str, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    sql(target, "UPDATE tile SET tilera = 0")
    capsys.readouterr()
    assert main_verify(loaded.root, target, "--limit", "1") == 3
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("tile ")] == ["no"]
    assert any(line.startswith("tile: ") and "column tilera: file" in line for line in lines)


# Rows in multiples of a batch


@pytest.mark.parametrize("batch", [1, 7, 40, 60])
def test_multiples_of_a_batch(batch: int, target: str, loaded: Loaded, caplog: pytest.LogCaptureFixture) -> None:
    """The end of the stream comes with the last row of a batch, or by itself."""
    with connect(target, schema="sample") as database, database.connect() as connection:
        rows = sql(target, "SELECT count(*) FROM zpix")[0][0]
        for size in {batch, rows, rows - 1, rows + 1, max(1, rows // 2)}:
            found = list(database.fetch(connection, Zpix, batch=size))
            assert sum(len(item["id"]) for item in found) == rows
            assert max(len(item["id"]) for item in found) <= size
            # The connection is good for what follows.
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    assert not caplog.records


def test_fetch_left_before_its_end(target: str, loaded: Loaded, caplog: pytest.LogCaptureFixture) -> None:
    with connect(target, schema="sample") as database, database.connect() as connection:
        rows = database.fetch(connection, Zpix, batch=10)
        next(rows)
        rows.close()
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    assert not caplog.records
