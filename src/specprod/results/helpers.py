"""Ways to create and find records that work with every storage."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import re
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, TypeVar

from specprod.results.base import (
    PipelineExecution,
    PipelineResult,
    PipelineStorage,
    Record,
    State,
    TaskExecution,
    TaskResult,
    now,
)

__all__ = [
    "counts_by_state",
    "finish",
    "latest_execution",
    "masked",
    "pipeline_execution",
    "pipeline_result",
    "task_execution",
    "task_result",
    "unfinished",
]

R = TypeVar("R", bound=Record)

_PACKAGES = ("specprod", "astropy", "fitsio", "numpy", "psycopg", "sqlalchemy")
_SECRET = re.compile(r"(?<=://)([^:/@\s]*):([^@\s]*)(?=@)|(password\s*=\s*)(\S+)", re.IGNORECASE)


def masked(text: str) -> str:
    """Hide passwords in URLs and connection strings."""
    return _SECRET.sub(lambda found: f"{found[1]}:***" if found[1] is not None else f"{found[3]}***", text)


def finish(storage: PipelineStorage, record: Record, error: BaseException | None = None) -> None:
    """End a record: done, failed with the kind of error and its text, or cancelled by an interruption."""
    record.completed = now()
    if error is None:
        record.state = State.DONE
    else:
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        record.state = State.CANCELLED if interrupted else State.FAILED
        record.message = masked(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    storage.save(record)


@contextlib.contextmanager
def _running(storage: PipelineStorage, record: R) -> Iterator[R]:
    try:
        yield record
    except BaseException as error:
        # The failure itself must reach the caller, even if the storage is what failed.
        with contextlib.suppress(Exception):
            finish(storage, record, error)
        raise
    finish(storage, record)


def _begun(values: dict[str, Any]) -> dict[str, Any]:
    return {"state": State.RUNNING, "started": now(), **values}


@contextlib.contextmanager
def pipeline_execution(
    storage: PipelineStorage, name: str, command: str = "", **values: Any
) -> Iterator[PipelineExecution]:
    """Record a run from its start to its end, with versions, machine, user and process.

    Parameters
    ----------
    storage : PipelineStorage
    name : str
        The pipeline.
    command : str
        Words of the command; passwords are masked.
    **values
        Other values of the record, such as ``input_data``.
    """
    facts = {"host": platform.node(), "user": getpass.getuser(), "pid": os.getpid()}
    facts |= {"versions": {package: version(package) for package in _PACKAGES}, "command": masked(command)}
    with _running(storage, storage.create_pipeline_execution(name, **_begun(facts | values))) as record:
        yield record


@contextlib.contextmanager
def pipeline_result(
    storage: PipelineStorage, execution: PipelineExecution, name: str, **values: Any
) -> Iterator[PipelineResult]:
    """Record the work on an object from its start to its end."""
    with _running(storage, storage.create_pipeline_result(execution, name, **_begun(values))) as record:
        yield record


@contextlib.contextmanager
def task_execution(
    storage: PipelineStorage, result: PipelineResult, name: str, **values: Any
) -> Iterator[TaskExecution]:
    """Record a task from its start to its end."""
    with _running(storage, storage.create_task_execution(result, name, **_begun(values))) as record:
        yield record


@contextlib.contextmanager
def task_result(storage: PipelineStorage, task: TaskExecution, name: str, **values: Any) -> Iterator[TaskResult]:
    """Record the work of a task on an object from its start to its end."""
    with _running(storage, storage.create_task_result(task, name, **_begun(values))) as record:
        yield record


def latest_execution(storage: PipelineStorage, **filters: Any) -> PipelineExecution | None:
    """Find the run that was begun last."""
    return next(iter(reversed(list(storage.get_pipeline_executions(**filters)))), None)


def unfinished(storage: PipelineStorage, execution: PipelineExecution) -> list[PipelineResult]:
    """Find the objects of a run that were not done."""
    return [item for item in storage.get_pipeline_results(parent_id=execution.id) if item.state != State.DONE]


def counts_by_state(records: Iterator[Record]) -> dict[str, int]:
    """Count records by their state."""
    return dict(Counter(str(record.state) for record in records))
