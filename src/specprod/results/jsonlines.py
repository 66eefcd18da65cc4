"""A storage in a file, one JSON object a line, for those who want to follow a run without a database."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import sqlalchemy as sa

from specprod.errors import ConfigurationError, FormatError
from specprod.results.base import PipelineStorage, Record, State

__all__ = ["JsonLinesStorage"]

R = TypeVar("R", bound=Record)
Line = dict[str, Any]


class JsonLinesStorage(PipelineStorage):
    """Appends each state of each record as a line; the last line of a record counts.

    Any number of processes may write to the file and read it at once. A line that a crash tore is ignored when it is
    read, and cut off when the next is written.

    Parameters
    ----------
    path : str or path
        The file.

    Raises
    ------
    ConfigurationError
        Without a path; and later, where the file cannot be opened or written.
    FormatError
        When it is read, if a line of the file is no record.

    Notes
    -----
    The lines of a bound storage are written just before the database commits. They are lost with the transaction if
    they cannot be written; they are there without it in the one case that the commit itself is refused, or that the
    process ends between the two. Only a storage in the database itself can do better.
    """

    transactional = False

    def __init__(self, path: str | Path | None = None) -> None:
        if path is None:
            raise ConfigurationError("the storage of JSON lines needs the keyword argument path")
        self.path = Path(path)
        self._log = _Log(self.path)
        self._pending: list[Line] | None = None

    def create(self) -> None:
        """Make the file."""
        self._log.append([])

    def bound(self, connection: sa.Connection) -> Self:
        """Give a storage whose lines are written when the connection commits, and forgotten when it rolls back."""
        other = type(self)(path=self.path)
        other._log = self._log
        pending: list[Line] = []
        other._pending = pending
        savepoints: list[int] = []

        def flush(_: sa.Connection) -> None:
            lines, pending[:] = list(pending), []
            if lines:
                self._log.append(lines)

        def back_to_savepoint(*_: Any) -> None:
            # A savepoint that is not known is older than all that is pending.
            del pending[savepoints.pop() if savepoints else 0 :]

        sa.event.listen(connection, "commit", flush)
        sa.event.listen(connection, "rollback", lambda _: pending.clear())
        sa.event.listen(connection, "savepoint", lambda *_: savepoints.append(len(pending)))
        sa.event.listen(connection, "release_savepoint", lambda *_: savepoints and savepoints.pop())
        sa.event.listen(connection, "rollback_savepoint", back_to_savepoint)
        return other

    def _write(self, lines: list[Line]) -> None:
        if self._pending is None:
            self._log.append(lines)
        else:
            self._pending += lines

    def insert(self, record: Record) -> None:
        """Append a new record and set its number."""
        if self._pending is None:
            self._log.append([], record)
            return
        values = _line(record)
        # The number is taken now, by a line that says nothing yet, so that other writers do not take it too.
        self._log.append([], holder := Record(name=""), durable=False)
        record.set_id(holder.id)
        self._pending.append({**values, "id": record.id})

    def save(self, record: Record) -> None:
        """Append the present values of a record."""
        record.number()
        self._write([_line(record)])

    def select(self, cls: type[R], **filters: Any) -> Iterator[R]:
        """Yield the records of a kind whose values equal those given."""
        cls.check_filters(filters)
        lines = self._log.latest() | {line["id"]: line for line in self._pending or []}
        found = (
            _record(cls, line)
            for _, line in sorted(lines.items())
            if line["kind"] == cls.kind and not line.get("deleted")
        )
        return (item for item in found if all(getattr(item, name) == value for name, value in filters.items()))

    def delete(self, cls: type[Record], **filters: Any) -> int:
        """Mark the records of a kind as deleted whose values equal those given."""
        lines = [_line(record) | {"deleted": True} for record in self.select(cls, **filters)]
        self._write(lines)
        return len(lines)


class _Log:
    """The file, and what its lines say, of which each is read once.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: tuple[int, int] | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._end = self._count = self._number = 0
        self._latest: dict[int, Line] = {}

    @contextlib.contextmanager
    def _opened(self, mode: str, lock: int) -> Iterator[IO[bytes]]:
        """Open the file, hold it against other threads and processes, and read what is new."""
        try:
            with self._lock, self._path.open(mode, buffering=0) as stream:
                fcntl.flock(stream, lock)
                self._read(stream)
                yield stream
        except OSError as error:
            if isinstance(error, FileNotFoundError) and mode == "rb":
                raise
            raise ConfigurationError(f"the results storage cannot use it: {error.strerror}", file=self._path) from error

    def _read(self, stream: IO[bytes]) -> None:
        status = os.fstat(stream.fileno())
        if self._file != (status.st_dev, status.st_ino) or status.st_size < self._end:
            self._begin_anew()
            self._file = (status.st_dev, status.st_ino)
        stream.seek(self._end)
        text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        for number, line in enumerate(whole.split(b"\n")[:-1], self._count + 1):
            try:
                values = json.loads(line)
                self._latest[int(values["id"])] = values
                self._number = max(self._number, values["id"])
            except (ValueError, KeyError, TypeError) as error:
                raise FormatError(f"line {number} is not a record of results", file=self._path) from error
        self._count += whole.count(b"\n")
        self._end += len(whole)

    def latest(self) -> dict[int, Line]:
        """Give the last line of each record, by number."""
        try:
            with self._opened("rb", fcntl.LOCK_SH):
                return dict(self._latest)
        except FileNotFoundError:
            return {}

    def append(self, lines: list[Line], record: Record | None = None, *, durable: bool = True) -> None:
        """Write lines; a record that is given gets the next free number first, under the same lock."""
        with self._opened("ab+", fcntl.LOCK_EX) as stream:
            if stream.seek(0, os.SEEK_END) > self._end:
                stream.truncate(self._end)
            number = self._number + 1
            new = [] if record is None else [{**_line(record), "id": number}]
            block = memoryview(b"".join(json.dumps(line).encode() + b"\n" for line in [*lines, *new]))
            try:
                while block:
                    block = block[stream.write(block) :]
                if durable:
                    os.fsync(stream.fileno())
            except OSError:
                stream.truncate(self._end)
                raise
            self._read(stream)
            if record is not None:
                record.set_id(number)


def _line(record: Record) -> Line:
    values = {"kind": record.kind, "id": record.id, **record.values()}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _record(cls: type[R], line: Line) -> R:
    values = {name: line[name] for name in cls.names() if name in line}
    for name in ("started", "completed"):
        values[name] = datetime.fromisoformat(values[name]) if values.get(name) else None
    return cls(**{**values, "state": State(values["state"])})
