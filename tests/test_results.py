"""The results storage: one suite over the storage in the database and the one in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from specprod.database import Database, connect
from specprod.errors import ConfigurationError
from specprod.results import helpers
from specprod.results.base import PipelineExecution, PipelineStorage, State, TaskResult
from specprod.results.jsonlines import JsonLinesStorage
from specprod.results.orm import OrmPipelineResultsStorage
from specprod.results.storage import DEFAULT_STORAGE, load_storage

pytestmark = pytest.mark.compat


@pytest.fixture(params=["orm postgresql", "orm sqlite", "json lines"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[PipelineStorage, Database]]:
    """A storage, and the database whose transactions it joins."""
    fixture = "postgres_url" if request.param == "orm postgresql" else "sqlite_file"
    with connect(request.getfixturevalue(fixture)) as database:
        storage: PipelineStorage = OrmPipelineResultsStorage(database)
        if request.param == "json lines":
            storage = JsonLinesStorage(database, path=tmp_path / "runs.jsonl")
        storage.create()
        storage.create()
        yield storage, database


def test_four_kinds(place: tuple[PipelineStorage, Database]) -> None:
    storage, _ = place
    run = storage.create_pipeline_execution("load", input_data={"root": "prod", "stages": [1, 2]}, command="x y")
    stage = storage.create_pipeline_result(run, "redshift", state=State.RUNNING)
    table = storage.create_task_execution(stage, "zpix")
    first = storage.create_task_result(table, "a.fits", file="a.fits", first_row=0, last_row=5, datasum=2**32 - 1)
    storage.create_task_result(table, "b.fits", file="b.fits", first_row=0)
    assert [item.name for item in storage.get_task_results(parent_id=table.id)] == ["a.fits", "b.fits"]
    (found,) = storage.get_task_results(file="a.fits")
    assert (found.id, found.last_row, found.datasum, found.size) == (first.id, 5, 2**32 - 1, None)
    (found_run,) = storage.get_pipeline_executions()
    assert found_run.input_data == {"root": "prod", "stages": [1, 2]}
    assert found_run.command == "x y"
    assert next(storage.get_pipeline_results(parent_id=run.id)).state is State.RUNNING
    assert next(storage.get_task_executions(parent_id=stage.id)).state is State.PENDING
    assert storage.delete(TaskResult, file="a.fits") == 1
    assert [item.name for item in storage.get_task_results()] == ["b.fits"]


def test_states_and_times(place: tuple[PipelineStorage, Database]) -> None:
    storage, _ = place
    with helpers.pipeline_execution(storage, "load", "load postgresql://me:secret@host/db password=hidden") as run:
        assert run.state is State.RUNNING
        assert run.pid == os.getpid()
        with pytest.raises(ValueError, match="boom"), helpers.pipeline_result(storage, run, "tile 1") as tile:
            raise ValueError("boom at postgresql://me:secret@host/db")
        with pytest.raises(KeyboardInterrupt), helpers.pipeline_result(storage, run, "tile 2") as stopped:
            raise KeyboardInterrupt
        time.sleep(0.02)
    (again,) = storage.get_pipeline_executions()
    assert again.state is State.DONE
    assert 0.02 <= again.duration.total_seconds() < 60
    assert again.started.tzinfo is not None
    assert "secret" not in again.command + tile.message
    assert "hidden" not in again.command
    assert tile.state is State.FAILED
    assert tile.message.startswith("ValueError: boom")
    assert stopped.state is State.CANCELLED
    assert {item.name for item in helpers.unfinished(storage, run)} == {"tile 1", "tile 2"}
    assert helpers.counts_by_state(storage.get_pipeline_results()) == {"failed": 1, "cancelled": 1}
    assert helpers.latest_execution(storage).id == run.id


def test_bound_to_a_transaction(place: tuple[PipelineStorage, Database]) -> None:
    storage, database = place
    run = storage.create_pipeline_execution("load")
    with database.begin() as connection:
        connection.execute(sa.text("CREATE TABLE things (n integer)"))
    with database.begin() as connection:
        connection.execute(sa.text("INSERT INTO things VALUES (1)"))
        storage.bound(connection).create_pipeline_result(run, "kept", state=State.DONE)
    with pytest.raises(ZeroDivisionError), database.begin() as connection:  # noqa: PT012
        connection.execute(sa.text("INSERT INTO things VALUES (2)"))
        storage.bound(connection).create_pipeline_result(run, "lost", state=State.DONE)
        raise ZeroDivisionError
    assert [item.name for item in storage.get_pipeline_results()] == ["kept"]
    with database.begin() as connection:
        assert connection.execute(sa.text("SELECT n FROM things")).scalars().all() == [1]


def test_ways_to_get_and_set() -> None:
    @dataclass
    class Special(PipelineExecution):
        def get_name(self) -> str:
            return f"special {self.name}"

        def set_message(self, value: str) -> None:
            self.message = value.upper()

    record = Special(name="load")
    assert record.get_name() == "special load"
    assert record.get_state() is State.PENDING
    record.set_state(State.DONE)
    record.set_message("quiet")
    assert (record.state, record.message) == (State.DONE, "QUIET")
    assert record.get_duration() is None
    for name in ("get_nothing", "set_nothing", "nothing", "get_"):
        with pytest.raises(AttributeError):
            getattr(record, name)


def test_custom_storage_by_path(tmp_path: Path, sqlite_file: Path) -> None:
    path = str(tmp_path / "runs.jsonl")
    with connect(sqlite_file) as database:
        assert isinstance(load_storage(DEFAULT_STORAGE, database), OrmPipelineResultsStorage)
        for setting in (
            ("specprod.results.jsonlines.JsonLinesStorage", {"path": path}),
            f'["specprod.results.jsonlines.JsonLinesStorage", {{"path": "{path}"}}]',
        ):
            assert load_storage(setting, database).path == Path(path)
        for wrong in (
            "specprod.results.nowhere.Storage",
            "specprod.results.base.State",
            "nodots",
            ["specprod.results.jsonlines.JsonLinesStorage", {"colour": "red"}],
            "[broken",
        ):
            with pytest.raises(ConfigurationError, match="results storage"):
                load_storage(wrong, database)


def test_run_is_told_to_the_configured_storage(sample_root: Path, sqlite_file: Path, tmp_path: Path) -> None:
    lines = tmp_path / "runs.jsonl"
    setting = f'["specprod.results.jsonlines.JsonLinesStorage", {{"path": "{lines}"}}]'
    words = [sys.executable, "-m", "specprod.cli.main", "run", str(sample_root), "--specprod", "sample", "--quiet"]
    environ = os.environ | {"PIPELINES_PIPELINES_RESULTS_STORAGE": setting}
    subprocess.run([*words, "--database", str(sqlite_file)], check=True, env=environ)
    followed, storage = JsonLinesStorage(path=lines), OrmPipelineResultsStorage(connect(sqlite_file))
    for kind in ("pipeline_executions", "pipeline_results", "task_executions", "task_results"):
        ours = [(item.name, item.state) for item in getattr(storage, f"get_{kind}")()]
        theirs = [(item.name, item.state) for item in getattr(followed, f"get_{kind}")()]
        assert ours == theirs
        assert ours


def test_torn_line_is_mended(tmp_path: Path) -> None:
    storage = JsonLinesStorage(path=tmp_path / "runs.jsonl")
    storage.create()
    storage.create_pipeline_execution("first")
    with storage.path.open("ab") as stream:
        stream.write(b'{"kind": "pipeline_execution", "id": 7, "na')
    assert [item.name for item in storage.get_pipeline_executions()] == ["first"]
    storage.create_pipeline_execution("second")
    assert [item.name for item in storage.get_pipeline_executions()] == ["first", "second"]


def test_killed_writers_leave_whole_records(tmp_path: Path) -> None:
    """Several processes write at once and are killed; every line that is there is whole, and numbers are unique."""
    path = tmp_path / "runs.jsonl"
    code = (
        "import sys; from specprod.results.jsonlines import JsonLinesStorage\n"
        "storage = JsonLinesStorage(path=sys.argv[1])\n"
        "while True: storage.create_pipeline_execution('x' * 500)\n"
    )
    JsonLinesStorage(path=path).create()
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    deadline = time.monotonic() + 30
    while path.stat().st_size < 60_000 and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()
    numbers = [item.id for item in JsonLinesStorage(path=path).get_pipeline_executions()]
    assert len(numbers) == len(set(numbers)) > 50
