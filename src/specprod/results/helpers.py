"""Ways to create and find records that work with every storage."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import platform
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any, TypeVar

from specprod.configuration.passwords import mask_command, mask_data, mask_text
from specprod.errors import printable
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
    "descendants",
    "end_abandoned",
    "finish",
    "is_abandoned",
    "latest_execution",
    "pipeline_execution",
    "pipeline_result",
    "summary",
    "task_execution",
    "task_result",
    "unfinished",
]

R = TypeVar("R", bound=Record)

logger = logging.getLogger(__name__)

_PACKAGES = ("specprod", "astropy", "fitsio", "numpy", "psycopg", "sqlalchemy")
#: A message is for a line of a report; the whole of an error, such as a statement with its rows, is for the log.
_LONGEST_MESSAGE = 500


def _message(error: BaseException) -> str:
    """Kind of an error and its text: one line, short, without secrets, and such as every database can hold."""
    text = " ".join(str(error).replace("\0", "\\0").split())
    text = mask_text(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    # Names of files that are not UTF-8 have characters that cannot be encoded.
    text = printable(text)
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def finish(storage: PipelineStorage, record: Record, error: BaseException | None = None) -> None:
    """End a record: done, failed with the kind of error and its text, or cancelled by an interruption."""
    record.completed = now()
    if error is None:
        record.state = State.DONE
    else:
        # KeyboardInterrupt, SystemExit and GeneratorExit are requests to stop, not faults.
        record.state = State.FAILED if isinstance(error, Exception) else State.CANCELLED
        record.message = _message(error)
    storage.save(record)


@contextlib.contextmanager
def _running(storage: PipelineStorage, record: R) -> Iterator[R]:
    try:
        yield record
    except BaseException as error:
        try:
            finish(storage, record, error)
        except Exception as another:
            # The failure itself must reach the caller, even if the storage is what failed.
            logger.warning("%s %r failed, which cannot be recorded: %s", record.kind, record.name, _message(another))
        raise
    finish(storage, record)


def _begun(values: dict[str, Any]) -> dict[str, Any]:
    begun = {"state": State.RUNNING, "started": now(), **values}
    return begun | {"input_data": mask_data(begun["input_data"])} if begun.get("input_data") else begun


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that has no name.
        return str(os.getuid())


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
    facts = {"host": platform.node(), "user": _user(), "pid": os.getpid()}
    facts |= {"versions": {package: version(package) for package in _PACKAGES}, "command": mask_command(command)}
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
    """Find the run that was begun last, of those whose values equal those given."""
    return next(iter(deque(storage.get_pipeline_executions(**filters), maxlen=1)), None)


def unfinished(storage: PipelineStorage, execution: PipelineExecution) -> list[PipelineResult]:
    """Find the objects of a run that were not done."""
    return [item for item in storage.get_pipeline_results(parent_id=execution.id) if item.state != State.DONE]


def counts_by_state(records: Iterable[Record]) -> dict[str, int]:
    """Count records by their state."""
    return dict(Counter(str(record.state) for record in records))


def descendants(storage: PipelineStorage, execution: PipelineExecution) -> Iterator[Record]:
    """Yield all records of a run: its results, their tasks, the results of these."""
    parents = {execution.id}
    for select in (storage.get_pipeline_results, storage.get_task_executions, storage.get_task_results):
        # One query for a kind, whatever the number of parents.
        children: list[Record] = [item for item in select() if item.parent_id in parents]
        yield from children
        parents = {item.id for item in children}


def summary(storage: PipelineStorage, execution: PipelineExecution) -> dict[str, dict[str, int]]:
    """Count the records of a run by their kind and state.

    Returns
    -------
    dict
        Such as ``{"pipeline_result": {"done": 3, "failed": 1}, "task_execution": {…}, "task_result": {…}}``.
    """
    counts: dict[str, Counter[str]] = {cls.kind: Counter() for cls in (PipelineResult, TaskExecution, TaskResult)}
    for record in descendants(storage, execution):
        counts[record.kind][str(record.state)] += 1
    return {kind: dict(states) for kind, states in counts.items()}


def is_abandoned(run: PipelineExecution) -> bool:
    """Whether a run is running by its record, on this machine, but its process is no more."""
    here = run.state == State.RUNNING and run.host == platform.node() and run.pid is not None
    return here and not _alive(run.pid or 0)


def end_abandoned(storage: PipelineStorage, *, everywhere: bool = False) -> list[PipelineExecution]:
    """Mark the runs as failed whose process was killed, with all that they had under way.

    They are those that are running by their records, on this machine, in a process that is no more. They ended when
    the last of their records did.

    Parameters
    ----------
    storage : PipelineStorage
    everywhere : bool
        Mark all that are running by their records: the caller knows that none is.

    Returns
    -------
    list of PipelineExecution
        The runs that were marked.
    """
    found = storage.get_pipeline_executions(state=str(State.RUNNING))
    abandoned = [run for run in found if everywhere or is_abandoned(run)]
    for run in abandoned:
        records = list(descendants(storage, run))
        times = [time for item in (run, *records) for time in (item.started, item.completed) if time]
        for record in (*(item for item in records if item.state == State.RUNNING), run):
            record.state = State.FAILED
            record.message = f"Killed: process {run.pid} ended without a word"
            record.completed = max(times, default=None)
            storage.save(record)
    return abandoned


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
