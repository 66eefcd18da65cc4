"""Which files of a production go into which tables, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from specprod.database.failures import Retries
from specprod.errors import InputError
from specprod.files.tree import ProductionTree
from specprod.loading.filters import NewTargets
from specprod.loading.pieces import FileLoad
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
    Zpix,
    Ztile,
    table_of,
)
from specprod.production.parts import part_of
from specprod.stages import STAGES

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["files_of_table", "loaded_tiles", "planned_loads", "stage_loads"]

_Tables = Collection[type[SchemaMixin]]


def _exposures(tree: ProductionTree, _: Database, __: _Tables) -> Iterator[FileLoad]:
    yield part_of("exposures", Tile).load(tree.tiles())
    yield part_of("exposures", Exposure).load(tree.exposures())
    yield part_of("exposures", Frame).load(tree.exposures())


def _photometry(tree: ProductionTree, _: Database, __: _Tables) -> Iterator[FileLoad]:
    for path in tree.tractorphot():
        yield part_of("photometry", Photometry).load(path)


def _targetphot(tree: ProductionTree, database: Database, _: _Tables) -> Iterator[FileLoad]:
    new = NewTargets(database)
    for path in tree.targetphot():
        yield part_of("targetphot", Photometry).load(path, row_filter=new)


def _target(tree: ProductionTree, _: Database, __: _Tables) -> Iterator[FileLoad]:
    for path in tree.targetphot():
        yield part_of("target", Target).load(path)


def _redshift(tree: ProductionTree, _: Database, wanted: _Tables) -> Iterator[FileLoad]:
    # The catalogue of a table that is not wanted need not be there.
    for kind, cls in (("ztile", Ztile), ("zpix", Zpix)):
        for file in tree.redshifts(kind)[0] if cls in wanted else ():
            given = {"survey": file.survey, "program": file.program}
            given |= {"spgrp": "cumulative"} if cls is Ztile else {}
            yield part_of("redshift", cls).load(file.path, given)


def loaded_tiles(database: Database) -> list[int]:
    """Numbers of the tiles that table tile holds, in order."""

    def ask() -> list[int]:
        with database.turn, database.connect() as connection:
            return list(connection.scalars(sa.select(Tile.tileid).order_by(Tile.tileid)))

    return Retries().run(ask, "list of tiles")


def _fiberassign(tree: ProductionTree, database: Database, _: _Tables) -> Iterator[FileLoad]:
    for tileid in loaded_tiles(database):
        yield from _of_tile(tree, tileid)


def _of_tile(tree: ProductionTree, tileid: int) -> Iterator[FileLoad]:
    path = tree.fiberassign(tileid)
    for cls in (Fiberassign, Potential):
        yield part_of("fiberassign", cls).load(path, {"tileid": tileid})


#: What yields the files of each stage.
_LOADS: dict[str, Callable[[ProductionTree, Database, _Tables], Iterator[FileLoad]]] = {
    "exposures": _exposures,
    "photometry": _photometry,
    "targetphot": _targetphot,
    "target": _target,
    "redshift": _redshift,
    "fiberassign": _fiberassign,
}


def stage_loads(
    stage: str, tree: ProductionTree, database: Database, tables: Collection[type[SchemaMixin]] = TABLES
) -> Iterator[FileLoad]:
    """Yield the files of a stage, each with its table; only those of some tables, if they are given.

    Raises
    ------
    MissingFileError
        If a file that is needed for these tables is not there.
    """
    if not any(table_of(cls).name in STAGES[stage].tables for cls in tables):
        return
    for load in _LOADS[stage](tree, database, tables):
        if load.table in tables:
            yield load


def planned_loads(
    tree: ProductionTree, database: Database, cls: type[SchemaMixin], tiles: Sequence[int]
) -> tuple[list[FileLoad], list[InputError]]:
    """Give the files of a table as they will be loaded, and what is wrong with those that will not.

    Parameters
    ----------
    tree : ProductionTree
    database : Database
        It need not be there.
    cls : class
    tiles : sequence of int
        The tiles that table tile will hold.
    """
    sources: list[Callable[[], Iterator[FileLoad]]] = []
    for stage in (name for name in STAGES if table_of(cls).name in STAGES[name].tables):
        if stage == "fiberassign":
            sources += [partial(_of_tile, tree, tileid) for tileid in tiles]
        else:
            sources.append(partial(_LOADS[stage], tree, database, [cls]))
    loads: list[FileLoad] = []
    faults: list[InputError] = []
    for source in sources:
        try:
            loads += [load for load in source() if load.table is cls]
        except InputError as error:
            faults.append(error)
    return loads, faults


def files_of_table(cls: type[SchemaMixin], tree: ProductionTree, database: Database) -> list[FileLoad]:
    """Give all files of a table, in the order in which they are loaded."""
    return [load for stage in STAGES for load in stage_loads(stage, tree, database, [cls])]
