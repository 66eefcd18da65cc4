"""The load of a whole production: which files go into which tables, stage by stage."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from specprod.database.failures import Retries
from specprod.database.keys import add_foreign_keys, build_indexes, missing_keys, warn_without_sky_index
from specprod.database.primary import update_primary
from specprod.database.schema import existing_tables
from specprod.errors import ConstraintError, InputError, SchemaError
from specprod.files.opening import open_table
from specprod.files.tree import ProductionTree
from specprod.loading.constraints import delete_orphans, settle_duplicates
from specprod.loading.filters import NewTargets
from specprod.loading.interfaces import NoProgress, Progress
from specprod.loading.loader import Loader
from specprod.loading.pieces import FileLoad
from specprod.loading.reload import reload_tables
from specprod.model import (
    TABLES,
    Exposure,
    Fiberassign,
    Frame,
    Photometry,
    Potential,
    SchemaMixin,
    Target,
    Tile,
    Version,
    Zpix,
    Ztile,
    table_of,
)
from specprod.production.parts import part_of
from specprod.production.scheduling import Job, run_jobs
from specprod.production.setup import load_versions
from specprod.stages import ONE_WRITER, STAGE_NAMES, STAGES, Stage

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["TableSummary", "build_all", "load_production", "stage_loads"]

logger = logging.getLogger(__name__)


def _exposures(tree: ProductionTree, _: Database) -> Iterator[FileLoad]:
    yield part_of("exposures", Tile).load(tree.tiles())
    yield part_of("exposures", Exposure).load(tree.exposures())
    yield part_of("exposures", Frame).load(tree.exposures())


def _photometry(tree: ProductionTree, _: Database) -> Iterator[FileLoad]:
    for path in tree.tractorphot():
        yield part_of("photometry", Photometry).load(path)


def _targetphot(tree: ProductionTree, database: Database) -> Iterator[FileLoad]:
    new = NewTargets(database)
    for path in tree.targetphot():
        yield part_of("targetphot", Photometry).load(path, row_filter=new)


def _target(tree: ProductionTree, _: Database) -> Iterator[FileLoad]:
    for path in tree.targetphot():
        yield part_of("target", Target).load(path)


def _redshift(tree: ProductionTree, _: Database) -> Iterator[FileLoad]:
    for kind, cls in (("ztile", Ztile), ("zpix", Zpix)):
        for file in tree.redshifts(kind)[0]:
            given = {"survey": file.survey, "program": file.program}
            given |= {"spgrp": "cumulative"} if cls is Ztile else {}
            yield part_of("redshift", cls).load(file.path, given)


def loaded_tiles(database: Database) -> list[int]:
    """Numbers of the tiles that table tile holds, in order."""

    def ask() -> list[int]:
        with database.turn, database.connect() as connection:
            return list(connection.scalars(sa.select(Tile.tileid).order_by(Tile.tileid)))

    return Retries().run(ask, "list of tiles")


def _fiberassign(tree: ProductionTree, database: Database) -> Iterator[FileLoad]:
    for tileid in loaded_tiles(database):
        path = tree.fiberassign(tileid)
        for cls in (Fiberassign, Potential):
            yield part_of("fiberassign", cls).load(path, {"tileid": tileid})


#: What yields the files of each stage.
_LOADS: dict[str, Callable[[ProductionTree, Database], Iterator[FileLoad]]] = {
    "exposures": _exposures,
    "photometry": _photometry,
    "targetphot": _targetphot,
    "target": _target,
    "redshift": _redshift,
    "fiberassign": _fiberassign,
}


def stage_loads(stage: str, tree: ProductionTree, database: Database) -> Iterator[FileLoad]:
    """Yield the files of a stage, each with its table."""
    return _LOADS[stage](tree, database)


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
    workers: int = 2,
) -> list[TableSummary]:
    """Load a production, or some stages of it, into tables that are there already.

    Stages that do not depend on each other, and the indexes of tables that are complete, are worked on side by side. In
    SQLite, which has one writer, only one of them writes, while the others read files and convert.

    Parameters
    ----------
    database : Database
    tree : ProductionTree
    loader : Loader
    stages : sequence of str
        Some of `specprod.stages.STAGE_NAMES`.
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
    # The tiles, and so their files, are known when the first stage is done.
    _announce(loader, tree, database, [name for name in stages if name != "fiberassign"])
    summaries: list[TableSummary] = []
    loads: list[Job] = []
    finishes: list[Job] = []
    references: list[Job] = []
    reloaded = _reload(database, tree, loader, stages) if loader.reload else {}
    order = ONE_WRITER if database.one_writer else STAGE_NAMES
    for stage in (STAGES[name] for name in order if name in stages):
        name = stage.name
        for group in _groups(stage):
            parts = [TableSummary(name, table_of(cls).name) for cls in group]
            summaries += parts
            job = f"load {name} {parts[0].table}"
            work = partial(_load_group, name, group, database, tree, loader, parts, reloaded)
            loads.append(Job(job, work, _jobs_before(stage)))
            for cls in group if stage.completes else ():
                files = partial(_files_of, cls, tree, database)
                finish, refer = _finishing(database, cls, (job,), loader.retries, cluster=None)
                finish = replace(finish, work=partial(_settled_key, finish.work, cls, database, loader, files))
                refer = replace(refer, work=partial(_settled_references, refer.work, cls, database, loader, files))
                finishes.append(_told(finish, loader.progress))
                references.append(_told(refer, loader.progress))
    if "exposures" in stages:
        # Versions are written with the exposures.
        finishes.append(_finishing(database, Version, ("load exposures tile",), loader.retries, cluster=None)[0])
    # What is ready to be finished goes before what is to be loaded: both cores of the server have work from then on.
    run_jobs([*finishes, *loads, *references], workers, loader.stop)
    return sorted(summaries, key=lambda summary: STAGE_NAMES.index(summary.stage))


def _reload(
    database: Database, tree: ProductionTree, loader: Loader, stages: Sequence[str]
) -> dict[type[SchemaMixin], int]:
    """Replace what came from files that have changed, in the tables of some stages."""
    classes = {cls for name in stages for group in _groups(STAGES[name]) for cls in group}
    with database.turn:
        files = {cls: _files_of(cls, tree, database) for cls in TABLES if cls in classes}
        return reload_tables(database, files, loader.ledger, loader.rejects, loader.retries)


def _announce(loader: Loader, tree: ProductionTree, database: Database, stages: Sequence[str]) -> None:
    """Tell the progress of the rows to come, which are in the headers of the files."""
    if isinstance(loader.progress, NoProgress):
        return
    for stage in stages:
        # What is wrong with a file, or that it is not there, is said where it is loaded.
        with contextlib.suppress(InputError):
            for load in stage_loads(stage, tree, database):
                # To look into a packed file is to unpack it.
                if load.path.suffix != ".gz" and not loader.ledger.complete(load):
                    with open_table(load.path, load.hdu) as reader:
                        loader.progress.expect(load, reader.nrows)


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


def _groups(stage: Stage) -> list[tuple[type[SchemaMixin], ...]]:
    """Give the classes of the tables of a stage, in groups that are loaded together."""
    classes = {table_of(cls).name: cls for cls in TABLES}
    return [tuple(classes[name] for name in group) for group in stage.groups]


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


def _files_of(cls: type[SchemaMixin], tree: ProductionTree, database: Database) -> list[FileLoad]:
    """Give all files of a table, in the order in which they are loaded."""
    return [load for stage in STAGE_NAMES for load in stage_loads(stage, tree, database) if load.table is cls]


def _settled_key(
    work: Callable[[], None],
    cls: type[SchemaMixin],
    database: Database,
    loader: Loader,
    files: Callable[[], list[FileLoad]],
) -> None:
    """Build the key of a table; if keys are repeated, find the rows, and leave them out or say which they are."""
    try:
        work()
    except ConstraintError:
        with database.turn:
            settle_duplicates(database, cls, files(), loader.ledger, loader.rejects)
        work()


def _settled_references(
    work: Callable[[], None],
    cls: type[SchemaMixin],
    database: Database,
    loader: Loader,
    files: Callable[[], list[FileLoad]],
) -> None:
    """Add the references of a table; if rows are rejected, those that refer to none are."""
    try:
        work()
    except ConstraintError:
        if loader.rejects is None:
            raise
        with database.turn:
            settled = delete_orphans(database, cls, files(), loader.ledger, loader.rejects)
        if not settled:
            raise
        work()


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


def _load_group(
    stage: str,
    group: tuple[type[SchemaMixin], ...],
    database: Database,
    tree: ProductionTree,
    loader: Loader,
    summaries: list[TableSummary],
    reloaded: dict[type[SchemaMixin], int],
) -> None:
    """Load the tables of a group, and note what was done."""
    start = time.monotonic()
    if stage == "exposures":
        names = tree.production
        versions = (names.photometry, names.redshift, names.release, names.specprod, names.tiles)
        with database.turn:
            loader.retries.run(partial(load_versions, *versions, database=database), "versions")
    if stage == "fiberassign":
        _announce(loader, tree, database, [stage])
    done = loader.load_all(load for load in stage_loads(stage, tree, database) if load.table in group)
    for cls, summary in zip(group, summaries, strict=True):
        if cls in (Ztile, Zpix) and not tree.redshifts(summary.table)[1]:
            with database.turn, loader.progress.during(f"primary spectra of {summary.table}"):
                loader.retries.run(partial(update_primary, database, cls), f"primary spectra of {summary.table}")
        summary.rows = sum(counts.inserted for load, counts in done.items() if load.table is cls)
        # A table that two stages fill was reloaded as a whole.
        summary.rows += reloaded.pop(cls, 0)
        summary.seconds = time.monotonic() - start
