"""Tiles in the ledger: what each was loaded from, what became of its rows, and why it failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from specprod.errors import SpecprodError, printable
from specprod.files.tree import relative_name
from specprod.results import helpers
from specprod.results.base import PipelineExecution, PipelineStorage, State
from specprod.results.base import now as present

__all__ = ["TileRecord", "TileRecords", "read_tile_records"]

_PREFIX = "tile "


@dataclass(frozen=True)
class TileRecord:
    """What the ledger says of a tile, of the last time that it was loaded.

    Attributes
    ----------
    tileid : int
    state : str
        ``done`` or ``failed``.
    message : str
        Why it failed.
    completed : datetime or None
    facts : dict
        ``files``, each with its name, size and mtime_ns; ``complete``, ``lastnight``, ``uncatalogued``,
        ``missing_bricks``; and ``options`` of the load.
    tables : dict of str to dict
        Numbers of rows by table: inserted, updated, removed, unchanged.
    """

    tileid: int
    state: str
    message: str = ""
    completed: datetime | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, dict[str, int]] = field(default_factory=dict)


class TileRecords:
    """Records tiles of one execution.

    Parameters
    ----------
    storage : PipelineStorage
    execution : PipelineExecution
    root : path
        Files are named relative to it.
    options : mapping
        Arguments of the load that change its result.
    """

    def __init__(
        self, storage: PipelineStorage, execution: PipelineExecution, root: Path, options: Mapping[str, Any]
    ) -> None:
        self._storage = storage
        self._execution = execution
        self._root = root
        self._options = dict(options)

    def done(
        self,
        connection: Connection,
        tileid: int,
        counts: Mapping[str, Any],
        files: Iterable[Path],
        facts: Mapping[str, Any],
    ) -> None:
        """Record a tile, in the transaction in which all of it is loaded.

        Parameters
        ----------
        connection : sqlalchemy.Connection
        tileid : int
        counts : mapping of str to dataclass
            What became of its rows, by table.
        files : iterable of path
            From which it was loaded.
        facts : mapping
            What else there is to know.
        """
        storage = self._storage.bound(connection)
        ended = {"state": State.DONE, "started": present(), "completed": present()}
        data = {**facts, "files": [self._named(path) for path in files], "options": self._options}
        tile = storage.create_pipeline_result(self._execution, f"{_PREFIX}{tileid}", input_data=data, **ended)
        for table, changes in counts.items():
            values = {name: int(value) for name, value in asdict(changes).items()}
            storage.create_task_execution(tile, table, input_data=values, **ended)

    def failed(self, tileid: int, error: SpecprodError) -> None:
        """Record that a tile could not be loaded; the database is as it was before."""
        data = {"options": self._options}
        begun = {"state": State.RUNNING, "started": present()}
        tile = self._storage.create_pipeline_result(self._execution, f"{_PREFIX}{tileid}", input_data=data, **begun)
        helpers.finish(self._storage, tile, error)

    def _named(self, path: Path) -> dict[str, Any]:
        status = path.stat()
        name = printable(relative_name(path, self._root))
        return {"file": name, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def read_tile_records(storage: PipelineStorage) -> list[TileRecord]:
    """Read what the ledger says of tiles: of each the last record, in the order in which they were loaded.

    A tile that failed after it had been loaded has its failure as state and message, and all else of the load before.
    """
    runs = {run.id for run in storage.get_pipeline_executions(name="tile")}
    results = [
        item for item in storage.get_pipeline_results() if item.parent_id in runs and item.name.startswith(_PREFIX)
    ]
    tables: dict[int | None, dict[str, dict[str, int]]] = {}
    if results:
        for task in storage.get_task_executions():
            tables.setdefault(task.parent_id, {})[task.name] = task.input_data
    found: dict[int, TileRecord] = {}
    for item in results:
        tileid = int(item.name.removeprefix(_PREFIX))
        before = found.pop(tileid, None)
        if item.state == State.DONE:
            counts = tables.get(item.id, {})
            found[tileid] = TileRecord(tileid, "done", "", item.completed, dict(item.input_data), counts)
        elif before is None:
            found[tileid] = TileRecord(tileid, str(item.state), item.message, item.completed, dict(item.input_data))
        else:
            facts, counts = before.facts, before.tables
            found[tileid] = TileRecord(tileid, str(item.state), item.message, item.completed, facts, counts)
    return list(found.values())
