"""Functions for loading files into a database, and the tables; see `specprod.production.job` for a whole production.

No function keeps a database in a global: each that needs one takes it as the argument ``database``.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specprod.configuration.defaults import CHUNKSIZE
from specprod.database.connection import Database
from specprod.database.keys import (
    add_loaded_references,
    build_indexes,
    build_key,
    build_sky_index,
    table_with_positions,
    warn_without_sky_index,
)
from specprod.database.upsert import Upsert
from specprod.entry import run_command
from specprod.files.tables import Chunk
from specprod.loading.filters import deduplicate_targetid
from specprod.loading.loader import Loader
from specprod.loading.pieces import FileLoad
from specprod.model import (
    Base,
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
from specprod.model.casting import REPLACEMENT
from specprod.model.converting import column_names
from specprod.production.setup import load_versions, setup_db

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "Base",
    "Exposure",
    "Fiberassign",
    "Frame",
    "Photometry",
    "Potential",
    "SchemaMixin",
    "Target",
    "Tile",
    "Version",
    "Zpix",
    "Ztile",
    "deduplicate_targetid",
    "finitize",
    "load_file",
    "load_versions",
    "main",
    "q3c_index",
    "setup_db",
    "upsert",
]

logger = logging.getLogger(__name__)


def load_file(
    filepaths: str | Path | Sequence[str | Path],
    tcls: type[SchemaMixin],
    hdu: int | str = 1,
    row_filter: Callable[..., Any] | None = None,
    q3c: str | None = None,
    chunksize: int = CHUNKSIZE,
    alternate_load: bool = False,
    *,
    database: Database,
    given: Mapping[str, Any] | None = None,
) -> int:
    """Load files into a table, whose columns say where in the files their values are.

    When it returns, the table has its key and its indexes, and its references to tables that have rows are checked.
    Chunks that were committed before an error stay.

    Parameters
    ----------
    filepaths : path or sequence of paths
        FITS, ECSV or CSV files.
    tcls : class
        The table.
    hdu : int or str
        HDU of the table in FITS files.
    row_filter : callable, optional
        Takes a chunk, a mapping of column names to arrays, and returns the indexes of the rows that stay, or a mask. It
        is asked when the chunks before, of this file and of others, are committed. If it has a parameter ``database``,
        as `deduplicate_targetid` does, it gets this one.
    q3c : str, optional
        Right ascension column; if set, the index of the sky is built after the load, and the table clustered on it.
    chunksize : int
        Rows that are read, converted and committed at a time. The reference has 50000 by default, we have 25000
        everywhere: a load is as fast with them, and takes less memory.
    alternate_load : bool
        Has no effect; all loads use little memory.
    database : Database
    given : mapping, optional
        Values for all rows that the files lack, such as ``{"survey": "main"}``.

    Returns
    -------
    int
        Number of rows loaded.

    Raises
    ------
    ConfigurationError
        If the table has no such positions as `q3c` says, or `chunksize` is not positive; nothing is loaded then.
    ConstraintError
        If a key is in the table already, or repeated, or a row refers to one that is not there.
    InputError, DatabaseError
    """
    if q3c is not None:
        table_with_positions(table_of(tcls).name, q3c)
    paths = [filepaths] if isinstance(filepaths, str | Path) else list(filepaths)
    loader = Loader(database, chunksize=chunksize)
    if row_filter is not None:
        # It may ask the database, and of rows of one chunk it is asked at once.
        row_filter = _bound(row_filter, database)
        loader = Loader(database, chunksize=chunksize, ahead=False, slice_bytes=sys.maxsize)
    build_key(database, tcls)
    counts = loader.load_all(FileLoad(Path(path), hdu, tcls, given or {}, row_filter) for path in paths)
    if q3c is not None:
        warn_without_sky_index(database)
    build_indexes(database, tcls, cluster=q3c is not None)
    add_loaded_references(database, tcls)
    return sum(item.inserted for item in counts.values())


def _bound(row_filter: Callable[..., Any], database: Database) -> Callable[[Chunk], Any]:
    """Give a filter the database, if it takes one."""
    takes = "database" in inspect.signature(row_filter).parameters
    return partial(row_filter, database=database) if takes else row_filter


def finitize(data: Table, replacement_value: float = REPLACEMENT) -> Table:
    """Replace NaN and infinity in all floating-point columns of a table, in place.

    Parameters
    ----------
    data : astropy.table.Table
    replacement_value : float

    Returns
    -------
    astropy.table.Table
        `data` itself.
    """
    for name in column_names(data):
        column = data[name]
        if column.dtype.kind == "f":
            bad = ~np.isfinite(np.ma.getdata(column))
            if bad.any():
                logger.info("%d values of column %s are not finite", int(bad.sum()), name)
                data[name][bad] = replacement_value
    return data


def q3c_index(table: str, ra: str = "ra", *, database: Database) -> None:
    """Build the index of the sky of a table and cluster the table on it, as far as the server has q3c.

    Parameters
    ----------
    table : str
        Name of the table.
    ra : str
        Its column of right ascension.
    database : Database

    Raises
    ------
    ConfigurationError
        If the table has no such positions.
    """
    build_sky_index(database, table, ra)


def upsert(rows: Sequence[Base], do_nothing: bool = False) -> Upsert:
    """Make one statement INSERT … ON CONFLICT of objects.

    Parameters
    ----------
    rows : sequence of objects
        Of one class, in any number.
    do_nothing : bool
        Leave rows that are there alone, instead of updating them.

    Returns
    -------
    Upsert
        For ``execute()`` of a session or connection, in PostgreSQL or SQLite.
    """
    return Upsert(rows, do_nothing)


def main(args: Sequence[str] | None = None) -> int:
    """Run ``specprod-load run``, the load of a production.

    Parameters
    ----------
    args : sequence of str, optional
        The words after ``specprod-load run``; those of the process by default.

    Returns
    -------
    int
        For `sys.exit`; the command has said what went wrong.
    """
    return run_command("run", args)
