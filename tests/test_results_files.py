"""The results storage in a file of JSON lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from specprod.database import connect
from specprod.errors import ConfigurationError, FormatError
from specprod.results.base import PipelineExecution, State
from specprod.results.jsonlines import JsonLinesStorage
from specprod.results.orm import OrmPipelineResultsStorage

pytestmark = pytest.mark.compat


@pytest.fixture
def storage(tmp_path: Path) -> JsonLinesStorage:
    made = JsonLinesStorage(path=tmp_path / "runs.jsonl")
    made.create()
    return made


def names(storage: JsonLinesStorage) -> list[str]:
    return [item.name for item in storage.get_pipeline_executions()]


def test_lines_are_only_appended(storage: JsonLinesStorage) -> None:
    run = storage.create_pipeline_execution("grün", {"n": [1, None]})
    before = storage.path.read_bytes()
    run.set_state(State.DONE)
    storage.save(run)
    storage.delete(PipelineExecution, id=run.id)
    after = storage.path.read_bytes()
    assert after.startswith(before)
    lines = [json.loads(line) for line in after.decode().splitlines()]
    assert [(line["name"], line["state"], line.get("deleted", False)) for line in lines] == [
        ("grün", "pending", False),
        ("grün", "done", False),
        ("grün", "done", True),
    ]
    assert names(storage) == []


@pytest.mark.parametrize("reader", ["same", "another"])
def test_torn_line_is_mended(storage: JsonLinesStorage, reader: str) -> None:
    storage.create_pipeline_execution("first")
    torn = b'{"kind": "pipeline_execution", "id": 7, "na'
    with storage.path.open("ab") as stream:
        stream.write(torn)
    again = storage if reader == "same" else JsonLinesStorage(path=storage.path)
    assert names(again) == ["first"]
    again.create_pipeline_execution("second")
    assert names(again) == names(JsonLinesStorage(path=storage.path)) == ["first", "second"]
    assert torn not in storage.path.read_bytes()


@pytest.mark.parametrize("line", [b"garbage", b'{"kind": "pipeline_execution"}', b'{"id": null}', b"[1]", b"\xff", b""])
def test_a_line_that_is_no_record(storage: JsonLinesStorage, line: bytes) -> None:
    storage.create_pipeline_execution("first")
    with storage.path.open("ab") as stream:
        stream.write(line + b"\n")
    for again in (storage, JsonLinesStorage(path=storage.path)):
        with pytest.raises(FormatError, match=r"runs\.jsonl: line 2 is not a record"):
            names(again)


def test_two_that_write_see_each_other(storage: JsonLinesStorage) -> None:
    other = JsonLinesStorage(path=storage.path)
    for n in range(3):
        storage.create_pipeline_execution(f"a{n}")
        other.create_pipeline_execution(f"b{n}")
    assert names(storage) == names(other) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_file_that_was_replaced(storage: JsonLinesStorage, tmp_path: Path) -> None:
    other = JsonLinesStorage(path=tmp_path / "other.jsonl")
    other.create_pipeline_execution("new")
    for _ in range(3):
        storage.create_pipeline_execution("old")
    other.path.rename(storage.path)
    assert names(storage) == ["new"]
    storage.path.write_bytes(b"")
    assert names(storage) == []
    storage.path.unlink()
    assert names(storage) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "runs.jsonl", tmp_path):
        with pytest.raises(ConfigurationError, match=f"{path}: the results storage cannot use it"):
            JsonLinesStorage(path=path).create()
    with pytest.raises(ConfigurationError, match="path"):
        JsonLinesStorage()


def test_a_full_disk_leaves_whole_lines(storage: JsonLinesStorage) -> None:
    """A limit on the size of files stands for the disk: half of a line fits."""
    storage.create_pipeline_execution("first")
    code = (
        "import resource, signal, sys; from specprod.results.jsonlines import JsonLinesStorage\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "storage = JsonLinesStorage(path=sys.argv[1]); limit = storage.path.stat().st_size + 100\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "storage.create_pipeline_execution('x' * 500)\n"
    )
    before = storage.path.read_bytes()
    result = subprocess.run(
        [sys.executable, "-c", code, str(storage.path)], capture_output=True, text=True, check=False
    )
    assert "ConfigurationError" in result.stderr
    assert "File too large" in result.stderr
    assert storage.path.read_bytes() == before


def test_rows_are_not_committed_when_lines_cannot_be_written(storage: JsonLinesStorage, sqlite_file: Path) -> None:
    run = storage.create_pipeline_execution("load")
    with connect(sqlite_file, create=True) as database:
        with database.begin() as connection:
            connection.execute(sa.text("CREATE TABLE things (n integer)"))
        with pytest.raises(ConfigurationError), database.begin() as connection:  # noqa: PT012
            connection.execute(sa.text("INSERT INTO things VALUES (1)"))
            storage.bound(connection).create_pipeline_result(run, "lost")
            storage.path.unlink()
            storage.path.mkdir()
        with database.begin() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM things")).scalar_one() == 0


def test_threads_get_numbers_of_their_own(storage: JsonLinesStorage) -> None:
    def write() -> None:
        for _ in range(20):
            storage.create_pipeline_execution("x")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [item.id for item in storage.get_pipeline_executions()] == list(range(1, 81))


def test_killed_writers_leave_whole_records(storage: JsonLinesStorage) -> None:
    """Several processes write at once and are killed; every line that is there is whole, and numbers are unique."""
    code = (
        "import sys; from specprod.results.jsonlines import JsonLinesStorage\n"
        "storage = JsonLinesStorage(path=sys.argv[1])\n"
        "while True: storage.create_pipeline_execution('x' * 500)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(storage.path)]) for _ in range(3)]
    deadline = time.monotonic() + 30
    while storage.path.stat().st_size < 60_000 and time.monotonic() < deadline:
        # It can be read at any moment.
        assert set(names(storage)) <= {"x" * 500}
        time.sleep(0.05)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()
    whole = [json.loads(line) for line in storage.path.read_bytes().split(b"\n")[:-1]]
    numbers = [line["id"] for line in whole]
    assert len(numbers) == len(set(numbers)) > 50
    assert len(names(storage)) == len(numbers)


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
