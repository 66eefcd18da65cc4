"""Functions for loading files into a database, and the tables; see `specprod.production.job` for a whole production.

No function keeps a database in a global: each that needs one takes it as the argument ``database``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from specprod.database.connection import Database, connect
from specprod.database.failures import translated
from specprod.database.keys import build_sky_index
from specprod.database.schema import check_roles, create_tables, drop_tables, grant
from specprod.database.upserting import Upsert
from specprod.files.tables import Chunk
from specprod.loading.loader import FileLoad, Loader
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
from specprod.model.base import TableLike
from specprod.model.casting import REPLACEMENT
from specprod.model.converting import column_names
from specprod.results.orm import OrmPipelineResultsStorage

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
    "q3c_index",
    "setup_db",
    "upsert",
]

logger = logging.getLogger(__name__)

# Numbers that SQLite gives as one text.
_AT_ONCE = 100_000

DEFAULT_ROLES = ("desi",)
DEFAULT_PUBLIC_ROLE = "desi_public"


def setup_db(
    dbfile: str | Path = "specprod.db",
    hostname: str | None = None,
    username: str = "desi_admin",
    schema: str | None = None,
    overwrite: bool = False,
    public: bool = False,
    verbose: bool = False,
    *,
    database: Database | None = None,
    roles: Sequence[str] = DEFAULT_ROLES,
    public_role: str = DEFAULT_PUBLIC_ROLE,
) -> Database:
    """Connect to a database and create the schema and the tables that are not there yet.

    Parameters
    ----------
    dbfile : str or path
        An SQLite file; used where there is no `hostname`.
    hostname : str, optional
        A PostgreSQL server. The name of the database is libpq's to find (``PGDATABASE``, else the user's name).
    username : str
        User on the server.
    schema : str, optional
        Schema for the tables.
    overwrite : bool
        Drop tables of ours that are there, and the ledger; others are left alone.
    public : bool
        Let the public role read the tables as well.
    verbose : bool
        Log all SQL.
    database : Database, optional
        A database that is connected already, in the place of the first three arguments.
    roles : sequence of str
        Roles of the collaboration that may read the tables, if `public` is set.
    public_role : str
        The public role.

    Returns
    -------
    Database
        Its attribute `is_postgresql` says which kind it is.

    Raises
    ------
    ConfigurationError, ConnectionFailedError, SchemaError
    """
    if database is None:
        target: Any = dbfile if hostname is None else sa.URL.create("postgresql", username=username, host=hostname)
        database = connect(target, schema=schema, username=username)
    if verbose:
        logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO)
    readers = (*roles, public_role) if public else ()
    with translated(), database.begin() as connection:
        check_roles(database, connection, readers)
        if overwrite:
            drop_tables(database, connection)
            OrmPipelineResultsStorage(database, connection).drop()
        create_tables(database, connection)
        grant(database, connection, readers)
    return database


def load_file(
    filepaths: str | Path | Sequence[str | Path],
    tcls: type[SchemaMixin],
    hdu: int | str = 1,
    row_filter: Callable[[Chunk], npt.NDArray[np.integer[Any]]] | None = None,
    q3c: str | None = None,
    chunksize: int = 50000,
    alternate_load: bool = False,
    *,
    database: Database,
    given: Mapping[str, Any] | None = None,
) -> int:
    """Load files into a table, whose columns say where in the files their values are.

    Parameters
    ----------
    filepaths : path or sequence of paths
        FITS, ECSV or CSV files.
    tcls : class
        The table.
    hdu : int or str
        HDU of the table in FITS files.
    row_filter : callable, optional
        Takes a chunk, a mapping of column names to arrays, and returns the indexes of the rows that stay.
    q3c : str, optional
        Right ascension column; if set, the index of the sky is built after the load, and the table clustered on it.
    chunksize : int
        Rows that are read, converted and committed at a time.
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
    InputError, DatabaseError
    """
    paths = [filepaths] if isinstance(filepaths, str | Path) else list(filepaths)
    loader = Loader(database, chunksize=chunksize)
    counts = loader.load_all(FileLoad(Path(path), hdu, tcls, given or {}, row_filter) for path in paths)
    if q3c is not None:
        q3c_index(table_of(tcls).name, q3c, database=database)
    return sum(item.inserted for item in counts.values())


def load_versions(
    photometry: str,
    redshift: str,
    release: str,
    specprod: str,
    tiles: str,
    *,
    database: Database,
    connection: sa.Connection | None = None,
) -> None:
    """Record the versions of packages and data; those that are there already are updated.

    Parameters
    ----------
    photometry, redshift, release, specprod, tiles : str
        Versions of the data; see `specprod.configuration.Production`.
    database : Database
    connection : sqlalchemy.Connection, optional
        Whose transaction to join.
    """
    if connection is None:
        with translated(), database.begin() as own:
            load_versions(photometry, redshift, release, specprod, tiles, database=database, connection=own)
        return
    versions = {name: package_version(name) for name in ("astropy", "numpy", "sqlalchemy", "specprod")}
    versions |= {"lsd9-photometry": photometry, "redshift": redshift, "release": release}
    # The package and the production that it loads have one name in the field; the production is the data set.
    versions |= {"specprod-load": versions.pop("specprod"), "specprod": specprod, "tiles": tiles}
    table = table_of(Version)
    there = {row.package: row for row in connection.execute(sa.select(table))}
    number = max((row.id for row in there.values()), default=0)
    for package, value in sorted(versions.items()):
        if package not in there:
            number += 1
            connection.execute(sa.insert(table).values(id=number, package=package, version=value))
        elif there[package].version != value:
            connection.execute(sa.update(table).where(table.c.package == package).values(version=value))


def deduplicate_targetid(data: TableLike, *, database: Database) -> npt.NDArray[np.int64]:
    """Find the rows whose TARGETID is not in table photometry yet, the first of each TARGETID.

    Parameters
    ----------
    data : astropy.table.Table, chunk or mapping
        Has a column TARGETID.
    database : Database

    Returns
    -------
    numpy.ndarray of int64
        Indexes of the rows that can be loaded, in order.
    """
    targetid, first = np.unique(np.asarray(data["TARGETID"]), return_index=True)
    with database.turn, database.connect() as connection:
        missing = unknown_targetids(database, connection, targetid)
    return np.sort(first[np.isin(targetid, missing)]).astype(np.int64)


def unknown_targetids(
    database: Database, connection: sa.Connection, targetid: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Find which of some TARGETIDs table photometry does not have.

    Parameters
    ----------
    database : Database
    connection : sqlalchemy.Connection
    targetid : numpy.ndarray of int64

    Returns
    -------
    numpy.ndarray of int64
        In no particular order.
    """
    # One parameter holds them all, as the text of an array or as JSON: a tenth of the time of adapting a list.
    numbers = ",".join(map(str, targetid.tolist()))
    if database.is_postgresql:
        source, parameter = "unnest(CAST(%s AS bigint[])) AS wanted(value)", f"{{{numbers}}}"
    else:
        source, parameter = "json_each(?) AS wanted", f"[{numbers}]"
    rows = connection.exec_driver_sql(
        f"SELECT wanted.value FROM {source} WHERE NOT EXISTS "  # noqa: S608  the name is quoted
        f"(SELECT 1 FROM {database.name(Photometry)} AS p WHERE p.targetid = wanted.value)",
        (parameter,),
    )
    return np.fromiter(rows.scalars(), dtype=np.int64)


def loaded_targetids(database: Database, most: int) -> npt.NDArray[np.int64] | None:
    """Read all TARGETIDs of table photometry.

    Parameters
    ----------
    database : Database
    most : int
        If there are more, none are read.

    Returns
    -------
    numpy.ndarray of int64 or None
        In ascending order.
    """
    table = database.name(Photometry)
    with database.turn, database.connect() as connection:
        count = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()  # noqa: S608
        if count > most:
            return None
        # One value for many: a row each would take ten times as long.
        if database.is_postgresql:
            query = f"SELECT string_agg(int8send(targetid), ''::bytea) FROM {table}"  # noqa: S608
            numbers = np.frombuffer(connection.exec_driver_sql(query).scalar() or b"", dtype=">i8").astype(np.int64)
            numbers.sort()
            return numbers
        query = (
            "SELECT json_group_array(targetid) FROM "  # noqa: S608
            f"(SELECT targetid FROM {table} WHERE targetid > ? ORDER BY targetid LIMIT {_AT_ONCE})"
        )
        numbers = np.empty(count, dtype=np.int64)
        read, last = 0, -(1 << 63)
        while read < count:
            part = json.loads(connection.exec_driver_sql(query, (last,)).scalar_one())
            numbers[read : read + len(part)] = part
            read, last = read + len(part), part[-1]
    return numbers


def contained(numbers: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Find which of some numbers occur among sorted ones, shape of `wanted`."""
    if not numbers.size:
        return np.zeros(wanted.shape, dtype=np.bool_)
    place = np.minimum(np.searchsorted(numbers, wanted), numbers.size - 1)
    return np.asarray(numbers[place] == wanted)


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
