"""The ledger of loads: what was loaded, from which rows of which file, written in the transaction of the rows.

It is kept in a results storage. Whether a file is loaded, and up to which row, is decided by it alone; that a table has
rows says nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from specprod.errors import LedgerError, printable
from specprod.files.checksums import add
from specprod.files.opening import open_table
from specprod.files.tree import relative_name
from specprod.files.unpacking import Fingerprint
from specprod.loading.pieces import FileLoad, Piece
from specprod.loading.tile_records import TileRecords, read_tile_records
from specprod.model import table_of
from specprod.results import helpers
from specprod.results.base import PipelineExecution, PipelineResult, PipelineStorage, State, TaskExecution, TaskResult
from specprod.results.base import now as present

if TYPE_CHECKING:
    from pathlib import Path

    from specprod.database.writing import Counts
    from specprod.files.tables import TableReader

__all__ = ["LoadLedger"]

logger = logging.getLogger(__name__)


class LoadLedger:
    """What was loaded into a database, for a `specprod.loading.loader.Loader`.

    Parameters
    ----------
    storage : PipelineStorage
        Transactional: its records commit with the rows.
    execution : PipelineExecution
        The run.
    root : path
        Files are named relative to it.
    turn : context manager
        What threads hold while they use the database in which the storage writes; see `Database`.
    """

    keeps_checksums = True

    def __init__(
        self,
        storage: PipelineStorage,
        execution: PipelineExecution,
        root: Path,
        turn: contextlib.AbstractContextManager[Any],
    ) -> None:
        self.storage = storage
        self.execution = execution
        self.root = root.resolve()
        self._turn = turn
        self._lock = threading.Lock()
        self._stages: dict[str, PipelineResult] = {}
        self._tasks: dict[tuple[str, str], TaskExecution] = {}
        self._rows: dict[FileLoad, int] = {}
        self._fingerprints: dict[FileLoad, Fingerprint] = {}
        # Tiles that were loaded one by one: their rows stand in the files of the production too.
        self._tiles = [item.tileid for item in read_tile_records(storage) if item.tables]
        # By table and file, then by first row.
        self._loaded: dict[tuple[str, str], dict[int, TaskResult]] = defaultdict(dict)
        for item in storage.get_task_results(state=str(State.DONE)):
            self._keep(item)

    def file_name(self, path: Path) -> str:
        """Name of a file in the ledger: relative to the root, where it stands below it."""
        return relative_name(path, self.root)

    def _key(self, load: FileLoad) -> tuple[str, str]:
        """Table and file of a load, as records have them."""
        return table_of(load.table).name, self.file_name(load.path)

    def _entries(self, load: FileLoad) -> list[TaskResult]:
        """Find the ranges of a file that are loaded, in order of rows."""
        found = self._loaded.get(self._key(load), {})
        return [found[row] for row in sorted(found)]

    def _keep(self, item: TaskResult) -> None:
        """Remember a range; it takes the place of one of an attempt that came to nothing."""
        self._loaded[item.table_name or "", item.file or ""][item.first_row or 0] = item

    def complete(self, load: FileLoad) -> bool:
        """Whether a file is loaded to its end and has the size and the time that it had then."""
        entries = self._entries(load)
        if not entries or entries[-1].last_row != entries[-1].file_rows:
            return False
        try:
            status = load.path.stat()
        except OSError:
            # That it cannot be opened is said where it is opened.
            return False
        same = all(item.size == status.st_size and item.mtime_ns == status.st_mtime_ns for item in entries)
        return same and entries[-1].options == _options(load)

    def announce(self, load: FileLoad, reader: TableReader) -> None:
        """Take note of a file that was opened, before any of its rows is recorded: of what it was at that moment."""
        self._rows[load], self._fingerprints[load] = reader.nrows, reader.fingerprint
        self._task(load)

    def begin(self, load: FileLoad, reader: TableReader) -> int:
        """Begin a file, and return its first row that is not loaded yet.

        Raises
        ------
        LedgerError
            If rows of it were loaded that are no longer what they were, or with other arguments.
        """
        entries = self._entries(load)
        if self._tiles:
            raise LedgerError(
                f"{_some(self._tiles)} were loaded into this schema one by one, and {load.path.name} has their rows "
                "too; load the whole production into another schema, or anew with --overwrite",
                file=load.path,
            )
        self.announce(load, reader)
        row = 0
        for item in entries:
            if item.first_row != row:
                raise LedgerError(f"the ledger has a gap: rows {row} to {item.first_row} are not in it", file=load.path)
            row = item.last_row or 0
        if entries:
            self._check(load, reader, entries)
        return row

    def changed(self, load: FileLoad) -> bool:
        """Whether rows of a file were loaded that are no longer what they were."""
        entries = self._entries(load)
        if not entries or not load.path.exists():
            return False
        with open_table(load.path, load.hdu) as reader:
            return self._different(load, reader, entries) is not None

    def _different(self, load: FileLoad, reader: TableReader, entries: list[TaskResult]) -> TaskResult | None:
        """Find the first range of a file whose rows are no longer what they were."""
        now = reader.fingerprint
        if all(item.size == now.size and item.mtime_ns == now.mtime_ns for item in entries):
            return None
        # A file that was only touched or copied has the same data.
        for item in entries:
            same = reader.checksum(item.first_row or 0, item.last_row or 0) == item.datasum
            if item.file_rows != reader.nrows or not same:
                return item
        return None

    def _check(self, load: FileLoad, reader: TableReader, entries: list[TaskResult]) -> None:
        table = table_of(load.table).name
        remedy = "load it into another schema, or anew with --overwrite"
        if entries[-1].options != _options(load):
            raise LedgerError(
                f"was loaded into {table} with other arguments ({entries[-1].options}, now {_options(load)}); {remedy}",
                file=load.path,
            )
        item = self._different(load, reader, entries)
        if item is not None:
            raise LedgerError(
                f"has changed since its rows {item.first_row} to {item.last_row} were loaded into {table} on "
                f"{item.completed:%Y-%m-%d %H:%M:%S}; --reload replaces what came from it",
                file=load.path,
                hdu=reader.hdu,
            )

    def _task(self, load: FileLoad) -> TaskExecution:
        """Give the record of the table of a load in this run, and make it when the table is met first."""
        table = table_of(load.table).name
        if (known := self._tasks.get((load.stage, table))) is not None:
            return known
        # The turn comes first: who waits for the lock may have it, and the record cannot be made without it.
        with self._turn, self._lock:
            if load.stage not in self._stages:
                begun = {"state": State.RUNNING, "started": present()}
                self._stages[load.stage] = self.storage.create_pipeline_result(self.execution, load.stage, **begun)
            if (load.stage, table) not in self._tasks:
                begun = {"state": State.RUNNING, "started": present()}
                self._tasks[load.stage, table] = self.storage.create_task_execution(
                    self._stages[load.stage], table, **begun
                )
            return self._tasks[load.stage, table]

    def has(self, connection: Connection, load: FileLoad, piece: Piece) -> bool:
        """Whether a piece is in the ledger."""
        table, file = self._key(load)
        found = self.storage.bound(connection).get_task_results(
            state=str(State.DONE), table_name=table, file=file, first_row=piece.first
        )
        return any(found)

    def record(self, connection: Connection, load: FileLoad, piece: Piece, counts: Counts) -> None:
        """Record a piece, in the transaction of its rows."""
        fingerprint = self._fingerprints[load]
        table, file = self._key(load)
        time = present()
        item = self.storage.bound(connection).create_task_result(
            self._task(load),
            f"{printable(load.path.name)} rows {piece.first} to {piece.last}",
            state=State.DONE,
            started=time,
            completed=time,
            table_name=table,
            file=file,
            hdu=str(load.hdu_name),
            first_row=piece.first,
            last_row=piece.last,
            file_rows=self._rows[load],
            rows=counts.inserted + counts.updated,
            rejected=len({row for row, _, _ in piece.rejects.rows}),
            size=fingerprint.size,
            mtime_ns=fingerprint.mtime_ns,
            datasum=piece.checksum,
            options=_options(load),
        )
        self._keep(item)

    def tiles(self, options: Mapping[str, Any]) -> TileRecords:
        """Give what records tiles, for loads with some arguments."""
        return TileRecords(self.storage, self.execution, self.root, options)

    def checksum(self, load: FileLoad) -> int:
        """Give the checksum of the rows of a file that are loaded."""
        return add(*(item.datasum or 0 for item in self._entries(load)))

    def ranges(self, load: FileLoad) -> list[tuple[int, int]]:
        """Give the ranges of rows of a file that are loaded, in order."""
        return [(item.first_row or 0, item.last_row or 0) for item in self._entries(load)]

    def rejected(self, load: FileLoad) -> int:
        """Give the number of rows of a file that were left out because they violate a rule."""
        return sum(item.rejected or 0 for item in self._entries(load))

    def reject(self, connection: Connection, load: FileLoad, rows: Sequence[int]) -> None:
        """Record that rows of a file that were loaded are left out, in the transaction in which they are deleted."""
        storage = self.storage.bound(connection)
        for item in self._entries(load):
            count = sum((item.first_row or 0) <= row < (item.last_row or 0) for row in rows)
            if count:
                item.set_rows((item.rows or 0) - count)
                item.set_rejected((item.rejected or 0) + count)
                storage.save(item)

    def absent(self, table: str, loads: Sequence[FileLoad]) -> list[str]:
        """Name the files that were loaded into a table and are not among these."""
        there = {self.file_name(load.path) for load in loads}
        return sorted(
            file for name, file in self._loaded if name == table and file not in there and self._loaded[name, file]
        )

    def forget(self, connection: Connection, load: FileLoad, first: int) -> None:
        """Remove the record of the rows of a file from `first` on, in the transaction in which they are deleted."""
        storage = self.storage.bound(connection)
        table, file = key = self._key(load)
        # Of the database: what is remembered here may be of an attempt that came to nothing.
        for item in list(storage.get_task_results(state=str(State.DONE), table_name=table, file=file)):
            if (item.first_row or 0) >= first:
                storage.delete(TaskResult, id=item.id)
        self._loaded[key] = {row: item for row, item in self._loaded[key].items() if row < first}

    def end(self, error: BaseException | None = None) -> None:
        """End the run: what is under way becomes done, failed or cancelled."""
        for record in (*self._tasks.values(), *self._stages.values()):
            helpers.finish(self.storage, record, error)


def _some(tileids: Sequence[int]) -> str:
    """Name tiles, if they are not too many."""
    shown = ", ".join(map(str, tileids[:3]))
    return f"tile{'s' if len(tileids) > 1 else ''} {shown}{' …' if len(tileids) > 3 else ''}"


def _options(load: FileLoad) -> str:
    """Arguments of a load that change its result, as JSON."""
    given = {name: value for name, value in load.given.items() if value is not None}
    return json.dumps(given, sort_keys=True, default=str)
