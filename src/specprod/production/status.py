"""What the ledger says: runs, stages, tables, files, and what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from specprod.database.keys import missing_keys
from specprod.database.schema import existing_tables
from specprod.errors import LedgerError, MissingFileError
from specprod.files.tree import relative_name
from specprod.loading.tile_records import TileRecord, read_tile_records
from specprod.model import TABLES, table_of
from specprod.production.stage_files import stage_loads
from specprod.production.unloaded import Unloaded, unloaded
from specprod.results import helpers
from specprod.results.base import PipelineExecution, State
from specprod.results.orm import OrmPipelineResultsStorage, ResultsBase
from specprod.stages import STAGES

if TYPE_CHECKING:
    from specprod.database.connection import Database
    from specprod.files.tree import ProductionTree

__all__ = ["FileStatus", "Status", "TableStatus", "status"]


@dataclass
class FileStatus:
    """How much of a file is loaded.

    Attributes
    ----------
    file, table : str
    rows_read, file_rows : int
        Rows of the file that are done, and all of them.
    rows, rejected : int
        Rows that were written, and that were left out because they violate a rule.
    completed : datetime or None
        When the last of them was committed.
    """

    file: str
    table: str
    rows_read: int = 0
    file_rows: int = 0
    rows: int = 0
    rejected: int = 0
    completed: datetime | None = None

    @property
    def complete(self) -> bool:
        """Whether all of it is done."""
        return self.rows_read >= self.file_rows


@dataclass
class TableStatus:
    """What is loaded of a table.

    Attributes
    ----------
    table : str
    files, complete : int
        Files that were begun, and that are done.
    rows, rejected : int
    seconds : float
        From the first commit to the last, over all runs.
    missing : list of str
        Keys and indexes that are not there.
    """

    table: str
    files: int = 0
    complete: int = 0
    rows: int = 0
    rejected: int = 0
    seconds: float = 0.0
    missing: list[str] = field(default_factory=list)


@dataclass
class Status:
    """All that the ledger says.

    Attributes
    ----------
    runs : list of dict
        Number, command, state, message, start, end, seconds, and the state of each stage.
    tables : list of TableStatus
    files : list of FileStatus
    left : list of str
        Files of the production that are not loaded, where the production is known.
    unloaded : Unloaded
        Tables that are not loaded, and references that wait for them.
    tiles : list of TileRecord
        Tiles that were loaded one by one, or that could not be.
    """

    runs: list[dict[str, Any]]
    tables: list[TableStatus]
    files: list[FileStatus]
    left: list[str]
    unloaded: Unloaded
    tiles: list[TileRecord] = field(default_factory=list)


def status(database: Database, tree: ProductionTree | None = None) -> Status:
    """Read the ledger of a database.

    Parameters
    ----------
    database : Database
    tree : ProductionTree, optional
        The production; if given, its files that are not loaded are listed.

    Raises
    ------
    LedgerError
        If the database has no ledger.
    """
    import sqlalchemy as sa

    with database.connect() as connection:
        names = set(sa.inspect(connection).get_table_names(schema=database.schema))
        if not names.issuperset(ResultsBase.metadata.tables):
            raise LedgerError(f"{database.place} has no ledger: nothing was loaded there")
        missing = {
            table_of(c).name: missing_keys(database, connection, c) for c in existing_tables(database, connection)
        }
    storage = OrmPipelineResultsStorage(database)
    stages: dict[int | None, dict[str, str]] = {}
    for result in storage.get_pipeline_results():
        stages.setdefault(result.parent_id, {})[result.name] = str(result.state)
    executions = list(storage.get_pipeline_executions())
    running = [run for run in executions if run.state == State.RUNNING]
    if running:
        # Nothing is written here: the next command that holds the database records it.
        held = database.is_locked()
        for run in running:
            if helpers.is_abandoned(run) or not held:
                run.state, run.message = State.FAILED, f"Killed: process {run.pid} ended without a word"
    runs = [_run(run, stages.get(run.id, {})) for run in executions]
    files: dict[tuple[str, str], FileStatus] = {}
    times: dict[str, list[datetime]] = {}
    for item in storage.get_task_results(state=str(State.DONE)):
        table, name = item.table_name or "", item.file or ""
        entry = files.setdefault((table, name), FileStatus(name, table))
        entry.rows_read = max(entry.rows_read, item.last_row or 0)
        entry.file_rows = item.file_rows or 0
        entry.rows += item.rows or 0
        entry.rejected += item.rejected or 0
        entry.completed = item.completed
        times.setdefault(table, []).extend(time for time in (item.started, item.completed) if time)
    tables = {name: TableStatus(name, missing=missing[name]) for name in missing}
    for entry in files.values():
        table_status = tables.setdefault(entry.table, TableStatus(entry.table))
        table_status.files += 1
        table_status.complete += entry.complete
        table_status.rows += entry.rows
        table_status.rejected += entry.rejected
    for name, moments in times.items():
        tables[name].seconds = (max(moments) - min(moments)).total_seconds()
    left = _left(database, tree, files) if tree else []
    part = unloaded(database)
    return Status(runs, list(tables.values()), list(files.values()), left, part, read_tile_records(storage))


def _run(item: PipelineExecution, stages: Mapping[str, str]) -> dict[str, Any]:
    duration = item.duration
    return {
        "number": item.id,
        "name": item.name,
        "command": item.command,
        "state": str(item.state),
        "message": item.message,
        "host": item.host,
        "user": item.user,
        "pid": item.pid,
        "started": item.started,
        "completed": item.completed,
        "seconds": duration.total_seconds() if duration and item.completed else None,
        "versions": item.versions,
        "stages": dict(stages),
    }


def _left(database: Database, tree: ProductionTree, files: Mapping[tuple[str, str], FileStatus]) -> list[str]:
    left = []
    with database.connect() as connection:
        there = [table_of(cls).name for cls in existing_tables(database, connection)]
    for stage, cls in ((stage, cls) for stage in STAGES.values() for cls in TABLES):
        table = table_of(cls).name
        if table not in stage.tables:
            continue
        if absent := [name for name in stage.after if name not in there and name != table]:
            left.append(f"{stage.name}: files of {table}, after {', '.join(absent)}")
            continue
        try:
            loads = list(stage_loads(stage.name, tree, database, [cls]))
        except MissingFileError as error:
            # A tree may have the files of some tables only.
            left.append(f"{stage.name}: {error}, into {table}")
            continue
        for load in loads:
            name = relative_name(load.path, tree.root)
            entry = files.get((table, name))
            if entry is None:
                left.append(f"{stage.name}: {name} into {table}")
            elif not entry.complete:
                left.append(f"{stage.name}: {name} into {table}, from row {entry.rows_read} of {entry.file_rows} on")
    return left
