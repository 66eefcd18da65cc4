"""The interface of results storages: four kinds of record, and what a storage does with them.

A pipeline execution is one run of a command. It has pipeline results, one for each object that it works on (a stage; a
tile); these have task executions, one for each task (a table); and these have task results, one for each object of the
task (a file, or a range of its rows).
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from specprod.errors import ValueRejectedError

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "PipelineExecution",
    "PipelineResult",
    "PipelineStorage",
    "Record",
    "State",
    "TaskExecution",
    "TaskResult",
    "now",
    "utc",
]


class State(StrEnum):
    """What has become of a piece of work."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


# Values that are kept as JSON.
_JSON = ("input_data", "versions")


def now() -> datetime:
    """Give the present time, UTC."""
    return datetime.now(UTC)


def utc(time: datetime) -> datetime:
    """Give a time in UTC; one that has no zone is in UTC already."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


@dataclass
class Record:
    """What the four kinds of record have in common.

    Values are read and set by ``get_…()`` and ``set_…()``: by a method of that name where a storage defines one, else
    by the property; where there is neither, AttributeError is raised.

    Attributes
    ----------
    name : str
        The pipeline, the object, or the task.
    state : State
    message : str
        What went wrong, for a failure: the kind of error and its text.
    started, completed : datetime or None
        UTC.
    input_data : dict
        What the work was begun with; JSON.
    id : int or None
        Number of the record, once it is stored.
    parent_id : int or None
        That of the record to which it belongs; of a run, the run of which it is a part, where there is one.
    """

    kind: ClassVar[str] = "record"

    name: str
    state: State = State.PENDING
    message: str = ""
    started: datetime | None = None
    completed: datetime | None = None
    input_data: dict[str, Any] = field(default_factory=dict)
    id: int | None = None
    parent_id: int | None = None

    @property
    def duration(self) -> timedelta | None:
        """Time from start to end, or until now where the work still runs."""
        if self.started is None:
            return None
        return (self.completed or now()) - self.started

    def __getattr__(self, name: str) -> Callable[..., Any]:
        what, _, wanted = name.partition("_")
        if what in ("get", "set") and wanted:
            # Raises AttributeError of the property itself, where there is none.
            object.__getattribute__(self, wanted)
            if what == "get":
                return lambda: getattr(self, wanted)
            return lambda value: setattr(self, wanted, value)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def values(self) -> dict[str, Any]:
        """All values but the number of the record, by name, as they are stored: times in UTC.

        Raises
        ------
        ValueRejectedError
            If data that are kept as JSON cannot be, such as NaN or a path.
        """
        values = {name: getattr(self, f"get_{name}")() for name in self.names() if name != "id"}
        for name, value in values.items():
            if isinstance(value, datetime):
                values[name] = utc(value)
            elif name in _JSON:
                try:
                    json.dumps(value, allow_nan=False)
                except (TypeError, ValueError) as error:
                    raise ValueRejectedError(f"{self.kind} {self.name!r} is not JSON: {error}", column=name) from error
        return values

    @classmethod
    def names(cls) -> list[str]:
        """Names of all values."""
        return [item.name for item in dataclasses.fields(cls)]

    @classmethod
    def check_filters(cls, filters: dict[str, Any]) -> None:
        """Refuse filters on values that records of this kind do not have.

        Raises
        ------
        TypeError
            As for any argument that a function does not take.
        """
        for name in filters:
            if name not in cls.names():
                raise TypeError(f"{cls.kind} has no value {name!r} to select by; it has {', '.join(cls.names())}")

    def number(self) -> int:
        """Give the number of the record.

        Raises
        ------
        ValueError
            If it is not stored yet.
        """
        if self.id is None:
            raise ValueError(f"{self.kind} {self.name!r} is not stored yet")
        return self.id


@dataclass
class PipelineExecution(Record):
    """One run of a pipeline; for the loader, of a command.

    Attributes
    ----------
    command : str
        Words of the command, without secrets.
    versions : dict
        Versions of the packages that matter.
    host, user : str
    pid : int or None
    """

    kind: ClassVar[str] = "pipeline_execution"

    command: str = ""
    versions: dict[str, Any] = field(default_factory=dict)
    host: str = ""
    user: str = ""
    pid: int | None = None


@dataclass
class PipelineResult(Record):
    """What a run did for one object; for the loader, a stage or a tile."""

    kind: ClassVar[str] = "pipeline_result"


@dataclass
class TaskExecution(Record):
    """One task for one object; for the loader, a table."""

    kind: ClassVar[str] = "task_execution"


@dataclass
class TaskResult(Record):
    """What a task did for one of its objects; for the loader, a range of the rows of a file.

    Attributes
    ----------
    table_name : str or None
    file : str or None
        Below the root of the production.
    hdu : str or None
    first_row, last_row : int or None
        Range of rows, the last not included.
    file_rows : int or None
        Number of rows of the file.
    rows : int or None
        Rows that were written.
    rejected : int or None
        Rows that were not, because they violate a rule.
    size, mtime_ns : int or None
        Size of the file in bytes, and its time of modification in nanoseconds.
    datasum : int or None
        Checksum of the bytes of these rows; those of all ranges of a file add up to the FITS keyword DATASUM.
    options : str or None
        Arguments that change the result, as JSON.
    """

    kind: ClassVar[str] = "task_result"

    table_name: str | None = None
    file: str | None = None
    hdu: str | None = None
    first_row: int | None = None
    last_row: int | None = None
    file_rows: int | None = None
    rows: int | None = None
    rejected: int | None = None
    size: int | None = None
    mtime_ns: int | None = None
    datasum: int | None = None
    options: str | None = None


R = TypeVar("R", bound=Record)


class PipelineStorage(ABC):
    """Stores records. A storage of one's own defines the abstract methods.

    Attributes
    ----------
    transactional : bool
        Whether records that are written by the storage that `bound` returns commit with the rows of the connection.
    """

    transactional: ClassVar[bool] = False

    @property
    def classes(self) -> tuple[type[PipelineStorage], ...]:
        """The classes of this storage and of those that it writes to, for messages."""
        return (type(self),)

    @abstractmethod
    def create(self) -> None:
        """Make what the storage needs; nothing happens to what is there already."""

    @abstractmethod
    def bound(self, connection: Connection) -> Self:
        """Give a storage whose writes become durable when the transaction of a connection commits, and only then."""

    @abstractmethod
    def insert(self, record: Record) -> None:
        """Store a new record and set its number."""

    @abstractmethod
    def save(self, record: Record) -> None:
        """Store the present values of a record.

        Raises
        ------
        ValueError
            If it was never stored.
        """

    @abstractmethod
    def select(self, cls: type[R], **filters: Any) -> Iterator[R]:
        """Yield the records of a kind whose values equal those given, in the order in which they were created.

        Raises
        ------
        TypeError
            If records of this kind do not have such a value.
        """

    @abstractmethod
    def delete(self, cls: type[Record], **filters: Any) -> int:
        """Delete the records of a kind whose values equal those given, and return their number."""

    def _new(self, cls: type[R], name: str, parent: Record | None, input_data: Any, values: dict[str, Any]) -> R:
        parent_id = None if parent is None else parent.number()
        record = cls(name=name, parent_id=parent_id, input_data={} if input_data is None else input_data, **values)
        self.insert(record)
        return record

    def create_pipeline_execution(
        self,
        name: str,
        input_data: Any = None,
        *,
        parent: PipelineExecution | None = None,
        **values: Any,
    ) -> PipelineExecution:
        """Store a new run of a pipeline, perhaps as a part of another run."""
        return self._new(PipelineExecution, name, parent, input_data, values)

    def create_pipeline_result(
        self, execution: PipelineExecution, name: str, input_data: Any = None, **values: Any
    ) -> PipelineResult:
        """Store that a run begins with an object."""
        return self._new(PipelineResult, name, execution, input_data, values)

    def create_task_execution(
        self, result: PipelineResult, name: str, input_data: Any = None, **values: Any
    ) -> TaskExecution:
        """Store that a task begins."""
        return self._new(TaskExecution, name, result, input_data, values)

    def create_task_result(self, task: TaskExecution, name: str, input_data: Any = None, **values: Any) -> TaskResult:
        """Store what a task does, or did, for an object; in its final state at once, if it is done."""
        return self._new(TaskResult, name, task, input_data, values)

    def get_pipeline_executions(self, **filters: Any) -> Iterator[PipelineExecution]:
        """Yield runs."""
        return self.select(PipelineExecution, **filters)

    def get_pipeline_results(self, **filters: Any) -> Iterator[PipelineResult]:
        """Yield results of runs, for example of one by ``parent_id``."""
        return self.select(PipelineResult, **filters)

    def get_task_executions(self, **filters: Any) -> Iterator[TaskExecution]:
        """Yield tasks."""
        return self.select(TaskExecution, **filters)

    def get_task_results(self, **filters: Any) -> Iterator[TaskResult]:
        """Yield results of tasks, for example of a table by ``table_name``."""
        return self.select(TaskResult, **filters)
