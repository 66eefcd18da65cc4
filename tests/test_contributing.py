"""CONTRIBUTING.rst is true: the floors are those of the contract, a row goes the way it says, and recipes work."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import fitsio
import numpy as np
import pytest
import sqlalchemy as sa

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.rst").read_text()
CATALOGUE = "data/sample/spectro/redux/sample/zcatalog/zall-pix-sample.fits"


def section(title: str) -> str:
    """Text below a title, up to the next one."""
    found = re.search(
        rf"^{re.escape(title)}\n([-^])\1+\n(.*?)(?=^[^\n]+\n[-^]{{3,}}\n|\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    assert found, title
    return found[2]


def steps(title: str) -> set[str]:
    """Files and folders that the steps of a recipe begin with."""
    return set(re.findall(r"^#\. ``([^`]+)``", section(title), re.MULTILINE))


def test_every_path_is_there() -> None:
    literals = re.findall(r"``([^`\s]+)``", PAGE)
    paths = {name for name in literals if re.search(r"/|\.(py|rst|toml)$", name)}
    assert len(paths) > 50
    places = (ROOT, ROOT / "src/specprod")
    assert [name for name in sorted(paths) if not any((place / name).exists() for place in places)] == []


def test_the_page_is_in_the_documentation() -> None:
    assert ".. include:: ../CONTRIBUTING.rst" in (ROOT / "docs/contributing.rst").read_text()


def test_floors_are_those_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [item["layers"] for item in contracts if item["type"] == "layers"]
    rows = re.findall(r"^ +\|(.{52})\|.{50}\|$", section("The floors"), re.MULTILINE)
    assert [row.split() for row in rows] == [layer.split() for layer in layers]
    rooms = {
        path.stem
        for path in (ROOT / "src/specprod").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set(re.findall(r"\w+", " ".join(layers))) == rooms - {"__init__"}


def test_circles_are_two_and_have_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    (ignored,) = [item["ignore_imports"] for item in contracts if item["type"] == "acyclic_siblings"]
    tables = {
        "specprod.model.observations",
        "specprod.model.photometry",
        "specprod.model.assignments",
        "specprod.model.redshifts",
    }
    circles = {"tables" if set(item.split(" -> ")) <= tables else item for item in ignored}
    assert circles == {"tables", "specprod.model.base -> specprod.model.converting"}
    assert "# Two circles may stay." in text
    # All that is left out by a contract is left out there.
    assert all("ignore_imports" not in item for item in contracts if item["type"] != "acyclic_siblings")


def test_imports_are_a_step_of_the_tests() -> None:
    assert re.search(r'^step "imports" lint-imports\b', (ROOT / "bin/test").read_text(), re.MULTILINE)
    assert 'exec "$(dirname "$0")/../bin/test"' in (ROOT / ".ci/run").read_text()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project, to change."""
    place = tmp_path / "copy"
    place.mkdir()
    for name in ("src", "tests", "docs"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "_build", "*.egg-info"))
    for name in ("pyproject.toml", "README.rst", "CONTRIBUTING.rst", "CHANGES.rst"):
        shutil.copy(ROOT / name, place / name)
    return place


def run(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python on a copy; its command is found as that of the project is."""
    variables = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=copy, env=variables, capture_output=True, text=True, check=False
    )


def imports(copy: Path) -> subprocess.CompletedProcess[str]:
    return run(copy, "-c", "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])")


def load(copy: Path, target: str, *more: str) -> None:
    where = ["--database", target, *(["--schema", "sample"] if "://" in target else []), "--quiet"]
    for words in (["run", *more], ["verify"]):
        done = run(
            copy, "-m", "specprod", words[0], str(ROOT / "data/sample"), "--specprod", "sample", *where, *words[1:]
        )
        assert (done.returncode, done.stderr) == (0, "")


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name}: {before!r} stands there {text.count(before)} times"
    path.write_text(text.replace(before, after))


def reads(target: str) -> tuple[sa.Engine, str]:
    """An engine that knows nothing of specprod, and what stands before the names of tables."""
    url = target.replace("postgresql:", "postgresql+psycopg:") if "://" in target else f"sqlite:///{target}"
    return sa.create_engine(url), "sample." if "://" in target else ""


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("model/casting.py", "import specprod.database.keys", "Imports go down the floors"),
        ("loading/pieces.py", "from specprod.loading import loader", "No circles"),
        ("cli/index.py", "from specprod import util", "Nobody inside imports the functions for scripts"),
        ("files/literal.py", "", ""),
    ],
)
def test_the_contract_finds_what_it_forbids(copy: Path, module: str, line: str, broken: str) -> None:
    with (copy / "src/specprod" / module).open("a") as stream:
        stream.write(f"\n{line}\n")
    done = imports(copy)
    assert done.returncode == (1 if broken else 0)
    found = re.findall(r"^(.+) BROKEN", done.stdout, re.MULTILINE)
    assert broken in found if broken else found == []


def test_recipe_of_a_column(copy: Path, database_target: str) -> None:
    assert steps("A column") == {"src/specprod/model/redshifts.py"}
    edit(
        copy / "src/specprod/model/redshifts.py",
        """    id = column(Int128, primary_key=True, derive=zpixid,""",
        """    gain = column(Double, source="DELTACHI2", unit="km/s", index=True, doc="As the recipe says")
    id = column(Int128, primary_key=True, derive=zpixid,""",
    )
    load(copy, database_target)
    rows = fitsio.read(ROOT / CATALOGUE, "ZCATALOG", columns=["TARGETID", "SURVEY", "PROGRAM", "DELTACHI2"])
    good = (rows["TARGETID"] > 0) & (rows["TARGETID"] >> 59 & 1 == 0)
    names = [np.char.strip(rows[name].astype("U10")) for name in ("SURVEY", "PROGRAM")]
    values = [rows["TARGETID"], *names, rows["DELTACHI2"]]
    expected = sorted(zip(*(item[good].tolist() for item in values), strict=True))
    engine, schema = reads(database_target)
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"SELECT targetid, survey, program, gain FROM {schema}zpix").all()
        assert sorted(map(tuple, found)) == expected
        inspector = sa.inspect(connection)
        place = {"schema": schema.rstrip(".") or None}
        assert "ix_zpix_gain" in {item["name"] for item in inspector.get_indexes("zpix", **place)}
        comments = {item["name"]: item.get("comment") for item in inspector.get_columns("zpix", **place)}
        assert comments["gain"] == ("As the recipe says [km/s]" if schema else None)
    engine.dispose()


WEATHER = """
def _weather(tree: ProductionTree, _: Database, __: _Tables) -> Iterator[FileLoad]:
    yield part_of("weather", Condition).load(tree.exposures())
"""
CONDITION = '''
"""Conditions of exposures."""

from sqlalchemy import Double, ForeignKey, Integer

from specprod.model.base import Base, SchemaMixin, column

__all__ = ["Condition"]


class Condition(SchemaMixin, Base):
    """Conditions of exposures."""

    expid = column(Integer, ForeignKey("exposure.expid"), primary_key=True, doc="Number of the exposure")
    seeing = column(Double, source="SEEING_ETC", unit="arcsec", index=True, doc="Seeing")
'''


def test_recipes_of_a_table_and_a_stage(copy: Path, database_target: str) -> None:
    source = copy / "src/specprod"
    assert steps("A table") == {"src/specprod/model/", "src/specprod/model/__init__.py"}
    (source / "model/conditions.py").write_text(CONDITION)
    tables = source / "model/__init__.py"
    edit(
        tables,
        "from specprod.model.redshifts import",
        "from specprod.model.conditions import Condition\nfrom specprod.model.redshifts import",
    )
    edit(tables, "    Exposure,\n", "    Exposure,\n    Condition,\n")
    edit(tables, "    Frame: type", "    Condition: type[Condition] = Condition\n    Frame: type")

    assert steps("A stage") == {
        f"src/specprod/{name}.py" for name in ("stages", "production/parts", "production/stage_files")
    }
    edit(
        source / "stages.py",
        '        Stage("target",',
        '        Stage("weather", (("condition",),), ("exposure",)),\n        Stage("target",',
    )
    parts, job = source / "production/parts.py", source / "production/stage_files.py"
    edit(parts, "from specprod.model import (\n", "from specprod.model import (\n    Condition,\n")
    edit(parts, '    Part("target",', '    Part("weather", Condition, "EXPOSURES"),\n    Part("target",')
    edit(job, "    TABLES,\n", "    TABLES,\n    Condition,\n")
    edit(job, "\ndef _target(", WEATHER + "\n\ndef _target(")
    edit(job, '    "target": _target,\n', '    "weather": _weather,\n    "target": _target,\n')

    load(copy, database_target)
    (path,) = (ROOT / "data/sample").rglob("exposures-sample.fits")
    rows = fitsio.read(path, "EXPOSURES")
    engine, schema = reads(database_target)
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"SELECT expid, seeing FROM {schema}condition").all()
        assert sorted(map(tuple, found)) == sorted(
            zip(rows["EXPID"].tolist(), rows["SEEING_ETC"].tolist(), strict=True)
        )
        keys = sa.inspect(connection).get_foreign_keys("condition", schema=schema.rstrip(".") or None)
        assert [item["referred_table"] for item in keys] == ["exposure"]
    engine.dispose()
    where = ["--database", database_target, *(["--schema", "sample"] if schema else []), "--json"]
    (last,) = json.loads(run(copy, "-m", "specprod", "status", *where).stdout)["runs"][:1]
    assert last["stages"]["weather"] == "done"
    assert imports(copy).returncode == 0


TALLY = '''
"""``specprod-load tally``: count the rows of a table."""

from __future__ import annotations

import click
import sqlalchemy as sa

from specprod.cli.options import DatabaseOptions, database_options


@click.command(epilog="Example: specprod-load tally zpix --database prod.db")
@click.argument("table")
@database_options
def tally(table: str, where: DatabaseOptions) -> int:
    """Count the rows of a table."""
    with where.open(where.configuration()) as database, database.connect() as connection:
        click.echo(connection.scalar(sa.text(f"SELECT count(*) FROM {database.name(table)}")))
    return 0
'''


def test_recipe_of_a_subcommand(copy: Path, tmp_path: Path) -> None:
    assert steps("A subcommand") == {"src/specprod/cli/", "src/specprod/cli/main.py", "docs/", "CHANGES.rst"}
    (copy / "src/specprod/cli/tally.py").write_text(TALLY)
    edit(
        copy / "src/specprod/cli/main.py",
        '    "index": (',
        '    "tally": ("specprod.cli.tally:tally", "Count the rows of a table."),\n    "index": (',
    )
    documented = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_project.py", "-k", "test_help and tally"]
    # The test of all commands asks for the other half of the recipe.
    assert run(copy, *documented).returncode == 1
    (copy / "docs/tally.rst").write_text("Counting\n========\n\n``specprod-load tally`` counts the rows of a table.\n")
    with (copy / "CHANGES.rst").open("a") as stream:
        stream.write("* ``specprod-load tally`` counts the rows of a table.\n")
    done = run(copy, *documented)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True)
    load(copy, str(tmp_path / "a.db"))
    done = run(copy, "-m", "specprod", "tally", "tile", "--database", str(tmp_path / "a.db"))
    (path,) = (ROOT / "data/sample").rglob("tiles-sample.fits")
    assert (done.returncode, done.stdout) == (0, f"{len(fitsio.read(path))}\n")
    assert imports(copy).returncode == 0


TRACER = """
import sys, threading
from pathlib import Path

import specprod
from specprod.configuration import load_configuration
from specprod.database import connect
from specprod.files.tree import ProductionTree
from specprod.loading.execution import Execution, opened
from specprod.loading.loader import Loader
from specprod.model import Zpix
from specprod.production.stage_files import stage_loads
from specprod.production.setup import setup_db

TOP = str(Path(specprod.__file__).parent) + "/"
root, target = Path(sys.argv[1]), sys.argv[2]
found = set()

def note(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(TOP) and code.co_name != "<module>":
        found.add(code.co_filename.removeprefix(TOP))

tree = ProductionTree(root, load_configuration().production("sample"))
with connect(target, create=True) as database:
    setup_db(database=database)
    with opened(database, Execution(name="run", root=root)) as ledger:
        loader = Loader(database, ledger=ledger)
        (load,) = [item for item in stage_loads("redshift", tree, database) if item.table is Zpix]
        threading.setprofile(note)
        sys.setprofile(note)
        loader.load_all([load])
        sys.setprofile(None)
        threading.setprofile(None)
    with database.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {database.name(Zpix)}").scalar() > 0
print(*sorted(found))
"""


def test_way_of_a_row(database_target: str) -> None:
    """The modules that the page names are those in which code runs, from the file to the commit."""
    command = [sys.executable, "-c", TRACER, str(ROOT / "data/sample"), database_target]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    own, other = ("postgresql", "sqlite") if "://" in database_target else ("sqlite", "postgresql")
    way = section("The way of a row").partition("Which files there are")[0]
    named = {name for name in re.findall(r"``(\w[\w/]*\.py)``", way) if f"database/{other}/" not in name}
    assert any(f"database/{own}/" in name for name in named)
    assert set(done.stdout.split()) == named
