"""The load of a whole production: which files go into which tables, stage by stage."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from specprod.database.failures import Retries
from specprod.database.keys import (
    add_foreign_keys,
    build_indexes,
    finished_tables,
    missing_keys,
    parents_of,
    warn_without_sky_index,
)
from specprod.database.primary import update_primary
from specprod.database.schema import existing_tables
from specprod.errors import ConstraintError, InputError, SchemaError
from specprod.files.opening import open_table
from specprod.files.tree import ProductionTree
from specprod.loading.constraints import delete_orphans, settle_duplicates
from specprod.loading.interfaces import NoProgress, Progress
from specprod.loading.loader import Loader
from specprod.loading.pieces import FileLoad
from specprod.loading.reload import reload_tables
from specprod.model import TABLES, SchemaMixin, Version, Zpix, Ztile, table_of
from specprod.production.scheduling import Job, run_jobs
from specprod.production.setup import load_versions
from specprod.production.stage_files import files_of_table, stage_loads
from specprod.stages import ONE_WRITER, STAGE_NAMES, STAGES, TABLE_NAMES, Stage, with_needed

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["TableSummary", "build_all", "load_production"]

logger = logging.getLogger(__name__)


@dataclass
class TableSummary:
    """What a stage did to a table.

    Attributes
    ----------
    stage, table : str
    rows : int
        Rows written.
    seconds : float
        Time that the rows took, together with those of the tables that were loaded with them.
    """

    stage: str
    table: str
    rows: int = 0
    seconds: float = 0.0


def load_production(
    database: Database,
    tree: ProductionTree,
    loader: Loader,
    *,
    stages: Sequence[str] = STAGE_NAMES,
    tables: Collection[str] = TABLE_NAMES,
    workers: int = 2,
) -> list[TableSummary]:
    """Load a production, or some stages or tables of it, into tables that are there already.

    Stages that do not depend on each other, and the indexes of tables that are complete, are worked on side by side. In
    SQLite, which has one writer, only one of them writes, while the others read files and convert.

    Parameters
    ----------
    database : Database
    tree : ProductionTree
    loader : Loader
    stages : sequence of str
        Some of `specprod.stages.STAGE_NAMES`.
    tables : collection of str
        Some of `specprod.stages.TABLE_NAMES`; tables whose rows must be there before are loaded as well, but no other
        file is needed. Of references only those are made that lead to one of them, or to a table that is complete.
    workers : int
        Connections that load or build indexes at a time.

    Returns
    -------
    list of TableSummary

    Raises
    ------
    InputError, DatabaseError, LedgerError
    """
    loader.retries.run(partial(warn_without_sky_index, database), "search for q3c")
    work = _Work(database, tree, loader, _classes(with_needed(tables)), whole=set(tables) == set(TABLE_NAMES))
    # The tiles, and so their files, are known when the first stage is done.
    work.announce([name for name in stages if name != "fiberassign"])
    summaries: list[TableSummary] = []
    loads: list[Job] = []
    finishes: list[Job] = []
    references: list[Job] = []
    reloaded = work.reload(stages) if loader.reload else {}
    order = ONE_WRITER if database.one_writer else STAGE_NAMES
    for stage in (STAGES[name] for name in order if name in stages):
        for group in work.groups(stage):
            parts = [TableSummary(stage.name, table_of(cls).name) for cls in group]
            summaries += parts
            job = f"load {stage.name} {parts[0].table}"
            loads.append(Job(job, partial(work.load, stage.name, group, parts, reloaded), _jobs_before(stage)))
            for cls in group if stage.completes else ():
                finish, refer = _finishing(database, cls, (job,), loader.retries, cluster=None)
                finishes.append(_told(replace(finish, work=partial(work.build_key, finish.work, cls)), loader.progress))
                references.append(_told(replace(refer, work=partial(work.refer, cls)), loader.progress))
    if "exposures" in stages or not work.whole:
        versions = Job("load exposures version", work.load_versions, alone=database.one_writer)
        loads.insert(0, versions)
        finishes.append(_finishing(database, Version, (versions.name,), loader.retries, cluster=None)[0])
    if not work.whole:
        references += [_told(job, loader.progress) for job in work.references_of_others()]
    # What is ready to be finished goes before what is to be loaded: both cores of the server have work from then on.
    run_jobs([*finishes, *loads, *references], workers, loader.stop)
    return sorted(summaries, key=lambda summary: STAGE_NAMES.index(summary.stage))


def _classes(names: Collection[str]) -> list[type[SchemaMixin]]:
    return [cls for cls in TABLES if table_of(cls).name in names]


@dataclass(frozen=True)
class _Work:
    """What the jobs of a load do.

    Attributes
    ----------
    database, tree, loader
    tables : list of class
        The tables that are loaded.
    whole : bool
        Whether these are all.
    """

    database: Database
    tree: ProductionTree
    loader: Loader
    tables: list[type[SchemaMixin]]
    whole: bool

    def groups(self, stage: Stage) -> list[tuple[type[SchemaMixin], ...]]:
        """Give the classes of the tables of a stage, in groups that are loaded together."""
        classes = {table_of(cls).name: cls for cls in self.tables}
        groups = (tuple(classes[name] for name in group if name in classes) for group in stage.groups)
        return [group for group in groups if group]

    def _files_of(self, cls: type[SchemaMixin]) -> list[FileLoad]:
        return files_of_table(cls, self.tree, self.database)

    def announce(self, stages: Sequence[str]) -> None:
        """Tell the progress of the rows to come, which are in the headers of the files."""
        if isinstance(self.loader.progress, NoProgress):
            return
        for stage in stages:
            # What is wrong with a file, or that it is not there, is said where it is loaded.
            with contextlib.suppress(InputError):
                for load in stage_loads(stage, self.tree, self.database, self.tables):
                    # To look into a packed file is to unpack it.
                    if load.path.suffix != ".gz" and not self.loader.ledger.complete(load):
                        with open_table(load.path, load.hdu) as reader:
                            self.loader.progress.expect(load, reader.nrows)

    def reload(self, stages: Sequence[str]) -> dict[type[SchemaMixin], int]:
        """Replace what came from files that have changed, in the tables of some stages."""
        database, loader = self.database, self.loader
        classes = {cls for name in stages for group in self.groups(STAGES[name]) for cls in group}
        with database.turn:
            files = {cls: self._files_of(cls) for cls in TABLES if cls in classes}
            return reload_tables(database, files, loader.ledger, loader.rejects, loader.retries)

    def load_versions(self) -> None:
        """Record the versions of the data."""
        names = self.tree.production
        versions = (names.photometry, names.redshift, names.release, names.specprod, names.tiles)
        with self.database.turn:
            self.loader.retries.run(partial(load_versions, *versions, database=self.database), "versions")

    def load(
        self,
        stage: str,
        group: tuple[type[SchemaMixin], ...],
        summaries: list[TableSummary],
        reloaded: dict[type[SchemaMixin], int],
    ) -> None:
        """Load the tables of a group, and note what was done."""
        start = time.monotonic()
        database, loader = self.database, self.loader
        if stage == "fiberassign":
            self.announce([stage])
        done = loader.load_all(stage_loads(stage, self.tree, database, group))
        for cls, summary in zip(group, summaries, strict=True):
            if cls in (Ztile, Zpix) and not self.tree.redshifts(summary.table)[1]:
                with database.turn, loader.progress.during(f"primary spectra of {summary.table}"):
                    loader.retries.run(partial(update_primary, database, cls), f"primary spectra of {summary.table}")
            summary.rows = sum(counts.inserted for load, counts in done.items() if load.table is cls)
            # A table that two stages fill was reloaded as a whole.
            summary.rows += reloaded.pop(cls, 0)
            summary.seconds = time.monotonic() - start

    def build_key(self, build: Callable[[], None], cls: type[SchemaMixin]) -> None:
        """Build the key of a table; if keys are repeated, find the rows, and leave them out or say which they are."""
        database, loader = self.database, self.loader
        try:
            build()
        except ConstraintError:
            with database.turn:
                settle_duplicates(database, cls, self._files_of(cls), loader.ledger, loader.rejects)
            build()

    def refer(self, cls: type[SchemaMixin]) -> None:
        """Add the references of a table; if rows are rejected, those that refer to none are."""
        database, loader = self.database, self.loader
        names = self._references(cls)
        try:
            add_foreign_keys(database, cls, loader.retries, names)
        except ConstraintError:
            if loader.rejects is None:
                raise
            with database.turn:
                settled = delete_orphans(database, cls, self._files_of(cls), loader.ledger, loader.rejects, names)
            if not settled:
                raise
            add_foreign_keys(database, cls, loader.retries, names)

    def _references(self, cls: type[SchemaMixin]) -> list[str] | None:
        """Name the references of a table that are made; None if all are."""
        if self.whole:
            return None
        with self.database.turn, self.database.connect() as connection:
            there = [*self.tables, *finished_tables(self.database, connection)]
        return [name for name, parent in parents_of(cls) if parent in {table_of(item).name for item in there}]

    def references_of_others(self) -> list[Job]:
        """Make the jobs for the references of tables that were complete before."""
        with self.database.connect() as connection:
            others = [cls for cls in finished_tables(self.database, connection) if cls not in self.tables]
        jobs = [_finishing(self.database, cls, (), self.loader.retries, cluster=None)[1] for cls in others]
        return [replace(job, work=partial(self.refer, cls)) for job, cls in zip(jobs, others, strict=True)]


def _told(job: Job, progress: Progress) -> Job:
    """Have a job tell when it is at work, and how long it took."""
    kind, table = job.name.split()
    what = f"{'keys and indexes' if kind == 'finish' else 'references'} of {table}"

    def work() -> None:
        start = time.monotonic()
        with progress.during(what):
            job.work()
        logger.info("%s done in %.1f s", what, time.monotonic() - start)

    return replace(job, work=work)


def _jobs_before(stage: Stage) -> tuple[str, ...]:
    """Name the loads that must be done before those of a stage."""
    before = [other for other in STAGES.values() if other is not stage]
    return tuple(
        f"load {other.name} {group[0]}"
        for table in stage.after
        for other in before
        for group in other.groups
        if table in group and STAGE_NAMES.index(other.name) < STAGE_NAMES.index(stage.name)
    )


def _finishing(
    database: Database, cls: type[SchemaMixin], after: tuple[str, ...], retries: Retries, *, cluster: bool | None
) -> tuple[Job, Job]:
    """Make the jobs that follow the rows of a table: its own keys and indexes, then its references to others."""
    table = table_of(cls)
    build = partial(build_indexes, database, cls, cluster=cluster, retries=retries)
    parents = {f"finish {key.elements[0].column.table.name}" for key in table.foreign_key_constraints}
    grandparents = {name.replace("finish", "refer") for name in parents}
    refer = partial(add_foreign_keys, database, cls, retries)
    # Side by side, where there is one writer, they would wait for each other, while there are files to be read.
    alone = database.one_writer
    return (
        Job(f"finish {table.name}", build, after, alone),
        # A row that is left out because it refers to none may be one that others refer to: parents come first.
        Job(f"refer {table.name}", refer, (f"finish {table.name}", *sorted(parents), *sorted(grandparents)), alone),
    )


def build_all(
    database: Database,
    *,
    cluster: bool = False,
    workers: int = 2,
    retries: Retries | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Build the keys, indexes and references that tables lack.

    Parameters
    ----------
    database : Database
    cluster : bool
        Also rewrite the tables in the order of the sky. PostgreSQL only.
    workers : int
        Connections that build at a time.
    retries : Retries, optional
    progress : Progress, optional

    Returns
    -------
    list of str
        Names of what was built.

    Raises
    ------
    SchemaError, ConstraintError
    """
    warn_without_sky_index(database)
    with database.connect() as connection:
        there = existing_tables(database, connection)
        missing = [name for cls in there for name in missing_keys(database, connection, cls)]
    if not there:
        raise SchemaError("there are no tables; load them first with specprod-load run")
    pairs = [_finishing(database, cls, (), retries or Retries(), cluster=cluster) for cls in there]
    jobs = [*(finish for finish, _ in pairs), *(refer for _, refer in pairs)]
    run_jobs([_told(job, progress or NoProgress()) for job in jobs], workers)
    return missing
