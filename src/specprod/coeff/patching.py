"""Patch files into patch tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from specprod.coeff.extracting import PATCH_HDU
from specprod.coeff.tables import FIXES
from specprod.configuration.defaults import CHUNKSIZE
from specprod.database.failures import Retries
from specprod.database.keys import build_indexes, missing_key
from specprod.database.schema import create_tables, drop_tables, existing_tables
from specprod.errors import MissingColumnError, SchemaError
from specprod.files.opening import open_table
from specprod.loading.interfaces import Progress
from specprod.loading.loader import Loader
from specprod.loading.pieces import FileLoad
from specprod.model import SchemaMixin, table_of

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["default_schema", "load_patch"]


def default_schema(specprod: str) -> str:
    """Name the schema of the patch tables of a production; in SQLite they stand in the file of the production."""
    return f"coeff_patch_{specprod}"


def _table_of_file(path: Path) -> str:
    """Tell by its columns for which table a patch file is."""
    with open_table(path, PATCH_HDU) as reader:
        names = {name.upper() for name in reader.names}
        hdu = reader.hdu
    found = [table for table, column in (("zpix", "HEALPIX"), ("ztile", "TILEID")) if column in names]
    if len(found) != 1:
        raise MissingColumnError("expected HEALPIX, in a patch of zpix, or TILEID, of ztile", file=path, hdu=hdu)
    return found[0]


def load_patch(
    patches: Database,
    path: str | Path,
    *,
    overwrite: bool = False,
    chunksize: int = CHUNKSIZE,
    retries: Retries | None = None,
    progress: Progress | None = None,
) -> tuple[str, int]:
    """Load a patch file into its table, zpixpatch or ztilepatch.

    The table gets its key when all rows are in: without one it is what a load left that did not end, and is made anew.

    Parameters
    ----------
    patches : Database
        The schema of the patch tables; it is created if it is not there.
    path : path
        A patch file, as `specprod.coeff.extract` writes it.
    overwrite : bool
        Whether a table that is loaded already is replaced.
    chunksize : int
        Rows in memory, and in one transaction.
    retries, progress
        See `specprod.loading.loader.Loader`.

    Returns
    -------
    table : str
        The table for which the patch is, zpix or ztile.
    rows : int
        Rows that were loaded.

    Raises
    ------
    InputError, DatabaseError
    """
    path = Path(path)
    name = _table_of_file(path)
    cls = FIXES[name].patch
    retries = retries or Retries()
    with patches.locked():
        retries.run(lambda: _make_table(patches, cls, overwrite), f"table {table_of(cls).name}")
        loader = Loader(patches, chunksize=chunksize, retries=retries, progress=progress)
        counts = loader.load(FileLoad(path, PATCH_HDU, cls))
        build_indexes(patches, cls, retries=retries)
    return name, counts.inserted


def _make_table(patches: Database, cls: type[SchemaMixin], overwrite: bool) -> None:
    with patches.begin() as connection:
        if existing_tables(patches, connection, [cls]):
            if not missing_key(patches, connection, cls) and not overwrite:
                raise SchemaError(f"table {patches.name(cls)} is loaded already; --overwrite loads it anew")
            drop_tables(patches, connection, [cls])
        create_tables(patches, connection, [cls])
