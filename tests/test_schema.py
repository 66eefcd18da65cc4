"""A loaded schema against the lists of what it must hold."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from specprod.cli.main import main

pytestmark = pytest.mark.compat

# Programs of eight letters are newer than the contract, which asks for them in words and gives the column six.
WIDER = {
    ("character varying(6)", "program"): "character varying(8)",
    ("character varying(7)", "goaltype"): "character varying(8)",
}


@pytest.fixture
def loaded(postgres_url: str, sample_root: Path) -> Iterator[psycopg.Connection]:
    command = ["run", str(sample_root), "--specprod", "sample", "--database", postgres_url, "--schema", "s", "--quiet"]
    assert main(command) == 0
    with psycopg.connect(postgres_url, options="-c search_path=s") as connection:
        yield connection


def test_columns(loaded: psycopg.Connection, contract: Path) -> None:
    found = loaded.execute(
        "SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull "
        "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relnamespace = 's'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
    ).fetchall()
    have = {(table, name): (place, kind, required) for table, place, name, kind, required in found}
    with (contract / "columns.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 427
    for line in lines:
        place, kind, required = have[line["table"], line["column"]]
        # The list has a comma of numeric(39,0) as a blank, being CSV itself.
        expected = line["type"].replace("39 0", "39,0")
        expected = WIDER.get((expected, line["column"]), expected)
        assert (place, kind, required) == (int(line["position"]), expected, line["nullable"] == "no"), line


def test_indexes(loaded: psycopg.Connection, contract: Path) -> None:
    have = {
        (table, name): re.sub(r"(?<= ON )(s\.)?|public\.", "", definition)
        for table, name, definition in loaded.execute(
            "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 's'"
        )
    }
    lines = (contract / "indexes.psv").read_text().splitlines()[1:]
    assert len(lines) == 59
    for line in lines:
        table, name, _, definition = line.split("|")
        assert have[table, name] == definition


def test_constraints(loaded: psycopg.Connection, contract: Path) -> None:
    have = {
        (table, name): (definition.replace("s.", "", 1) if "REFERENCES" in definition else definition, valid)
        for table, name, definition, valid in loaded.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint "
            "WHERE connamespace = 's'::regnamespace"
        )
    }
    lines = (contract / "constraints.psv").read_text().splitlines()[1:]
    assert len(lines) == 22
    for line in lines:
        table, name, definition = line.split("|")
        assert have[table, name] == (definition, True)


def test_clustered_on_the_sky(loaded: psycopg.Connection) -> None:
    rows = loaded.execute(
        "SELECT t.relname FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid "
        "JOIN pg_class x ON x.oid = i.indexrelid "
        "WHERE i.indisclustered AND t.relnamespace = 's'::regnamespace AND x.relname LIKE 'ix_%_q3c_ang2ipix'"
    )
    assert {name for (name,) in rows} == {"tile", "exposure", "photometry", "fiberassign"}


def test_every_table_and_column_is_described(loaded: psycopg.Connection) -> None:
    missing = loaded.execute(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "LEFT JOIN pg_description d ON d.objoid = c.oid AND d.objsubid = a.attnum "
        "WHERE c.relnamespace = 's'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND d.description IS NULL "
        "UNION ALL SELECT c.relname, '' FROM pg_class c WHERE c.relnamespace = 's'::regnamespace AND c.relkind = 'r' "
        "AND obj_description(c.oid) IS NULL"
    ).fetchall()
    assert missing == []
    (comment,) = loaded.execute(
        "SELECT col_description('s.photometry'::regclass, attnum) FROM pg_attribute "
        "WHERE attrelid = 's.photometry'::regclass AND attname = 'flux_ivar_g'"
    ).fetchone() or ("",)
    assert comment.endswith("[nanomaggy^-2]")
