"""Ways to create and find records that work with every storage.

The storage is the first argument. Without it, it is the one that the configuration names, in the database that it
names; for several calls `current_storage` gives it once.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import platform
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from importlib.metadata import requires, version
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

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
from specprod.results.storage import configured_storage, named_failures

__all__ = [
    "counts_by_state",
    "current_storage",
    "descendants",
    "end_abandoned",
    "finish",
    "get_pipeline_executions",
    "get_pipeline_results",
    "get_task_executions",
    "get_task_results",
    "is_abandoned",
    "latest_execution",
    "pipeline_execution",
    "pipeline_result",
    "summary",
    "task_execution",
    "task_result",
    "unfinished",
]

P = ParamSpec("P")
R = TypeVar("R", bound=Record)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

logger = logging.getLogger(__name__)

#: The storage that the configuration names, for the length of a block.
current_storage = configured_storage


class Helper(Protocol[P, T_co]):
    """A function whose first argument, the storage, may be left out."""

    @overload
    def __call__(self, storage: PipelineStorage, /, *args: P.args, **values: P.kwargs) -> T_co: ...
    @overload
    def __call__(self, *args: P.args, **values: P.kwargs) -> T_co: ...


def _helper(function: Callable[Concatenate[PipelineStorage, P], T]) -> Helper[P, T]:
    """Let a function do without the storage, and say which one failed."""

    @wraps(function)
    def called(*args: Any, **values: Any) -> T:
        with _chosen(args) as (storage, rest), named_failures(storage.classes):
            return function(storage, *rest, **values)

    return called


def _block(
    function: Callable[Concatenate[PipelineStorage, P], Iterator[T]],
) -> Helper[P, contextlib.AbstractContextManager[T]]:
    """Make a context manager of a generator, and let it do without the storage."""
    opened = contextlib.contextmanager(function)

    @wraps(function)
    @contextlib.contextmanager
    def called(*args: Any, **values: Any) -> Iterator[T]:
        with _chosen(args) as (storage, rest), opened(storage, *rest, **values) as record:
            yield record

    return called


@contextlib.contextmanager
def _chosen(args: tuple[Any, ...]) -> Iterator[tuple[PipelineStorage, tuple[Any, ...]]]:
    """Give the storage, the first of some arguments or the configured one, and the other arguments."""
    if args and isinstance(args[0], PipelineStorage):
        yield args[0], args[1:]
    else:
        with configured_storage() as storage:
            yield storage, args


#: A message is for a line of a report; the whole of an error, such as a statement with its rows, is for the log.
_LONGEST_MESSAGE = 500


def _message(error: BaseException) -> str:
    """Kind of an error and its text: one line, short, without secrets, and such as every database can hold."""
    text = " ".join(str(error).replace("\0", "\\0").split())
    text = mask_text(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    # Names of files that are not UTF-8 have characters that cannot be encoded.
    text = printable(text)
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


@_helper
def finish(storage: PipelineStorage, /, record: Record, error: BaseException | None = None) -> None:
    """End a record: done, failed with the kind of error and its text, or cancelled by an interruption."""
    record.set_completed(now())
    if error is None:
        record.set_state(State.DONE)
    else:
        # KeyboardInterrupt, SystemExit and GeneratorExit are requests to stop, not faults.
        record.set_state(State.FAILED if isinstance(error, Exception) else State.CANCELLED)
        record.set_message(_message(error))
    storage.save(record)


@contextlib.contextmanager
def _running(storage: PipelineStorage, make: Callable[[], R]) -> Iterator[R]:
    with named_failures(storage.classes):
        record = make()
    try:
        yield record
    except BaseException as error:
        try:
            finish(storage, record, error)
        except Exception as another:
            # The failure itself must reach the caller, even if the storage is what failed.
            logger.warning(
                "%s %r failed, which cannot be recorded: %s", record.kind, record.get_name(), _message(another)
            )
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


def _versions() -> dict[str, str]:
    """Versions of this package and of those that it is made with."""
    needed = [item for item in requires("specprod") or () if "extra ==" not in item]
    names = ["specprod", *(re.split(r"[^\w.-]", item, maxsplit=1)[0] for item in needed)]
    return {name: version(name) for name in names}


@_block
def pipeline_execution(
    storage: PipelineStorage, /, name: str, command: str = "", **values: Any
) -> Iterator[PipelineExecution]:
    """Record a run from its start to its end, with versions, machine, user and process.

    Parameters
    ----------
    storage : PipelineStorage, optional
    name : str
        The pipeline.
    command : str
        Words of the command; passwords are masked.
    **values
        Other values of the record, such as ``input_data``.
    """
    facts = {"host": platform.node(), "user": _user(), "pid": os.getpid()}
    facts |= {"versions": _versions(), "command": mask_command(command)}
    with _running(storage, lambda: storage.create_pipeline_execution(name, **_begun(facts | values))) as record:
        yield record


@_block
def pipeline_result(
    storage: PipelineStorage, /, execution: PipelineExecution, name: str, **values: Any
) -> Iterator[PipelineResult]:
    """Record the work on an object from its start to its end."""
    with _running(storage, lambda: storage.create_pipeline_result(execution, name, **_begun(values))) as record:
        yield record


@_block
def task_execution(
    storage: PipelineStorage, /, result: PipelineResult, name: str, **values: Any
) -> Iterator[TaskExecution]:
    """Record a task from its start to its end."""
    with _running(storage, lambda: storage.create_task_execution(result, name, **_begun(values))) as record:
        yield record


@_block
def task_result(storage: PipelineStorage, /, task: TaskExecution, name: str, **values: Any) -> Iterator[TaskResult]:
    """Record the work of a task on an object from its start to its end."""
    with _running(storage, lambda: storage.create_task_result(task, name, **_begun(values))) as record:
        yield record


@_helper
def get_pipeline_executions(storage: PipelineStorage, /, **filters: Any) -> list[PipelineExecution]:
    """List the runs whose values equal those given, in the order in which they were begun."""
    return list(storage.get_pipeline_executions(**filters))


@_helper
def get_pipeline_results(storage: PipelineStorage, /, **filters: Any) -> list[PipelineResult]:
    """List what runs did for their objects, for example of one by ``parent_id``."""
    return list(storage.get_pipeline_results(**filters))


@_helper
def get_task_executions(storage: PipelineStorage, /, **filters: Any) -> list[TaskExecution]:
    """List the tasks whose values equal those given."""
    return list(storage.get_task_executions(**filters))


@_helper
def get_task_results(storage: PipelineStorage, /, **filters: Any) -> list[TaskResult]:
    """List what tasks did for their objects, for example of a table by ``table_name``."""
    return list(storage.get_task_results(**filters))


@_helper
def latest_execution(storage: PipelineStorage, /, **filters: Any) -> PipelineExecution | None:
    """Find the run that was begun last, of those whose values equal those given."""
    return next(iter(deque(storage.get_pipeline_executions(**filters), maxlen=1)), None)


@_helper
def unfinished(storage: PipelineStorage, /, execution: PipelineExecution) -> list[PipelineResult]:
    """Find the objects of a run that were not done."""
    return [
        item for item in storage.get_pipeline_results(parent_id=execution.get_id()) if item.get_state() != State.DONE
    ]


def counts_by_state(records: Iterable[Record]) -> dict[str, int]:
    """Count records by their state."""
    return dict(Counter(str(record.get_state()) for record in records))


@_helper
def descendants(storage: PipelineStorage, /, execution: PipelineExecution) -> list[Record]:
    """List all records of a run: its results, their tasks, the results of these."""
    found: list[Record] = []
    parents = {execution.get_id()}
    for select in (storage.get_pipeline_results, storage.get_task_executions, storage.get_task_results):
        # One query for a kind, whatever the number of parents.
        children: list[Record] = [item for item in select() if item.get_parent_id() in parents]
        found += children
        parents = {item.get_id() for item in children}
    return found


@_helper
def summary(storage: PipelineStorage, /, execution: PipelineExecution) -> dict[str, dict[str, int]]:
    """Count the records of a run by their kind and state.

    Returns
    -------
    dict
        Such as ``{"pipeline_result": {"done": 3, "failed": 1}, "task_execution": {…}, "task_result": {…}}``.
    """
    counts: dict[str, Counter[str]] = {cls.kind: Counter() for cls in (PipelineResult, TaskExecution, TaskResult)}
    for record in descendants(storage, execution):
        counts[record.kind][str(record.get_state())] += 1
    return {kind: dict(states) for kind, states in counts.items()}


def is_abandoned(run: PipelineExecution) -> bool:
    """Whether a run is running by its record, on this machine, but its process is no more."""
    pid = run.get_pid()
    here = run.get_state() == State.RUNNING and run.get_host() == platform.node() and pid is not None
    return here and not _alive(pid)


@_helper
def end_abandoned(storage: PipelineStorage, /, *, everywhere: bool = False) -> list[PipelineExecution]:
    """Mark the runs as failed whose process was killed, with all that they had under way.

    They are those that are running by their records, on this machine, in a process that is no more. They ended when
    the last of their records did.

    Parameters
    ----------
    storage : PipelineStorage, optional
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
        records = descendants(storage, run)
        times = [time for item in (run, *records) for time in (item.get_started(), item.get_completed()) if time]
        for record in (*(item for item in records if item.get_state() == State.RUNNING), run):
            record.set_state(State.FAILED)
            record.set_message(f"Killed: process {run.get_pid()} ended without a word")
            record.set_completed(max(times, default=None))
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
