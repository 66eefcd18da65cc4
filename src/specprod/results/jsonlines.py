"""A storage in a file, one JSON object a line, for those who want to follow a run without a database."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import sqlalchemy as sa

from specprod.errors import ConfigurationError
from specprod.results.base import PipelineStorage, Record, State

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["JsonLinesStorage"]

R = TypeVar("R", bound=Record)


class JsonLinesStorage(PipelineStorage):
    """Appends each state of each record as a line; the last line of a record counts.

    A line that a crash tore is ignored when it is read, and cut off when the next is written.

    Parameters
    ----------
    database : Database, optional
        Unused; all storages are given it.
    path : str or path
        The file.
    """

    transactional = False

    def __init__(self, database: Database | None = None, path: str | Path | None = None) -> None:
        if path is None:
            raise ConfigurationError("the storage of JSON lines needs the keyword argument path")
        self.path = Path(path)
        self._pending: list[dict[str, Any]] | None = None
        self._taken: list[int] | None = None

    def create(self) -> None:
        """Make the file."""
        try:
            self.path.touch()
        except OSError as error:
            raise ConfigurationError(f"cannot be written: {error.strerror}", file=self.path) from error

    def bound(self, connection: sa.Connection) -> Self:
        """Give a storage whose lines are written when the connection commits, and forgotten when it rolls back."""
        other = type(self)(path=self.path)
        pending: list[dict[str, Any]] = []
        other._pending = pending
        sa.event.listen(connection, "commit", lambda _: self._flush(pending))
        sa.event.listen(connection, "rollback", lambda _: pending.clear())
        return other

    def _flush(self, pending: list[dict[str, Any]]) -> None:
        lines, pending[:] = list(pending), []
        if lines:
            self._append(lines)

    def _append(self, lines: list[dict[str, Any]], record: Record | None = None) -> None:
        """Write lines; a record that is given gets the next free number first, under the same lock."""
        with self.path.open("ab+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            text = stream.read()
            whole = text[: text.rfind(b"\n") + 1]
            if len(whole) < len(text):
                stream.truncate(len(whole))
            if record is not None:
                record.id = max((line["id"] for line in _parsed(whole)), default=0) + 1
                lines = [*lines, _line(record)]
            stream.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            stream.flush()
            os.fsync(stream.fileno())

    def insert(self, record: Record) -> None:
        """Append a new record and set its number."""
        if self._pending is None:
            self._append([], record)
            return
        # The number is taken now, by a line that says nothing yet, so that other writers do not take it too.
        self._append([], holder := Record(name="", parent_id=None))
        record.id = holder.id
        self._pending.append(_line(record))

    def save(self, record: Record) -> None:
        """Append the present values of a record."""
        if self._pending is None:
            self._append([_line(record)])
        else:
            self._pending.append(_line(record))

    def _records(self) -> Iterator[dict[str, Any]]:
        latest: dict[int, dict[str, Any]] = {}
        for line in _parsed(self.path.read_bytes() if self.path.exists() else b""):
            latest[line["id"]] = line
        yield from (latest[number] for number in sorted(latest))

    def select(self, cls: type[R], **filters: Any) -> Iterator[R]:
        """Yield the records of a kind whose values equal those given."""
        for line in self._records():
            if line["kind"] != cls.kind or line.get("deleted"):
                continue
            values = {name: value for name, value in line.items() if name != "kind"}
            for name in ("started", "completed"):
                values[name] = None if values[name] is None else datetime.fromisoformat(values[name])
            values["state"] = State(values["state"])
            if all(values[name] == value for name, value in filters.items()):
                yield cls(**values)

    def delete(self, cls: type[Record], **filters: Any) -> int:
        """Mark the records of a kind as deleted whose values equal those given."""
        lines = [_line(record) | {"deleted": True} for record in self.select(cls, **filters)]
        if self._pending is None:
            self._append(lines)
        else:
            self._pending += lines
        return len(lines)


def _line(record: Record) -> dict[str, Any]:
    values = {"kind": record.kind, "id": record.id, **record.values()}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _parsed(text: bytes) -> Iterator[dict[str, Any]]:
    """Yield the objects of the lines that are complete."""
    for line in text.splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)
