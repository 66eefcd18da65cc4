"""The load of a whole production: which files go into which tables, stage by stage."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from specprod.database.primary import update_primary
from specprod.finishing import Finisher
from specprod.identifiers import is_sky
from specprod.load import deduplicate_targetid, load_versions
from specprod.loading import FileLoad, Loader
from specprod.model import (
    Exposure,
    Fiberassign,
    Frame,
    Photometry,
    Potential,
    SchemaMixin,
    Target,
    Tile,
    Zpix,
    Ztile,
    table_of,
)
from specprod.reading.production import ProductionTree
from specprod.reading.tables import Chunk

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["STAGES", "StageSummary", "load_production", "not_sky", "stage_loads"]

logger = logging.getLogger(__name__)

TILES_HDU = ("TILE_COMPLETENESS", "TILES")


def not_sky(chunk: Chunk) -> npt.NDArray[np.int64]:
    """Indexes of the rows that are not sky."""
    return np.flatnonzero(~is_sky(chunk["TARGETID"]))


def _exposures(tree: ProductionTree, _: Database) -> Iterator[FileLoad]:
    yield FileLoad(tree.tiles(), TILES_HDU, Tile)
    yield FileLoad(tree.exposures(), "EXPOSURES", Exposure)
    yield FileLoad(tree.exposures(), "FRAMES", Frame)


def _photometry(tree: ProductionTree, _: Database) -> Iterator[FileLoad]:
    for path in tree.tractorphot():
        yield FileLoad(path, "TRACTORPHOT", Photometry)


def _targetphot(tree: ProductionTree, database: Database) -> Iterator[FileLoad]:
    for path in tree.targetphot():
        new = partial(deduplicate_targetid, database=database)
        yield FileLoad(path, "TARGETPHOT", Photometry, row_filter=new, only_new=True)


def _target(tree: ProductionTree, _: Database) -> Iterator[FileLoad]:
    for path in tree.targetphot():
        yield FileLoad(path, "TARGETPHOT", Target)


def _redshift(tree: ProductionTree, _: Database) -> Iterator[FileLoad]:
    for kind, cls in (("ztile", Ztile), ("zpix", Zpix)):
        for file in tree.redshifts(kind)[0]:
            given = {"survey": file.survey, "program": file.program}
            given |= {"spgrp": "cumulative"} if cls is Ztile else {}
            yield FileLoad(file.path, "ZCATALOG", cls, given, not_sky)


def _fiberassign(tree: ProductionTree, database: Database) -> Iterator[FileLoad]:
    with database.connect() as connection:
        tiles = connection.scalars(sa.select(Tile.tileid).order_by(Tile.tileid)).all()
    for tileid in tiles:
        path = tree.fiberassign(tileid)
        yield FileLoad(path, "FIBERASSIGN", Fiberassign, {"tileid": tileid}, not_sky)
        yield FileLoad(path, "POTENTIAL_ASSIGNMENTS", Potential, {"tileid": tileid}, not_sky)


@dataclass(frozen=True)
class _Stage:
    """A stage: its files, the tables in groups that are loaded together, and whether they are then complete."""

    loads: Callable[[ProductionTree, Database], Iterator[FileLoad]]
    groups: tuple[tuple[type[SchemaMixin], ...], ...]
    completes: bool = True


_STAGES: dict[str, _Stage] = {
    "exposures": _Stage(_exposures, ((Tile,), (Exposure,), (Frame,))),
    # The rows that the targetphot stage adds belong to the same table: its indexes wait for them.
    "photometry": _Stage(_photometry, ((Photometry,),), completes=False),
    "targetphot": _Stage(_targetphot, ((Photometry,),)),
    "target": _Stage(_target, ((Target,),)),
    "redshift": _Stage(_redshift, ((Ztile,), (Zpix,))),
    "fiberassign": _Stage(_fiberassign, ((Fiberassign, Potential),)),
}

#: The stages of a production, in order.
STAGES: tuple[str, ...] = tuple(_STAGES)


def stage_loads(stage: str, tree: ProductionTree, database: Database) -> Iterator[FileLoad]:
    """Yield the files of a stage, each with its table."""
    return _STAGES[stage].loads(tree, database)


@dataclass
class StageSummary:
    """What a stage did.

    Attributes
    ----------
    stage : str
    rows : dict
        Rows written, by table.
    seconds : dict
        Time that the rows took, by table; indexes are built beside, or after.
    """

    stage: str
    rows: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def load_production(
    database: Database,
    tree: ProductionTree,
    loader: Loader,
    *,
    stages: Sequence[str] = STAGES,
    workers: int = 2,
) -> list[StageSummary]:
    """Load a production, or some stages of it, into tables that are there already.

    Parameters
    ----------
    database : Database
    tree : ProductionTree
    loader : Loader
    stages : sequence of str
        Some of `STAGES`; they are done in that order.
    workers : int
        Connections that build indexes beside the load.

    Returns
    -------
    list of StageSummary

    Raises
    ------
    InputError, DatabaseError, LedgerError
    """
    summaries = []
    with Finisher(database, workers, loader.retries) as finisher:
        for name in (name for name in STAGES if name in stages):
            summaries.append(_load_stage(name, database, tree, loader, finisher))
        chosen = [_STAGES[name] for name in STAGES if name in stages and _STAGES[name].completes]
        finisher.references([cls for stage in chosen for group in stage.groups for cls in group])
        finisher.wait()
    return summaries


def _load_stage(
    name: str, database: Database, tree: ProductionTree, loader: Loader, finisher: Finisher
) -> StageSummary:
    stage = _STAGES[name]
    summary = StageSummary(name)
    if name == "exposures":
        production = tree.production
        load_versions(
            production.photometry,
            production.redshift,
            production.release,
            production.specprod,
            production.tiles,
            database=database,
        )
    if name == "targetphot":
        # Whether a TARGETID is there is asked of this key.
        finisher.key(Photometry)
    for group in stage.groups:
        start = time.monotonic()
        for cls in group:
            summary.rows[table_of(cls).name] = 0
        for load, counts in loader.load_all(
            item for item in stage.loads(tree, database) if item.table in group
        ).items():
            summary.rows[table_of(load.table).name] += counts.inserted
        for cls in group:
            table = table_of(cls).name
            # Tables that are loaded together took their time together.
            summary.seconds[table] = time.monotonic() - start
            if cls in (Ztile, Zpix) and not tree.redshifts(table)[1]:
                update_primary(database, cls)
            if stage.completes:
                finisher.table(cls)
    return summary
