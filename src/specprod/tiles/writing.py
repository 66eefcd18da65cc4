"""Writing of a tile, in one transaction of the caller."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from specprod.database.lookups import unknown_targetids
from specprod.database.primary import PRIMARY_COLUMNS
from specprod.database.writing import Counts
from specprod.model import (
    Exposure,
    Fiberassign,
    Frame,
    Photometry,
    Potential,
    SchemaMixin,
    Target,
    Tile,
    Ztile,
    table_of,
)
from specprod.model.converting import Columns
from specprod.tiles.removing import remove_gone, remove_unused_photometry
from specprod.tiles.rows import TableCounts, TileRows

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["insert_photometry", "upsert", "write_tile"]

#: The tables of a tile, each after those to which it refers.
_ORDER: tuple[type[SchemaMixin], ...] = (
    Tile,
    Exposure,
    Frame,
    Photometry,
    Target,
    Ztile,
    Fiberassign,
    Potential,
)


def _write(
    database: Database, connection: Connection, cls: type[SchemaMixin], columns: Columns, *, update: bool
) -> Counts:
    if not columns or not len(next(iter(columns.values()))):
        return Counts()
    writer = database.writer(cls)
    prepared = [writer.prepare(columns)]
    if not update:
        return writer.insert_new(connection, prepared)
    # A load of one tile leaves alone what depends on others.
    keep: Collection[str] = PRIMARY_COLUMNS if cls is Ztile else ()
    return writer.upsert(connection, prepared, keep)


def insert_photometry(database: Database, connection: Connection, columns: Columns) -> Columns:
    """Insert the rows of table photometry whose TARGETIDs it does not have, and return these."""
    while columns:
        new = np.isin(columns["targetid"], unknown_targetids(database, connection, columns["targetid"]))
        fresh = {name: values[new] for name, values in columns.items()}
        with connection.begin_nested() as savepoint:
            if _write(database, connection, Photometry, fresh, update=False).inserted == np.count_nonzero(new):
                return fresh
            # Another load has committed some of them meanwhile: now they are there.
            savepoint.rollback()
    return {}


def upsert(database: Database, connection: Connection, cls: type[SchemaMixin], columns: Columns) -> Counts:
    """Insert the rows that a table does not have, and update those that differ."""
    return _write(database, connection, cls, columns, update=True)


def write_tile(database: Database, connection: Connection, rows: TileRows) -> tuple[dict[str, TableCounts], bool]:
    """Write a tile: insert what is new, update what differs, remove what is gone from its files.

    Photometry is shared with other tiles: what is there stays as it is, until nothing refers to it.

    Parameters
    ----------
    database : Database
    connection : sqlalchemy.Connection
        Whose transaction to join.
    rows : TileRows

    Returns
    -------
    counts : dict of str to TableCounts
        By table.
    redesigned : bool
        Whether the tile was there with other targets.

    Raises
    ------
    DatabaseError
    """
    before = _designed(connection, rows.tileid) if rows.complete else False
    counts: dict[type[SchemaMixin], TableCounts] = {}
    for cls in _ORDER:
        if cls in rows.tables:
            done = _write(database, connection, cls, rows.tables[cls], update=cls is not Photometry)
            counts[cls] = TableCounts(done.inserted, done.updated, 0, done.unchanged)
    # What refers to others goes first.
    unused: list[int] = []
    for cls in reversed([cls for cls in counts if cls not in (Tile, Photometry)]):
        (key,) = table_of(cls).primary_key.columns
        removed, targetids = remove_gone(connection, cls, rows.tileid, rows.tables[cls][key.name])
        counts[cls] += TableCounts(removed=removed)
        unused += targetids
    if rows.complete:
        counts[Photometry] += TableCounts(removed=remove_unused_photometry(connection, unused) if unused else 0)
    redesigned = before and any(
        counts[cls].inserted or counts[cls].removed for cls in (Target, Fiberassign) if cls in counts
    )
    return {table_of(cls).name: counts[cls] for cls in _ORDER if cls in counts}, redesigned


def _designed(connection: Connection, tileid: int) -> bool:
    """Whether the database has targets of a tile."""
    return connection.scalar(sa.select(Target.tileid).where(Target.tileid == tileid).limit(1)) is not None
