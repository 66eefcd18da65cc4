"""Loads of tiles: read ahead, written each in one transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from specprod.database.failures import Retries, translated
from specprod.errors import ConstraintError, InputError, SpecprodError
from specprod.loading.ahead import prefetched
from specprod.model import Tile
from specprod.tiles.choice import photometry_source
from specprod.tiles.observations import Observations
from specprod.tiles.preparing import TilePreparation
from specprod.tiles.rows import TableCounts, TileRows
from specprod.tiles.sources import PhotometrySource
from specprod.tiles.writing import write_tile

if TYPE_CHECKING:
    from specprod.database.connection import Database
    from specprod.files.tree import ProductionTree

__all__ = ["Record", "TileSummary", "changed_tiles", "load_tiles"]

logger = logging.getLogger(__name__)

#: Records a tile in its own transaction: connection, rows of the tile, what became of them by table.
Record = Callable[[sa.Connection, TileRows, Mapping[str, TableCounts]], None]
#: Records that a tile could not be loaded: TILEID, and why.
RecordFailure = Callable[[int, SpecprodError], None]


def _no_record(connection: sa.Connection, rows: TileRows, counts: Mapping[str, TableCounts]) -> None:
    """Record nothing."""


def _no_failure(tileid: int, error: SpecprodError) -> None:
    """Record nothing."""


@dataclass
class TileSummary:
    """What became of a tile.

    Attributes
    ----------
    tileid : int
    state : str
        ``loaded``, ``updated``, ``redesigned`` or ``failed``.
    tables : dict of str to TableCounts
    seconds : float
        Time of its transaction.
    error : SpecprodError or None
        Why it failed; nothing of it is in the database that was not there before.
    uncatalogued : int
        Targets that are in no catalogue, and have what the fiberassign file says of them.
    missing_bricks : int
        Absent catalogues of bricks without which its photometry was read.
    """

    tileid: int
    state: str = "loaded"
    tables: dict[str, TableCounts] = field(default_factory=dict)
    seconds: float = 0.0
    error: SpecprodError | None = None
    uncatalogued: int = 0
    missing_bricks: int = 0


def load_tiles(
    database: Database,
    tree: ProductionTree,
    tileids: Sequence[int],
    *,
    update: bool = False,
    strict: bool = False,
    observations: Observations | None = None,
    source: PhotometrySource | None = None,
    workers: int = 1,
    retries: Retries | None = None,
    record: Record = _no_record,
    record_failure: RecordFailure = _no_failure,
) -> Iterator[TileSummary]:
    """Load tiles, each in a transaction of its own.

    While tiles are written, the next ones are read. A tile whose files are not what they should be is left out, and its
    summary says why; the others are loaded.

    Parameters
    ----------
    database : Database
        Its tables have their keys.
    tree : ProductionTree
    tileids : sequence of int
    update : bool
        Load only tile, exposures, frames and redshifts of the tiles whose targets are there and the same.
    strict : bool
        Leave out tiles with targets that are in no catalogue. By default such targets have what the fiberassign file
        says of them: positions, fluxes, bits.
    observations : Observations, optional
        Tiles and exposures files; by default those of the production.
    source : PhotometrySource, optional
        By default that of the production.
    workers : int
        Tiles that are written at a time; 1 where the database has one writer.
    retries : Retries, optional
    record : callable, optional
        Called in the transaction of each tile.
    record_failure : callable, optional
        Called for each tile that cannot be loaded.

    Yields
    ------
    TileSummary
        In the order in which the tiles are done.

    Raises
    ------
    DatabaseError
        If the database fails. Tiles that were done stay.
    """
    retries = retries or Retries()
    prepared = TilePreparation(
        database,
        tree,
        observations or Observations(tree),
        source or photometry_source(tree),
        update=update,
        strict=strict,
        retries=retries,
    )
    workers = 1 if database.one_writer else workers

    def ended(summary: TileSummary) -> TileSummary:
        if summary.error is not None:
            record_failure(summary.tileid, summary.error)
        return summary

    running: set[Future[TileSummary]] = set()
    with ThreadPoolExecutor(workers, "tile") as pool:
        for tileid, rows in prefetched(prepared.read_all(list(dict.fromkeys(tileids)))):
            if isinstance(rows, TileRows):
                running.add(pool.submit(_load_tile, database, prepared, rows, retries, record))
            else:
                yield ended(TileSummary(tileid, "failed", error=rows))
            while len(running) >= workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (ended(future.result()) for future in done)
        for future in running:
            yield ended(future.result())


def _load_tile(
    database: Database, prepared: TilePreparation, rows: TileRows, retries: Retries, record: Record
) -> TileSummary:
    """Write a tile; if others changed what it was prepared for, prepare it once more."""
    start = time.monotonic()
    try:
        try:
            tables, redesigned = _write_tile(database, rows, retries, record)
        except ConstraintError as error:
            logger.info("tile %d: %s; it is read again", rows.tileid, error)
            ((_, again),) = prepared.read_all([rows.tileid])
            if isinstance(again, InputError):
                raise again from error
            rows = again
            tables, redesigned = _write_tile(database, rows, retries, record)
    except (InputError, ConstraintError) as error:
        return TileSummary(rows.tileid, "failed", error=error)
    if redesigned and not rows.redesigned:
        logger.warning("tile %d: was designed anew since it was loaded", rows.tileid)
    state = "redesigned" if redesigned or rows.redesigned else "loaded" if rows.complete else "updated"
    seconds = time.monotonic() - start
    logger.info("tile %d: %s in %.1f s", rows.tileid, state, seconds)
    return TileSummary(rows.tileid, state, tables, seconds, None, rows.uncatalogued, rows.missing_bricks)


def _write_tile(
    database: Database, rows: TileRows, retries: Retries, record: Record
) -> tuple[dict[str, TableCounts], bool]:
    def transaction() -> tuple[dict[str, TableCounts], bool]:
        with database.begin() as connection:
            tables, redesigned = write_tile(database, connection, rows)
            record(connection, rows, tables)
            return tables, redesigned

    return retries.run(transaction, f"tile {rows.tileid}")


def changed_tiles(database: Database, tileids: Sequence[int], observations: Observations) -> list[int]:
    """Find the tiles whose row in the tiles file is not the one in the database.

    Parameters
    ----------
    database : Database
    tileids : sequence of int
        Tiles that count.
    observations : Observations

    Returns
    -------
    list of int
        In the order of the file: those that differ, and those that are not there.

    Raises
    ------
    InputError, DatabaseError
    """
    new = observations.all_tiles(np.asarray(tileids, dtype=np.int64))
    numbers = new["tileid"]
    with database.connect() as connection, translated():
        parts = list(database.fetch(connection, Tile))
    same = np.zeros(numbers.size, dtype=np.bool_)
    for part in parts:
        order = np.argsort(part["tileid"])
        place = np.minimum(np.searchsorted(part["tileid"][order], numbers), order.size - 1)
        row = order[place]
        equal = part["tileid"][row] == numbers
        for name, values in new.items():
            equal &= part[name][row] == values
        same |= equal
    return [int(number) for number in numbers[~same].tolist()]
