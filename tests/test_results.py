"""The results storage: one suite over the storage in the database, the one in a file, and one of a user's own."""

from __future__ import annotations

import copy
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
import sqlalchemy as sa

from specprod.configuration.passwords import mask_text
from specprod.database import Database, connect
from specprod.errors import ConfigurationError, ConstraintError, DatabaseError, ValueRejectedError
from specprod.results import helpers
from specprod.results.base import PipelineExecution, PipelineStorage, Record, State, TaskExecution, TaskResult
from specprod.results.jsonlines import JsonLinesStorage
from specprod.results.orm import OrmPipelineResultsStorage
from specprod.results.storage import DEFAULT_STORAGE, load_storage

pytestmark = pytest.mark.compat

R = TypeVar("R", bound=Record)
Place = tuple[PipelineStorage, Database]
JSON_LINES = "specprod.results.jsonlines.JsonLinesStorage"


class ListStorage(PipelineStorage):
    """A storage as a user would write one: records in a list."""

    def __init__(self, database: Database, records: list[Record] | None = None) -> None:
        self.records = [] if records is None else records
        self._numbers = itertools.count(1)

    def create(self) -> None:
        pass

    def bound(self, connection: sa.Connection) -> Self:
        pending: list[Record] = []
        other = copy.copy(self)
        other.records = pending
        sa.event.listen(connection, "commit", lambda _: self.records.extend(pending))
        return other

    def insert(self, record: Record) -> None:
        record.id = next(self._numbers)
        self.records.append(copy.deepcopy(record))

    def save(self, record: Record) -> None:
        (index,) = [n for n, item in enumerate(self.records) if item.id == record.number()]
        self.records[index] = copy.deepcopy(record)

    def select(self, cls: type[R], **filters: Any) -> Iterator[R]:
        cls.check_filters(filters)
        for item in self.records:
            if isinstance(item, cls) and all(getattr(item, name) == value for name, value in filters.items()):
                yield copy.deepcopy(item)

    def delete(self, cls: type[Record], **filters: Any) -> int:
        numbers = [item.id for item in self.select(cls, **filters)]
        self.records[:] = [item for item in self.records if item.id not in numbers]
        return len(numbers)


OURS = ["orm postgresql", "orm sqlite", "json lines"]


@pytest.fixture(params=[*OURS, "custom"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A storage, and the database whose transactions it joins; a server's sessions are not in UTC."""
    target = str(request.getfixturevalue("postgres_url" if request.param == "orm postgresql" else "sqlite_file"))
    with connect(f"{target}?options=-ctimezone%3DAsia/Tokyo" if "://" in target else target, create=True) as database:
        setting: Any = {
            "json lines": (JSON_LINES, {"path": tmp_path / "runs.jsonl"}),
            "custom": f"{__name__}.ListStorage",
        }.get(request.param, DEFAULT_STORAGE)
        storage = load_storage(setting, database)
        storage.create()
        storage.create()
        yield storage, database


def test_four_kinds(place: Place) -> None:
    storage, _ = place
    run = storage.create_pipeline_execution("load", {"root": "prod", "stages": [1, 2]}, command="x y")
    part = storage.create_pipeline_execution("part", None, parent=run)
    stage = storage.create_pipeline_result(run, "redshift", state=State.RUNNING)
    table = storage.create_task_execution(stage, "zpix")
    first = storage.create_task_result(table, "a.fits", file="a.fits", first_row=0, last_row=5, datasum=2**32 - 1)
    storage.create_task_result(table, "b.fits", file="b.fits", first_row=0, mtime_ns=1_760_000_000_123_456_789)
    assert [item.name for item in storage.get_task_results(parent_id=table.id)] == ["a.fits", "b.fits"]
    (found,) = storage.get_task_results(file="a.fits")
    assert (found.id, found.last_row, found.datasum, found.size) == (first.id, 5, 2**32 - 1, None)
    assert next(storage.get_task_results(file="b.fits")).mtime_ns == 1_760_000_000_123_456_789
    (found_run,) = storage.get_pipeline_executions(parent_id=None)
    assert found_run.input_data == {"root": "prod", "stages": [1, 2]}
    assert found_run.command == "x y"
    (found_part,) = storage.get_pipeline_executions(parent_id=run.id)
    assert (found_part.name, found_part.id, found_part.input_data) == ("part", part.id, {})
    assert next(storage.get_pipeline_results(parent_id=run.id)).state is State.RUNNING
    assert next(storage.get_task_executions(parent_id=stage.id)).state is State.PENDING
    assert storage.delete(TaskResult, file="a.fits") == 1
    assert [item.name for item in storage.get_task_results()] == ["b.fits"]


def test_states_and_times(place: Place) -> None:
    storage, _ = place
    with helpers.pipeline_execution(storage, "load") as run:
        assert run.state is State.RUNNING
        assert (run.pid, run.versions["sqlalchemy"]) == (os.getpid(), sa.__version__)
        with pytest.raises(ValueError, match="boom"), helpers.pipeline_result(storage, run, "tile 1") as tile:
            raise ValueError("boom")
        for stop in (KeyboardInterrupt, SystemExit):
            with pytest.raises(stop), helpers.pipeline_result(storage, run, stop.__name__):
                raise stop
        with (
            helpers.pipeline_result(storage, run, "tile 2") as good,
            helpers.task_execution(storage, good, "t") as task,
        ):
            assert next(storage.get_task_executions()).state is State.RUNNING
            with helpers.task_result(storage, task, "file"):
                time.sleep(0.02)
    (again,) = storage.get_pipeline_executions()
    assert again.state is State.DONE
    assert timedelta(seconds=0.02) <= again.duration < timedelta(seconds=60)
    assert abs(datetime.now(UTC) - again.completed) < timedelta(seconds=60)
    states = {item.name: (item.state, item.message) for item in storage.get_pipeline_results()}
    assert states == {
        "tile 1": (State.FAILED, "ValueError: boom"),
        "KeyboardInterrupt": (State.CANCELLED, "KeyboardInterrupt"),
        "SystemExit": (State.CANCELLED, "SystemExit"),
        "tile 2": (State.DONE, ""),
    }
    assert tile.get_completed() is not None
    assert [item.name for item in helpers.unfinished(storage, run)] == ["tile 1", "KeyboardInterrupt", "SystemExit"]
    assert helpers.counts_by_state(storage.get_pipeline_results()) == {"failed": 1, "cancelled": 2, "done": 1}
    other = storage.create_pipeline_execution("load")
    storage.create_pipeline_result(other, "not of the first run")
    assert helpers.summary(storage, run) == {
        "pipeline_result": {"failed": 1, "cancelled": 2, "done": 1},
        "task_execution": {"done": 1},
        "task_result": {"done": 1},
    }
    assert helpers.latest_execution(storage).id == other.id
    assert helpers.latest_execution(storage, state=str(State.DONE)).id == run.id
    assert helpers.latest_execution(storage, name="never") is None


@pytest.mark.parametrize("place", OURS, indirect=True)
def test_times_are_in_utc(place: Place) -> None:
    storage, _ = place
    summer = datetime(2026, 7, 1, 0, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    storage.create_pipeline_execution("load", started=summer, completed=datetime(2026, 6, 30, 23, 0))
    (found,) = storage.get_pipeline_executions()
    assert found.started.isoformat() == "2026-06-30T22:30:00.123456+00:00"
    assert found.duration == timedelta(minutes=30) - timedelta(microseconds=123456)


def test_no_secret_is_stored(place: Place) -> None:
    storage, _ = place
    url = "postgresql://me:geheim@host/db"
    values = {"url": url, "list": [url, 3], "password": "geheim", "inner": {"api_token": "geheim", "rows": 5}}
    with (
        pytest.raises(ValueError, match="geheim"),
        helpers.pipeline_execution(storage, "load", f"load {url} password=geheim", input_data=values) as run,
        helpers.pipeline_result(storage, run, "tile", input_data={"url": url}),
    ):
        raise ValueError(f"cannot open {url}")
    stored = [*storage.get_pipeline_executions(), *storage.get_pipeline_results()]
    assert "geheim" not in repr(stored)
    assert stored[0].command == "load postgresql://me:***@host/db password=***"
    assert stored[0].input_data["inner"] == {"api_token": "***", "rows": 5}
    assert stored[1].message == "ValueError: cannot open postgresql://me:***@host/db"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:se@cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a/b:c@host and then", "postgresql://me:***@host and then"),
        ("postgresql://:word@host", "postgresql://:***@host"),
        ("host=h password='two words' user=me", "host=h password=*** user=me"),
        ("PGPASSWORD=word psql", "PGPASSWORD=*** psql"),
        ("postgresql://host/db?password=word&sslmode=require", "postgresql://host/db?password=***&sslmode=require"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("password authentication failed for user", "password authentication failed for user"),
    ],
)
def test_masked_in_prose(text: str, expected: str) -> None:
    assert mask_text(text) == expected


def test_long_texts_are_masked_at_once() -> None:
    """A message may hold a statement with all its rows."""
    start = time.monotonic()
    for text in ("x" * 200_000, "x1." * 70_000, "x" * 200_000 + "postgresql://me:geheim@host/db"):
        assert "geheim" not in mask_text(text)
    assert time.monotonic() - start < 3


def test_failures_that_cannot_be_said_as_they_are(place: Place) -> None:
    storage, _ = place
    run = storage.create_pipeline_execution("load")
    for text in ("zero \0 byte", os.fsdecode(b"not UTF-8: \xff"), "two\n  lines", "x" * 100_000):
        with pytest.raises(OSError), helpers.pipeline_result(storage, run, "tile"):  # noqa: PT011
            raise OSError(text)
    messages = [item.message for item in storage.get_pipeline_results()]
    assert messages[:3] == ["OSError: zero \\0 byte", "OSError: not UTF-8: \\xff", "OSError: two lines"]
    assert len(messages[3]) <= 500


def test_failure_reaches_the_caller_when_the_storage_fails_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = JsonLinesStorage(path=tmp_path / "below" / "runs.jsonl")
    storage.path.parent.mkdir()
    with pytest.raises(ZeroDivisionError), helpers.pipeline_execution(storage, "load"):  # noqa: PT012
        storage.path.unlink()
        storage.path.parent.rmdir()
        raise ZeroDivisionError
    assert "cannot be recorded" in caplog.text


def test_what_is_refused(place: Place) -> None:
    storage, _ = place
    run = storage.create_pipeline_execution("load")
    for select in (storage.get_pipeline_executions, storage.get_task_results):
        with pytest.raises(TypeError, match="colour"):
            list(select(colour="red"))
    with pytest.raises(TypeError):
        storage.create_task_result(TaskExecution("t", id=1), "file", colour="red")
    with pytest.raises(ValueError, match="not stored yet"):
        storage.save(PipelineExecution("never stored"))
    with pytest.raises(ValueError, match="not stored yet"):
        storage.create_pipeline_result(PipelineExecution("never stored"), "tile")
    assert [item.id for item in storage.get_pipeline_executions()] == [run.id]


@pytest.mark.parametrize("place", OURS, indirect=True)
def test_data_that_are_not_json(place: Place) -> None:
    storage, _ = place
    for bad in (float("nan"), Path("file"), {1, 2}):
        with pytest.raises(ValueRejectedError, match="not JSON"):
            storage.create_pipeline_execution("bad", {"value": bad})
    assert list(storage.get_pipeline_executions()) == []


def test_a_record_that_is_not_there_any_more(database_target: str) -> None:
    with connect(database_target, create=True) as database:
        storage = OrmPipelineResultsStorage(database)
        storage.create()
        run = storage.create_pipeline_execution("load")
        storage.delete(PipelineExecution, id=run.id)
        with pytest.raises(DatabaseError, match="not in the database any more"):
            storage.save(run)


def test_what_failed_may_be_tried_again_and_is_done_once(place: Place) -> None:
    storage, _ = place
    run = storage.create_pipeline_execution("load")
    task = storage.create_task_execution(storage.create_pipeline_result(run, "stage"), "zpix")
    rows = {"table_name": "zpix", "file": "a.fits", "first_row": 0}
    for _ in range(2):
        with pytest.raises(ValueError, match="no"), helpers.task_result(storage, task, "a.fits", **rows):
            raise ValueError("no")
    with helpers.task_result(storage, task, "a.fits", **rows):
        pass
    assert helpers.counts_by_state(storage.get_task_results(**rows)) == {"failed": 2, "done": 1}
    if storage.transactional:
        with pytest.raises(ConstraintError):
            storage.create_task_result(task, "a.fits", state=State.DONE, **rows)


def things(database: Database, connection: sa.Connection | None = None) -> list[int]:
    """Numbers of the rows that stand for those of a production."""
    with database.begin() as other:
        return list((connection or other).execute(sa.text("SELECT n FROM things ORDER BY n")).scalars())


def test_bound_to_a_transaction(place: Place) -> None:
    storage, database = place
    run = storage.create_pipeline_execution("load")
    with database.begin() as connection:
        connection.execute(sa.text("CREATE TABLE things (n integer)"))
    with database.begin() as connection:
        connection.execute(sa.text("INSERT INTO things VALUES (1)"))
        bound = storage.bound(connection)
        kept = bound.create_pipeline_result(run, "kept")
        kept.set_state(State.DONE)
        bound.save(kept)
        assert [item.state for item in bound.get_pipeline_results(name="kept")] == [State.DONE]
    with pytest.raises(ZeroDivisionError), database.begin() as connection:  # noqa: PT012
        connection.execute(sa.text("INSERT INTO things VALUES (2)"))
        storage.bound(connection).create_pipeline_result(run, "lost", state=State.DONE)
        raise ZeroDivisionError
    assert [(item.name, item.state) for item in storage.get_pipeline_results()] == [("kept", State.DONE)]
    assert things(database) == [1]


def test_nothing_is_visible_before_the_commit(place: Place) -> None:
    storage, database = place
    run = storage.create_pipeline_execution("load")
    with database.begin() as connection:
        storage.bound(connection).create_pipeline_result(run, "tile")
        assert list(storage.get_pipeline_results()) == []
    assert [item.name for item in storage.get_pipeline_results()] == ["tile"]


@pytest.mark.parametrize("place", OURS, indirect=True)
def test_savepoints(place: Place) -> None:
    storage, database = place
    run = storage.create_pipeline_execution("load")
    with database.begin() as connection:
        bound = storage.bound(connection)
        bound.create_pipeline_result(run, "first")
        with connection.begin_nested():
            bound.create_pipeline_result(run, "second")
            with pytest.raises(ZeroDivisionError), connection.begin_nested():  # noqa: PT012
                bound.create_pipeline_result(run, "lost")
                raise ZeroDivisionError
            bound.create_pipeline_result(run, "third")
        with pytest.raises(ZeroDivisionError), connection.begin_nested():  # noqa: PT012
            storage.bound(connection).create_pipeline_result(run, "lost too")
            raise ZeroDivisionError
    assert [item.name for item in storage.get_pipeline_results()] == ["first", "second", "third"]


def test_a_record_is_one_insert_on_the_given_connection(database_target: str) -> None:
    with connect(database_target, create=True) as database:
        storage = OrmPipelineResultsStorage(database)
        storage.create()
        run = storage.create_pipeline_execution("load")
        task = storage.create_task_execution(storage.create_pipeline_result(run, "stage"), "zpix")
        statements: list[str] = []
        checkouts: list[object] = []
        with database.begin() as connection:
            sa.event.listen(connection, "before_cursor_execute", lambda *words: statements.append(words[2]))
            sa.event.listen(database.engine.pool, "checkout", lambda *words: checkouts.append(words))
            for first in range(3):
                storage.bound(connection).create_task_result(
                    task, "a.fits", state=State.DONE, table_name="zpix", file="a.fits", first_row=first
                )
        assert [item.split()[0] for item in statements] == ["INSERT"] * 3
        assert checkouts == []


def test_tables_are_described_and_searched_by_index(database_target: str) -> None:
    with connect(database_target, create=True) as database:
        OrmPipelineResultsStorage(database).create()
        with database.connect() as connection:
            found = sa.inspect(connection)
            tables = ["pipeline_execution", "pipeline_result", "task_execution", "task_result"]
            assert sorted(found.get_table_names(schema=database.schema)) == tables
            indexes = {item["name"]: item for item in found.get_indexes("task_result", schema=database.schema)}
            assert indexes["ix_task_result_file"]["column_names"] == ["table_name", "file", "first_row"]
            assert indexes["ix_task_result_unique"]["unique"]
            for table in tables if database.kind == "postgresql" else []:
                assert found.get_table_comment(table, schema=database.schema)["text"]
                assert all(item["comment"] for item in found.get_columns(table, schema=database.schema))


WRITER = """
import sys, json
import sqlalchemy as sa
from specprod.database import connect
from specprod.results import helpers
from specprod.results.base import State
from specprod.results.storage import load_storage

database = connect(sys.argv[1])
storage = load_storage(sys.argv[2], database)
with (
    helpers.pipeline_execution(storage, "load") as run,
    helpers.pipeline_result(storage, run, "stage") as stage,
    helpers.task_execution(storage, stage, "things") as task,
):
    with database.connect() as connection:
        n = (connection.scalar(sa.text("SELECT max(n) FROM things")) or 0) + 1
    while True:
        with database.begin() as connection:
            connection.execute(sa.text(f"INSERT INTO things VALUES ({n})"))
            values = {"table_name": "things", "file": "f", "first_row": n, "state": State.DONE}
            storage.bound(connection).create_task_result(task, f"row {n}", **values)
        print(n, flush=True)
        n += 1
"""


@pytest.mark.parametrize("kind", OURS)
def test_killed_in_the_middle(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """After SIGKILL rows and records agree, what was reported is there, and the next run goes on."""
    target = str(request.getfixturevalue("postgres_url" if kind == "orm postgresql" else "sqlite_file"))
    setting = json.dumps([JSON_LINES, {"path": str(tmp_path / "runs.jsonl")}]) if "json" in kind else DEFAULT_STORAGE
    chance = random.Random(20261121)
    with connect(target, create=True) as database:
        storage = load_storage(setting, database)
        storage.create()
        with database.begin() as connection:
            connection.execute(sa.text("CREATE TABLE things (n integer PRIMARY KEY)"))
        for kills in range(1, 4):
            with subprocess.Popen(
                [sys.executable, "-c", WRITER, target, setting], stdout=subprocess.PIPE, text=True
            ) as writer:
                reported = [int(writer.stdout.readline()) for _ in range(chance.randrange(1, 40))]
                time.sleep(chance.random() * 0.01)
                writer.kill()
                reported += [int(line) for line in writer.stdout if line.endswith("\n")]
            with database.begin() as connection:
                if database.kind == "postgresql":
                    # A commit that is still under way in the server ends first.
                    connection.execute(sa.text("LOCK TABLE things IN EXCLUSIVE MODE"))
                rows = set(connection.execute(sa.text("SELECT n FROM things")).scalars())
            records = {item.first_row for item in storage.get_task_results(state=str(State.DONE))}
            assert rows >= set(reported)
            if storage.transactional:
                assert records == rows
            else:
                # Its line is written just before the commit; of each kill one may have had no commit.
                assert records >= rows
                assert len(records - rows) <= kills
            (run,) = storage.get_pipeline_executions(state=str(State.RUNNING))
            assert [item.id for item in helpers.end_abandoned(storage)] == [run.id]
            assert helpers.end_abandoned(storage) == []
            assert helpers.summary(storage, run)["task_execution"] == {"failed": 1}
            assert helpers.latest_execution(storage).get_message().startswith("Killed")


def test_a_run_that_lives_is_not_abandoned(place: Place) -> None:
    storage, _ = place
    with helpers.pipeline_execution(storage, "load") as run:
        assert helpers.end_abandoned(storage) == []
        assert next(storage.get_pipeline_executions()).state is State.RUNNING
    assert run.state is State.DONE


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
    for name in ("get_nothing", "set_nothing", "nothing", "get_", "set_"):
        with pytest.raises(AttributeError):
            getattr(record, name)
    with pytest.raises(AttributeError):
        record.set_duration(timedelta(1))
    assert copy.deepcopy(record) == record


def test_storage_by_path(tmp_path: Path, sqlite_file: Path) -> None:
    path = str(tmp_path / "runs.jsonl")
    records: list[Record] = []
    with connect(sqlite_file, create=True) as database:
        assert isinstance(load_storage(DEFAULT_STORAGE, database), OrmPipelineResultsStorage)
        for setting in ((JSON_LINES, {"path": path}), f'["{JSON_LINES}", {{"path": "{path}"}}]'):
            assert load_storage(setting, database).path == Path(path)
        custom = load_storage((f"{__name__}.ListStorage", {"records": records}), database)
        custom.create_pipeline_execution("load")
        assert [item.name for item in records] == ["load"]


@pytest.mark.parametrize(
    "make",
    [
        lambda _: "specprod.results.nowhere.Storage",
        lambda _: "specprod.results.base.Nothing",
        lambda _: "specprod.results.base.State",
        lambda _: "specprod.results.base.PipelineStorage",
        lambda _: "nodots",
        lambda _: "",
        lambda _: None,
        lambda _: {},
        lambda _: [JSON_LINES],
        lambda _: (JSON_LINES, 3),
        lambda _: [JSON_LINES, {"colour": "red", "password": "geheim"}],
        lambda _: f'["{JSON_LINES}", {{"password": "geheim"',
        lambda path: (path / "broken_storage.py").write_text("class Storage(") and "broken_storage.Storage",
    ],
)
def test_wrong_settings(
    make: Callable[[Path], Any], tmp_path: Path, sqlite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with connect(sqlite_file, create=True) as database:
        with pytest.raises(ConfigurationError, match="PIPELINES_PIPELINES_RESULTS_STORAGE") as caught:
            load_storage(make(tmp_path), database)
        assert "geheim" not in str(caught.value)
