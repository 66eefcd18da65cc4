"""Whether a database equals the files that were loaded into it, value by value.

What is compared comes from the ledger. Of each table, all rows are compared in one pass over files and table that holds
none of them; only where they differ are rows looked up, to say which differ.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from specprod.database.failures import translated
from specprod.database.primary import PRIMARY_COLUMNS
from specprod.errors import DatabaseError, InputError
from specprod.loading.again import slices_of_files
from specprod.loading.filters import TargetSet
from specprod.loading.known import Parents, keys_of_files
from specprod.loading.rules import Known, Slice
from specprod.model import TABLES, Photometry, SchemaMixin, Tile, Version, Zpix, Ztile, table_of
from specprod.model.converting import Rejects
from specprod.production.comparing import Compared, agreement
from specprod.production.declared import existing_columns, missing_parts, wrong_columns
from specprod.production.differences import Difference, TableReport
from specprod.production.excuses import Excuses
from specprod.production.locating import KEYS, locate
from specprod.production.recorded import Recorded, RecordedFile, has_ledger, read_ledger
from specprod.production.setup import data_versions, recorded_versions
from specprod.stages import STAGE_NAMES, STAGES
from specprod.tiles.reread import RereadTiles

if TYPE_CHECKING:
    from specprod.database.interface import Database
    from specprod.files.tree import ProductionTree

__all__ = ["Difference", "TableReport", "verify"]

logger = logging.getLogger(__name__)


def verify(
    database: Database,
    tree: ProductionTree,
    *,
    stages: Sequence[str] = STAGE_NAMES,
    limit: int = 10,
    patches: Database | None = None,
    keys: int = KEYS,
) -> list[TableReport]:
    """Compare a database with the files that its ledger names.

    Parameters
    ----------
    database : Database
    tree : ProductionTree
        Where the files stand now.
    stages : sequence of str
        Some of `specprod.stages.STAGE_NAMES`; their tables are compared with all that was loaded into them.
    limit : int
        How many rows of a table that differ are named.
    patches : Database, optional
        The schema of the patch tables of ``coeff-fix``.
    keys : int
        How many keys are held in memory at a time where a table differs.

    Returns
    -------
    list of TableReport
        A table without differences equals its files, and has all its keys, indexes and references. Tables without rows
        of which the ledger names no file are left out.

    Raises
    ------
    DatabaseError
    """
    names = {table for stage in stages for table in STAGES[stage].tables}
    known = has_ledger(database)
    recorded = read_ledger(database, tree.root, names) if known else Recorded()
    reports = []
    if not known:
        reports.append(TableReport("ledger"))
        reports[-1].add("there is no ledger: what was loaded from which files is not known")
    with contextlib.ExitStack() as stack:
        tiles = stack.enter_context(_reread_tiles(database, tree, recorded)) if recorded.tiles else None
        for cls in (cls for cls in TABLES if table_of(cls).name in names):
            report = _Table(database, cls, recorded, tiles, limit, keys, patches).report()
            if cls is Tile and tiles is not None:
                for tileid, reason in tiles.failures.items():
                    report.add(f"tile {tileid} cannot be read any more: {reason}")
            if report.files or report.found or report.differences:
                reports.append(report)
    if "exposures" in stages and reports:
        reports.append(_versions(database, tree, recorded.versions))
    return reports


def _reread_tiles(database: Database, tree: ProductionTree, recorded: Recorded) -> RereadTiles:
    """Read the tiles again that were loaded one by one, after the photometry that was there before."""
    known = TargetSet()
    for part in _slices(database, Photometry, recorded.files.get(Photometry, ()), {}):
        known.add(part.columns["targetid"])
    return RereadTiles(database, tree, recorded.tiles, known)


class _Table:
    """The comparison of one table."""

    def __init__(
        self,
        database: Database,
        cls: type[SchemaMixin],
        recorded: Recorded,
        tiles: RereadTiles | None,
        limit: int,
        keys: int,
        patches: Database | None,
    ) -> None:
        self._database = database
        self._cls = cls
        self._limit = limit
        self._keys = keys
        self._files = list(recorded.files.get(cls, ()))
        self._tiles = tiles
        self._excuses = Excuses(database, cls, bool(recorded.tiles), patches)
        self._report = TableReport(table_of(cls).name)

    def report(self) -> TableReport:
        """Compare, and say what differs."""
        report, database = self._report, self._database
        try:
            with translated(), database.connect() as connection:
                there = existing_columns(database, connection, self._cls)
                if there is None:
                    report.files = len(self._files)
                    if self._files:
                        report.add("the table is missing")
                    return report
                wrong = dict(wrong_columns(database, connection, self._cls))
            self._compare([name for name in self._from_files() if name in there and name not in wrong])
            for what in wrong.values():
                report.add(what)
            with translated(), database.connect() as connection:
                for what in missing_parts(database, connection, self._cls):
                    report.add(what)
        except DatabaseError as error:
            report.add(f"cannot be read: {error}")
        return report

    def _from_files(self) -> list[str]:
        """Names of the columns whose values come from files; which spectra are primary may have been computed."""
        names = [item.name for item in table_of(self._cls).columns]
        whole = any(Path(file.name).name.startswith("zall-") for file in self._files) and self._tiles is None
        return names if whole or self._cls not in (Zpix, Ztile) else [n for n in names if n not in PRIMARY_COLUMNS]

    def _compare(self, names: Sequence[str]) -> None:
        """Compare the rows with those of all files that can be read."""
        report = self._report
        for file in self._files:
            for first, last in file.gaps:
                report.add(f"rows {first} to {last} are not in the ledger, though later ones are", file.name)
        absent = [file for file in self._files if not file.load.path.is_file()]
        for file in absent:
            report.add("the ledger names this file, which is not there", file.name)
        while True:
            files = [file for file in self._files if file not in absent]
            differences, notes = len(report.differences), len(report.notes)
            try:
                self._compare_with(files, names, sum(file.rows for file in absent))
                return
            except InputError as error:
                unreadable = [file for file in files if str(file.load.path) == str(error.file)]
                if not unreadable:
                    raise
                # The others are compared without it.
                del report.differences[differences:], report.notes[notes:]
                report.add(f"cannot be read: {error}", unreadable[0].name)
                absent += unreadable

    def _compare_with(self, files: Sequence[RecordedFile], names: Sequence[str], unread: int) -> None:
        database, report = self._database, self._report
        left_out: dict[str, int] = {}
        compared = Compared(database, self._cls, names, lambda: self._slices(files, left_out))
        with translated():
            result = agreement(compared)
            report.files, report.expected, report.found = len(files), result.expected, result.found
            report.files += self._tiles.count(self._cls) if self._tiles is not None else 0
            if not result.equal:
                self._locate(compared, unread)
        for file in files:
            count = left_out.get(str(file.load.path), 0)
            if count != file.rejected:
                report.add(f"{count} rows violate a rule, but {file.rejected} were rejected by the load", file.name)

    def _slices(self, files: Sequence[RecordedFile], left_out: dict[str, int]) -> Iterator[Slice]:
        """Read the rows of files, and in the place of those of tiles that were loaded one by one the rows of these."""
        for part in _slices(self._database, self._cls, files, left_out):
            stays = part if self._tiles is None else self._tiles.stay(part)
            if stays.rows.size:
                yield stays
        if self._tiles is not None:
            yield from self._tiles.slices(self._cls)

    def _locate(self, compared: Compared, unread: int) -> None:
        report = self._report
        if not self._files and self._tiles is None and report.found:
            report.add(f"has {report.found} rows, but the ledger names no file from which they came")
            return
        if compared.key not in compared.names:
            report.add("rows differ; which ones is not known without the column of the key")
            return
        found = locate(compared, report.expected, self._limit, self._excuses, keys=self._keys, unread=unread)
        report.differences += found.differences
        report.notes += self._excuses.notes()
        if not found.differences and not found.excused and found.extra != unread:
            report.add("rows differ, but did not when they were looked for: the table was changed meanwhile")


def _slices(
    database: Database, cls: type[SchemaMixin], files: Sequence[RecordedFile], left_out: dict[str, int]
) -> Iterator[Slice]:
    """Read the rows that files gave, by the rules of a load, and count those that were left out."""
    found = {file.load: Rejects() for file in files}
    with contextlib.ExitStack() as stack:
        known: list[Known] = []
        if any(file.rejected for file in files):
            # Rows that repeat a key or refer to none were left out; the database says which.
            connection = stack.enter_context(database.connect())
            transaction = connection.begin()
            stack.callback(transaction.rollback)
            keys = keys_of_files(database, connection, cls, [file.load for file in files])
            known = [stack.enter_context(keys), Parents(database, connection, cls)]
        yield from slices_of_files([(file.load, file.ranges) for file in files], lambda load: found[load], known)
    for load, rejects in found.items():
        left_out[str(load.path)] = len({row for row, *_ in rejects.rows})


def _versions(database: Database, tree: ProductionTree, loaded: Mapping[str, Collection[str]]) -> TableReport:
    """Compare table version with the versions of the data and those of the packages of the loads."""
    table = table_of(Version)
    report = TableReport(table.name)
    with translated(), database.connect() as connection:
        there = existing_columns(database, connection, Version)
        if there is None or len(there) < len(table.columns):
            report.add("the table, or a column of it, is missing")
            return report
        found = {str(row.package): str(row.version) for row in connection.execute(sa.select(table))}
        report.found = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    names = tree.production
    data = data_versions(names.photometry, names.redshift, names.release, names.specprod, names.tiles)
    expected = {name: {version} for name, version in data.items()} | recorded_versions(loaded)
    report.expected = len(expected)
    for package in sorted(expected.keys() | found.keys()):
        if package not in found:
            report.add(f"the row of {package} is missing")
        elif package not in expected:
            report.add(f"has a row of {package}, which no load writes")
        elif expected[package] and found[package] not in expected[package]:
            wanted = " or ".join(sorted(expected[package]))
            report.add(f"{package} has version {found[package]!r}, expected {wanted!r}")
    if report.found != len(found):
        report.add("packages have several rows")
    return report
