"""The steps of the load of a tile, for those who need one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from specprod.database.failures import translated
from specprod.database.keys import complete_tables, missing_keys
from specprod.database.lookups import unknown_targetids
from specprod.database.schema import existing_tables
from specprod.model import Fiberassign, Photometry, Potential, Target, Tile, Ztile
from specprod.model.base import TableLike
from specprod.tiles.choice import photometry_source
from specprod.tiles.columns import assignment_columns, photometry_columns, redshift_columns, target_columns
from specprod.tiles.design import completed, read_design
from specprod.tiles.loaded import Loaded
from specprod.tiles.observations import Observations
from specprod.tiles.rows import TileRows
from specprod.tiles.sources import PhotometrySource
from specprod.tiles.spectra import read_spectra
from specprod.tiles.writing import insert_photometry, upsert, write_tile

if TYPE_CHECKING:
    from astropy.table import Table

    from specprod.database.connection import Database
    from specprod.files.tree import ProductionTree

__all__ = [
    "load_fiberassign",
    "load_observations",
    "load_photometry",
    "load_redshift",
    "load_target",
    "load_targetphot",
    "potential_photometry",
    "potential_targets",
    "targetphot",
    "tractorphot",
]


@contextlib.contextmanager
def _transaction(database: Database, connection: sa.Connection | None) -> Iterator[sa.Connection]:
    """Join the transaction of a connection, or begin one in a database that has its keys."""
    with translated():
        if connection is not None:
            yield connection
            return
        with database.connect() as asking:
            there = existing_tables(database, asking)
            missing = any(missing_keys(database, asking, cls) for cls in there)
        if missing:
            # After `setup_db` alone: rows are told apart by keys, and those refer to each other by references.
            complete_tables(database, there)
        with database.begin() as own:
            yield own


def load_observations(
    tileid: int,
    *,
    tree: ProductionTree,
    database: Database,
    connection: sa.Connection | None = None,
    observations: Observations | None = None,
) -> Tile:
    """Load a tile, its exposures and their frames; rows that are there are updated, those that are gone removed.

    Parameters
    ----------
    tileid : int
    tree : ProductionTree
    database : Database
    connection : sqlalchemy.Connection, optional
    observations : Observations, optional
        Tiles and exposures files; by default those of the production.

    Returns
    -------
    Tile

    Raises
    ------
    InputError, DatabaseError
    """
    tables = (observations or Observations(tree)).tables(tileid)
    with _transaction(database, connection) as own:
        write_tile(database, own, TileRows(tileid, tables, complete=False))
    (tile,) = Loaded(Tile, tables[Tile])
    return tile


def potential_targets(tileid: int, *, tree: ProductionTree) -> Table:
    """Find potential targets associated with a tile: all that are not sky.

    Parameters
    ----------
    tileid : int
    tree : ProductionTree

    Returns
    -------
    astropy.table.Table
        TARGETID, RA, DEC (degrees), TILEID; each TARGETID once.

    Raises
    ------
    InputError
    """
    targets = read_design(tree, tileid).targets
    targets["TILEID"] = tileid
    return targets


def potential_photometry(tile: Tile, targets: Table, *, database: Database) -> Table:
    """Choose the targets of a tile of which the database has no photometry yet.

    Parameters
    ----------
    tile : Tile
    targets : astropy.table.Table
        Of `potential_targets`.
    database : Database

    Returns
    -------
    astropy.table.Table
        Those rows, with SURVEY and PROGRAM of the tile.
    """
    targetid = np.asarray(targets["TARGETID"])
    with database.connect() as connection, translated():
        new = unknown_targetids(database, connection, targetid)
    catalog = targets[np.isin(targetid, new)]
    catalog["TILEID"], catalog["SURVEY"], catalog["PROGRAM"] = tile.tileid, tile.survey, tile.program
    return catalog


def targetphot(catalog: Table, *, tree: ProductionTree, source: PhotometrySource | None = None) -> Table:
    """Find the target data associated with the targets in a catalogue.

    Parameters
    ----------
    catalog : astropy.table.Table
        TARGETID, RA, DEC, TILEID, SURVEY, PROGRAM; of one or several tiles.
    tree : ProductionTree
    source : PhotometrySource, optional
        By default that of the production.

    Returns
    -------
    astropy.table.Table
        Targets that are in no catalogue have what the fiberassign file says of them.

    Raises
    ------
    InputError
    """
    from astropy.table import vstack

    if not len(catalog):
        return catalog[:0]
    tileids = np.asarray(catalog["TILEID"])
    designs = {tileid: read_design(tree, tileid) for tileid in np.unique(tileids).tolist()}
    wanted = {}
    for tileid, design in designs.items():
        mine = catalog[tileids == tileid]
        wanted[tileid] = replace(design.wanted(str(mine["SURVEY"][0]), str(mine["PROGRAM"][0])), targets=mine)
    found = (source or photometry_source(tree)).targeting(list(wanted.values()))
    tables = [completed(found.get(tileid), designs[tileid], item)[0] for tileid, item in wanted.items()]
    return vstack(tables, metadata_conflicts="silent")


def tractorphot(catalog: Table, *, tree: ProductionTree, source: PhotometrySource | None = None) -> Table:
    """Find the Tractor photometry of the targets in a catalogue.

    Parameters
    ----------
    catalog : astropy.table.Table
        TARGETID, RA, DEC (degrees).
    tree : ProductionTree
    source : PhotometrySource, optional
        By default that of the production.

    Returns
    -------
    astropy.table.Table
        Targets without a source are left out.

    Raises
    ------
    InputError
    """
    if not len(catalog):
        return catalog[:0]
    found = (source or photometry_source(tree)).tractor(catalog)
    return found if len(found) else catalog[:0]


def load_photometry(
    photometry: TableLike, *, database: Database, connection: sa.Connection | None = None
) -> Loaded[Photometry]:
    """Insert photometry into the database; a TARGETID that is there keeps the row that it has.

    Parameters
    ----------
    photometry : astropy.table.Table
        Of `tractorphot`.
    database : Database
    connection : sqlalchemy.Connection, optional

    Returns
    -------
    Loaded
        The rows that were inserted, as `Photometry` objects.

    Raises
    ------
    InputError, DatabaseError
    """
    columns = photometry_columns(photometry, None, "targets")
    with _transaction(database, connection) as own:
        return Loaded(Photometry, insert_photometry(database, own, columns))


def load_targetphot(
    targetphot: Table,
    loaded_photometry: Sequence[Photometry],
    *,
    database: Database,
    connection: sa.Connection | None = None,
) -> Loaded[Photometry]:
    """Insert the photometry, such as it is, of targets that have no Tractor photometry.

    Parameters
    ----------
    targetphot : astropy.table.Table
        Of `targetphot`.
    loaded_photometry : sequence of Photometry
        What `load_photometry` returned; its TARGETIDs are left out.
    database : Database
    connection : sqlalchemy.Connection, optional

    Returns
    -------
    Loaded
        The rows that were inserted, as `Photometry` objects.

    Raises
    ------
    InputError, DatabaseError
    """
    if isinstance(loaded_photometry, Loaded):
        there = loaded_photometry.columns.get("targetid", np.zeros(0, dtype=np.int64))
    else:
        there = np.array([item.targetid for item in loaded_photometry], dtype=np.int64)
    rest = targetphot[~np.isin(np.asarray(targetphot["TARGETID"]), there)]
    columns = photometry_columns(rest[:0], rest, "targets")
    with _transaction(database, connection) as own:
        return Loaded(Photometry, insert_photometry(database, own, columns))


def load_target(targetphot: Table, *, database: Database, connection: sa.Connection | None = None) -> Loaded[Target]:
    """Load the data of target selection, one row for each target and tile; rows that are there are updated.

    Parameters
    ----------
    targetphot : astropy.table.Table
        Of `targetphot`.
    database : Database
    connection : sqlalchemy.Connection, optional

    Returns
    -------
    Loaded
        The rows as `Target` objects.

    Raises
    ------
    InputError, DatabaseError
    """
    columns = target_columns(targetphot, "a catalogue")
    with _transaction(database, connection) as own:
        upsert(database, own, Target, columns)
    return Loaded(Target, columns)


def load_redshift(
    tile: Tile,
    spgrp: str = "cumulative",
    *,
    tree: ProductionTree,
    database: Database,
    connection: sa.Connection | None = None,
) -> Loaded[Ztile]:
    """Load redshift data associated with a tile; rows that are there are updated, those of former nights removed.

    Parameters
    ----------
    tile : Tile
        Its `lastnight` says through which night.
    spgrp : str
        Only ``cumulative``.
    tree : ProductionTree
    database : Database
    connection : sqlalchemy.Connection, optional

    Returns
    -------
    Loaded
        The rows as `Ztile` objects.

    Raises
    ------
    ValueError
        If the value of `spgrp` is not supported.
    InputError, DatabaseError
    """
    if spgrp != "cumulative":
        raise ValueError(f"spgrp {spgrp!r} is not supported, only 'cumulative'")
    spectra = read_spectra(tree.spectra(tile.tileid, tile.lastnight), tile.lastnight, checksums=tree.checksums)
    columns = redshift_columns(spectra, tileid=tile.tileid, survey=tile.survey, program=tile.program)
    with _transaction(database, connection) as own:
        write_tile(database, own, TileRows(tile.tileid, {Ztile: columns}, complete=False))
    return Loaded(Ztile, columns)


def load_fiberassign(
    tile: Tile, *, tree: ProductionTree, database: Database, connection: sa.Connection | None = None
) -> tuple[Loaded[Fiberassign], Loaded[Potential]]:
    """Load the fiber assignments and potential assignments of a tile; rows that are there are updated or removed.

    Parameters
    ----------
    tile : Tile
    tree : ProductionTree
    database : Database
    connection : sqlalchemy.Connection, optional

    Returns
    -------
    tuple of Loaded
        The rows as `Fiberassign` and `Potential` objects.

    Raises
    ------
    InputError, DatabaseError
    """
    tables = assignment_columns(read_design(tree, tile.tileid))
    with _transaction(database, connection) as own:
        write_tile(database, own, TileRows(tile.tileid, tables, complete=False))
    return Loaded(Fiberassign, tables[Fiberassign]), Loaded(Potential, tables[Potential])
