"""Results storages of a user's own, as the documentation describes them, and the storage that is configured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from specprod.database import connect
from specprod.errors import ConfigurationError, StorageError
from specprod.results import helpers
from specprod.results.base import State
from specprod.results.jsonlines import JsonLinesStorage
from specprod.results.orm import OrmPipelineResultsStorage
from specprod.results.storage import DEFAULT_STORAGE, load_storage

JSON_LINES = "specprod.results.jsonlines.JsonLinesStorage"
SETTING = "PIPELINES_PIPELINES_RESULTS_STORAGE"

# Each line is a state of a record; the classes of its records have their own ways to set and to get.
OWN = '''
import copy, itertools, json, sqlite3
from dataclasses import dataclass

import sqlalchemy as sa

from specprod.results import base

class Told:
    def set_state(self, value):
        self.state = value
        self.input_data = {**self.input_data, "states": [*self.input_data.get("states", []), str(value)]}

    def set_message(self, value):
        self.message = f"told: {value}"

    def get_name(self):
        return self.name.upper()

@dataclass
class Execution(Told, base.PipelineExecution):
    pass

@dataclass
class Result(Told, base.PipelineResult):
    pass

class OwnStorage(base.PipelineStorage):
    """Takes only its own keyword arguments."""

    records = []
    numbers = itertools.count(1)

    def __init__(self, *, path, trouble=""):
        self.path, self.trouble = path, trouble
        self._say("made")

    def _say(self, what):
        if what == self.trouble:
            raise RuntimeError(f"no {what} today, password=geheim")
        with open(self.path, "a") as stream:
            stream.write(json.dumps(what) + "\\n")

    def create(self):
        self._say("create")

    def bound(self, connection):
        def committed(_):
            self._say("commit")
        self._say("bound")
        sa.event.listen(connection, "commit", committed)
        return self

    def create_pipeline_execution(self, name, input_data=None, **values):
        record = Execution(name, input_data=input_data or {}, **values)
        self.insert(record)
        return record

    def create_pipeline_result(self, execution, name, input_data=None, **values):
        record = Result(name, input_data=input_data or {}, parent_id=execution.id, **values)
        self.insert(record)
        return record

    def insert(self, record):
        self._say("insert")
        if self.trouble == "driver":
            sqlite3.connect(":memory:").execute("SELECT * FROM things")
        record.set_id(next(self.numbers))
        self.records.append(record)

    def save(self, record):
        self._say("save")
        record.number()

    def select(self, cls, **filters):
        self._say("select")
        found = [item for item in self.records if isinstance(item, cls)]
        return iter([item for item in found if all(getattr(item, key) == value for key, value in filters.items())])

    def delete(self, cls, **filters):
        return 0

class Ledger(__import__("specprod.results.orm", fromlist=["x"]).OrmPipelineResultsStorage):
    """Extends the ledger itself."""

    def insert(self, record):
        record.set_name(record.get_name() + "!")
        super().insert(record)
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the module, and the current one."""
    (tmp_path / "own_storage.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_storage", raising=False)
    return tmp_path


def setting(**keywords: str) -> str:
    return json.dumps(["own_storage.OwnStorage", {"path": "said.jsonl", **keywords}])


def run(sample_root: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "specprod.cli.main", "run", str(sample_root), "--specprod", "sample", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, check=False)


def said(place: Path) -> list[str]:
    return [json.loads(line) for line in (place / "said.jsonl").read_text().splitlines()]


def test_a_class_that_takes_only_its_own_arguments(place: Path, sample_root: Path) -> None:
    done = run(sample_root, "--database", "a.db", "--quiet", "--stage", "exposures", **{SETTING: setting()})
    assert (done.returncode, done.stderr) == (0, "")
    assert said(place)[:2] == ["made", "create"]
    assert {"insert", "bound", "commit", "save"} <= set(said(place))
    with connect("a.db", create=True) as database:
        with pytest.raises(ConfigurationError, match=r"'own_storage\.OwnStorage' cannot be made with these arguments"):
            load_storage(["own_storage.OwnStorage", {}], database)
        with pytest.raises(ConfigurationError, match="colour"):
            load_storage(["own_storage.OwnStorage", {"path": "a", "colour": "red"}], database)


@pytest.mark.parametrize("trouble", ["made", "create", "insert", "bound", "commit", "save", "driver"])
def test_a_storage_that_raises_is_one_line(place: Path, sample_root: Path, trouble: str) -> None:
    words = ["--database", "a.db", "--quiet", "--stage", "exposures"]
    done = run(sample_root, *words, **{SETTING: setting(trouble=trouble)})
    assert done.returncode == 1
    reason = "OperationalError: no such table: things" if trouble == "driver" else f"RuntimeError: no {trouble} today"
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"specprod-load: results storage own_storage.OwnStorage: {reason}")
    assert "Traceback" not in done.stderr
    assert "geheim" not in done.stderr
    # What the storage did to the load is undone by giving the command again without it.
    assert run(sample_root, *words).returncode == 0


def test_a_module_that_raises_when_it_is_imported(place: Path, sample_root: Path) -> None:
    (place / "broken_storage.py").write_text("1 / 0")
    done = run(sample_root, "--database", "a.db", **{SETTING: "broken_storage.Storage"})
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("cannot be imported: ZeroDivisionError: division by zero")
    assert "Traceback" not in done.stderr


def test_helpers_set_and_get_by_the_methods_of_the_records(place: Path) -> None:
    with connect("a.db", create=True) as database:
        storage = load_storage(setting(), database)
    with (
        helpers.pipeline_execution(storage, "fit") as run,
        pytest.raises(ZeroDivisionError),
        helpers.pipeline_result(storage, run, "tile 1") as tile,
    ):
        raise ZeroDivisionError
    assert run.get_name() == "FIT"
    assert run.input_data["states"] == ["done"]
    assert (tile.message, tile.input_data["states"]) == ("told: ZeroDivisionError", ["failed"])
    assert helpers.unfinished(storage, run) == [tile]
    abandoned = storage.create_pipeline_execution("gone", state=State.RUNNING)
    assert helpers.end_abandoned(storage, everywhere=True) == [abandoned]
    assert abandoned.input_data["states"] == ["failed"]
    assert abandoned.message.startswith("told: Killed")


def test_helpers_name_the_storage_that_fails(place: Path) -> None:
    with connect("a.db", create=True) as database:
        storage = load_storage(setting(trouble="save"), database)
        with pytest.raises(StorageError, match=r"results storage own_storage\.OwnStorage: RuntimeError: no save today"):
            helpers.finish(storage, storage.create_pipeline_execution("fit"))
        # What the block itself raises is not the storage's.
        with pytest.raises(ZeroDivisionError), helpers.pipeline_execution(storage, "fit"):
            raise ZeroDivisionError
        select = load_storage(setting(trouble="select"), database)
        with pytest.raises(StorageError, match="no select today"):
            helpers.get_task_results(select)


def test_one_that_extends_the_ledger_is_the_ledger(place: Path, sample_root: Path) -> None:
    words = ["--database", "a.db", "--quiet", "--stage", "exposures"]
    assert run(sample_root, *words, **{SETTING: "own_storage.Ledger"}).returncode == 0
    with connect("a.db", create=True) as database:
        storage = OrmPipelineResultsStorage(database)
        assert [item.name for item in helpers.get_pipeline_executions(storage)] == ["run!"]
        assert [item.name for item in helpers.get_task_executions(storage)] == ["tile!", "exposure!", "frame!"]


@pytest.mark.parametrize("kind", ["postgresql", "sqlite", "json lines"])
def test_helpers_use_the_storage_that_is_configured(
    kind: str, place: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "json lines":
        monkeypatch.setenv(SETTING, json.dumps([JSON_LINES, {"path": "runs.jsonl"}]))
        # The class takes no database, so that none is opened.
        monkeypatch.setenv("SPECPROD_DATABASE", "postgresql://nobody@127.0.0.1:1/nothing")
    else:
        target = request.getfixturevalue("postgres_url") if kind == "postgresql" else str(place / "specprod.db")
        connect(target, create=True).close()
        monkeypatch.setenv(SETTING, DEFAULT_STORAGE)
        monkeypatch.setenv("SPECPROD_DATABASE", target)
    with (
        helpers.pipeline_execution("fit", "fit --all", input_data={"n": 1}) as run,
        helpers.pipeline_result(run, "tile 1") as tile,
        helpers.task_execution(tile, "table") as task,
    ):
        for name in ("a", "b"):
            with helpers.task_result(task, name, rows=5):
                pass
        with pytest.raises(ValueError, match="bad"), helpers.task_result(task, "c"):
            raise ValueError("bad")
    assert [(item.name, item.command, item.state) for item in helpers.get_pipeline_executions()] == [
        ("fit", "fit --all", State.DONE)
    ]
    assert [item.name for item in helpers.get_pipeline_results(parent_id=run.id)] == ["tile 1"]
    assert [item.name for item in helpers.get_task_executions()] == ["table"]
    assert [(item.name, item.rows) for item in helpers.get_task_results(state="done")] == [("a", 5), ("b", 5)]
    assert helpers.latest_execution(name="fit").id == run.id
    assert helpers.latest_execution(name="other") is None
    assert helpers.summary(run)["task_result"] == {"done": 2, "failed": 1}
    assert len(helpers.descendants(run)) == 5
    assert helpers.unfinished(run) == []
    assert helpers.end_abandoned() == []
    with helpers.current_storage() as storage:
        expected = JsonLinesStorage if kind == "json lines" else OrmPipelineResultsStorage
        assert type(storage) is expected
        late = storage.create_pipeline_execution("late")
    helpers.finish(late, ValueError("too late"))
    assert helpers.latest_execution().message == "ValueError: too late"
