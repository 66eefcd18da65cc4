"""Nobody but the two packages of the databases asks which database it is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from specprod.database import connect
from specprod.database.failures import driver_error, is_transient, translated
from specprod.errors import ConstraintError, DatabaseError

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/specprod"
OWN = [SOURCE / "database/postgresql", SOURCE / "database/sqlite"]
COMMON = [path for path in sorted(SOURCE.rglob("*.py")) if not any(path.is_relative_to(place) for place in OWN)]

DRIVERS = re.compile(r"(psycopg\w*|sqlite3|aiosqlite|pysqlite\w*|asyncpg|sqlalchemy\.dialects)(\.|$)")
# A literal that is a name, or begins with one and goes on without a blank: 'sqlite', 'postgresql+psycopg'. What has
# blanks is a sentence.
NAMES = re.compile(r"(postgres(ql)?|sqlite3?|psycopg\d?|pysqlite|pgsql)([+:/_.]\S*)?", re.IGNORECASE)
# The URL of a configured server, as a person writes it; whoever opens it asks the kinds whose it is.
WRITTEN_OUT = {"configuration/core.py": ["literal 'postgresql://'"]}


def questions(tree: ast.Module) -> Iterator[str]:
    """Name the places where code asks for the database: in names, attributes, imports and literals."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) if re.fullmatch(r"is_(postgres\w*|sqlite)", name):
                yield f"name {name}"
            case ast.Attribute(attr="name", value=ast.Attribute(attr="dialect") | ast.Name(id="dialect")):
                yield "dialect.name"
            case ast.Import(names=names):
                yield from (f"import {item.name}" for item in names if DRIVERS.match(item.name))
            case ast.ImportFrom(module=module, names=names) if module:
                full = [f"{module}.{item.name}" for item in names]
                yield from (f"import {name}" for name in full if DRIVERS.match(name))
            case ast.Constant(value=str(text)) if id(node) not in docs and NAMES.fullmatch(text):
                yield f"literal {text!r}"


@pytest.mark.parametrize("path", COMMON, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nobody_asks_which_database_it_is(path: Path) -> None:
    found = sorted(questions(ast.parse(path.read_text())))
    assert found == WRITTEN_OUT.get(str(path.relative_to(SOURCE)), [])


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("if database.is_postgresql: pass", ["name is_postgresql"]),
        ("if connection.dialect.name == kind: pass", ["dialect.name"]),
        ("if dialect.name in kinds: pass", ["dialect.name"]),
        ("if database.kind == 'sqlite': pass", ["literal 'sqlite'"]),
        ("url = f'postgresql+psycopg://{host}'", ["literal 'postgresql+psycopg://'"]),
        ("index(postgresql_where=x, **{'sqlite_where': x})", ["literal 'sqlite_where'"]),
        ("import psycopg.rows", ["import psycopg.rows"]),
        ("def f():\n    from sqlite3 import Error", ["import sqlite3.Error"]),
        ("from sqlalchemy import dialects", ["import sqlalchemy.dialects"]),
        ("from sqlalchemy.dialects import sqlite", ["import sqlalchemy.dialects.sqlite"]),
        ('"""sqlite"""\nclass A:\n    """psycopg"""\n    def f(self):\n        """sqlite"""', []),
        ("raise ValueError('PostgreSQL server, or an SQLite file')", []),
        ("from specprod.database.sqlite import values", []),
    ],
)
def test_the_rule_itself(code: str, expected: list[str]) -> None:
    assert list(questions(ast.parse(code))) == expected


def test_a_load_into_a_file_does_without_the_driver_of_the_server(sample_root: Path, tmp_path: Path) -> None:
    words = ["run", str(sample_root), "--specprod", "sample", "--database", str(tmp_path / "a.db"), "--quiet"]
    code = (
        "import sys; from specprod.cli.main import main; code = main(sys.argv[1:]); "
        "print(code, 'sqlite3' in sys.modules, 'psycopg' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-3:] == ["0", "True", "False"]


def test_what_the_drivers_raise(database_target: str) -> None:
    """By SQLAlchemy's connection and by the driver's own, and behind another error."""
    with connect(database_target, create=True) as database:
        with translated(), database.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE things (n integer PRIMARY KEY)")
            connection.exec_driver_sql("INSERT INTO things VALUES (1)")
        with pytest.raises(ConstraintError) as caught, translated(), database.begin() as connection:
            connection.exec_driver_sql("INSERT INTO things VALUES (1)")
        message = {"postgresql": "Key (n)=(1) already exists", "sqlite": "UNIQUE constraint failed: things.n"}
        assert message[database.kind] in str(caught.value)
        with pytest.raises(DatabaseError) as caught, translated(), database.begin() as connection:
            connection.connection.cursor().execute("SELECT * FROM nothing")
        assert type(caught.value) is DatabaseError
        cause = driver_error(caught.value)
        assert type(cause).__module__.partition(".")[0] == {"postgresql": "psycopg", "sqlite": "sqlite3"}[database.kind]
        assert not is_transient(caught.value)
    for error in (ValueError("not of a driver"), KeyboardInterrupt()):
        assert driver_error(error) is None
        assert not is_transient(error)
        with pytest.raises(type(error)), translated():
            raise error


def test_a_session_that_is_ended_may_be_opened_again(postgres_url: str) -> None:
    with connect(postgres_url) as database, psycopg.connect(postgres_url, autocommit=True) as other:
        with pytest.raises(DatabaseError) as caught, translated(), database.begin() as connection:  # noqa: PT012
            number = connection.scalar(sa.text("SELECT pg_backend_pid()"))
            other.execute("SELECT pg_terminate_backend(%s)", (number,))
            connection.exec_driver_sql("SELECT 1")
        assert is_transient(caught.value)
