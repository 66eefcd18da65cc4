"""A storage that another one follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Self, TypeVar

import sqlalchemy as sa

from specprod.results.base import (
    PipelineExecution,
    PipelineResult,
    PipelineStorage,
    Record,
    TaskExecution,
    TaskResult,
)

__all__ = ["MirroredStorage"]

R = TypeVar("R", bound=Record)

_PARENTS = {
    PipelineExecution.kind: "",
    PipelineResult.kind: PipelineExecution.kind,
    TaskExecution.kind: PipelineResult.kind,
    TaskResult.kind: TaskExecution.kind,
}


class MirroredStorage(PipelineStorage):
    """Writes to two storages and reads from the first, so that a second one can be followed by other programs.

    Parameters
    ----------
    first, second : PipelineStorage
    numbers : dict, optional
        Numbers of records in the second storage, by kind and number in the first.
    """

    transactional = True

    def __init__(
        self, first: PipelineStorage, second: PipelineStorage, numbers: dict[tuple[str, int | None], int] | None = None
    ) -> None:
        self._first, self._second = first, second
        self._numbers: dict[tuple[str, int | None], int] = {} if numbers is None else numbers

    @property
    def classes(self) -> tuple[type[PipelineStorage], ...]:
        """Classes of both."""
        return (*self._first.classes, *self._second.classes)

    def create(self) -> None:
        """Make what both need."""
        self._first.create()
        self._second.create()

    def bound(self, connection: sa.Connection) -> Self:
        """Bind both."""
        return type(self)(self._first.bound(connection), self._second.bound(connection), self._numbers)

    def _twin(self, record: Record) -> Record:
        parent = self._numbers.get((_PARENTS[record.kind], record.parent_id))
        return dataclasses.replace(record, id=self._numbers.get((record.kind, record.id)), parent_id=parent)

    def insert(self, record: Record) -> None:
        """Store a new record in both; its number is that of the first."""
        self._first.insert(record)
        twin = self._twin(record)
        self._second.insert(twin)
        if twin.id is not None:
            self._numbers[record.kind, record.id] = twin.id

    def save(self, record: Record) -> None:
        """Store the present values of a record in both."""
        self._first.save(record)
        twin = self._twin(record)
        if twin.id is not None:
            self._second.save(twin)

    def select(self, cls: type[R], **filters: Any) -> Iterator[R]:
        """Yield records of the first."""
        return self._first.select(cls, **filters)

    def delete(self, cls: type[Record], **filters: Any) -> int:
        """Delete records of both."""
        for record in list(self._first.select(cls, **filters)):
            number = self._numbers.get((record.kind, record.id))
            if number is not None:
                self._second.delete(cls, id=number)
        return self._first.delete(cls, **filters)
