"""What the ledger says was loaded: files, ranges of their rows, versions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from specprod.loading.pieces import FileLoad
from specprod.loading.tile_records import TileRecord, read_tile_records
from specprod.model import SchemaMixin
from specprod.production.parts import PARTS, Part, recorded_part
from specprod.results.base import State, TaskResult
from specprod.results.orm import OrmPipelineResultsStorage, ResultsBase

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["Recorded", "RecordedFile", "has_ledger", "read_ledger"]


@dataclass(frozen=True, eq=False)
class RecordedFile:
    """A file that was loaded.

    Attributes
    ----------
    load : FileLoad
    name : str
        As the ledger has it.
    ranges : tuple of (int, int)
        Rows that were loaded, each range in one transaction, in order.
    rows, rejected : int
        Rows that were written, and that were left out.
    """

    load: FileLoad
    name: str
    ranges: tuple[tuple[int, int], ...]
    rows: int
    rejected: int

    @property
    def gaps(self) -> Iterator[tuple[int, int]]:
        """Rows between these ranges, which no load leaves out."""
        row = 0
        for first, last in self.ranges:
            if first > row:
                yield row, first
            row = max(row, last)


@dataclass(frozen=True)
class Recorded:
    """What was loaded.

    Attributes
    ----------
    files : mapping of class to list of RecordedFile
        In the order of the load.
    tiles : sequence of TileRecord
        Tiles that were loaded one by one too, in the order of their loads.
    versions : mapping of str to set of str
        Versions of packages and of data under which rows were loaded.
    """

    files: Mapping[type[SchemaMixin], Sequence[RecordedFile]] = field(default_factory=dict)
    tiles: Sequence[TileRecord] = ()
    versions: Mapping[str, set[str]] = field(default_factory=dict)


def has_ledger(database: Database) -> bool:
    """Whether a database has all tables of the ledger."""
    with database.connect() as connection:
        names = set(sa.inspect(connection).get_table_names(schema=database.schema))
    return names.issuperset(ResultsBase.metadata.tables)


def read_ledger(database: Database, root: Path, tables: Collection[str]) -> Recorded:
    """Read what was loaded into some tables.

    Parameters
    ----------
    database : Database
    root : pathlib.Path
        Root of the production; the ledger names files relative to it.
    tables : collection of str
    """
    storage = OrmPipelineResultsStorage(database)
    entries: dict[tuple[str, str, str], list[TaskResult]] = defaultdict(list)
    for item in storage.get_task_results(state=str(State.DONE)):
        entries[item.table_name or "", item.hdu or "", item.file or ""].append(item)
    found: list[tuple[Part, RecordedFile]] = []
    for (table, hdu, name), items in entries.items():
        part = recorded_part(table, hdu)
        if part is not None and table in tables:
            items.sort(key=lambda item: item.first_row or 0)
            given = json.loads(items[0].options or "{}")
            file = RecordedFile(
                part.load(root / name, given),
                name,
                tuple((item.first_row or 0, item.last_row or 0) for item in items),
                sum(item.rows or 0 for item in items),
                sum(item.rejected or 0 for item in items),
            )
            found.append((part, file))
    # As the files of a production are listed: by tile where they have one, else by name.
    found.sort(key=lambda pair: (PARTS.index(pair[0]), pair[1].load.given.get("tileid", 0), pair[1].name))
    files: dict[type[SchemaMixin], list[RecordedFile]] = {}
    for part, file in found:
        files.setdefault(part.table, []).append(file)
    tiles = [record for record in read_tile_records(storage) if record.tables]
    return Recorded(files, tiles, _versions(storage))


def _versions(storage: OrmPipelineResultsStorage) -> dict[str, set[str]]:
    """Give the versions of packages under which loads ran."""
    versions: dict[str, set[str]] = defaultdict(set)
    for execution in storage.get_pipeline_executions():
        packages: Mapping[str, Any] = execution.versions or {}
        for package, version in packages.items():
            versions[package].add(str(version))
    return dict(versions)
