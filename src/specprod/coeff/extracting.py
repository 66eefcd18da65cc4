"""Patch files: the key columns and the coefficients of a redshift catalogue."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specprod.coeff.tables import FIXES
from specprod.configuration.defaults import CHUNKSIZE
from specprod.errors import ConfigurationError, FormatError, SpecprodError
from specprod.files.literal import open_writable
from specprod.files.opening import open_table
from specprod.files.publishing import Publication, check_absent
from specprod.files.tree import RedshiftFile, with_or_without_gz
from specprod.loading.ahead import prefetched
from specprod.model import SchemaMixin, table_of
from specprod.model.base import TableLike
from specprod.model.converting import Columns, Converter, column_names, database_dtype
from specprod.survey.identifiers import is_sky

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["PATCH_HDU", "copy_columns", "extract", "find_catalogue", "patch_name"]

logger = logging.getLogger(__name__)

PATCH_HDU = "COEFF_PATCH"

_CATALOGUES = {"zpix": "zall-pix", "ztile": "zall-tilecumulative"}


def patch_name(table: str, specprod: str) -> str:
    """Name of the patch file of a table, zpix or ztile."""
    return f"{_CATALOGUES[table]}-{specprod}-coeff-patch.fits"


def find_catalogue(directory: Path, table: str, specprod: str) -> RedshiftFile:
    """Find the catalogue of a table, zpix or ztile, in a directory.

    Raises
    ------
    MissingFileError
    """
    return RedshiftFile(with_or_without_gz(directory / f"{_CATALOGUES[table]}-{specprod}.fits"))


def _patch_class(table: str) -> type[SchemaMixin]:
    if table not in FIXES:
        raise ConfigurationError(f"unknown catalogue {table!r}; expected one of {', '.join(FIXES)}")
    return FIXES[table].patch


def _file_rows(cls: type[SchemaMixin], columns: Columns) -> npt.NDArray[Any]:
    """Make rows of a patch file of the columns of its table; the id is derived again when the file is loaded."""
    items = [item for item in table_of(cls).columns if not item.primary_key]
    fields = []
    for item in items:
        dtype = database_dtype(item)
        fields.append((item.name.upper(), f"S{getattr(item.type, 'length', None)}" if dtype.kind == "S" else dtype))
    rows = np.zeros(len(columns[items[0].name]), dtype=fields)
    for item in items:
        rows[item.name.upper()] = columns[item.name]
    return rows


def copy_columns(catalog: TableLike, rowfilter: npt.ArrayLike | None, catalog_type: str) -> Table:
    """Copy the columns of a patch from a catalogue into a new table.

    Parameters
    ----------
    catalog : astropy.table.Table, numpy.ndarray or mapping, of n rows
        A redshift catalogue, with TARGETID, COEFF of shape (n, 10) and

        * for ``zpix`` SURVEY, PROGRAM, HEALPIX,
        * for ``ztile`` TILEID, SPGRPVAL,

        and with DESINAME or else TARGET_RA and TARGET_DEC in degrees (ICRS), of which it is computed.
    rowfilter : array_like of bool, shape (n,), or of int; or None
        The rows that are copied; all by default.
    catalog_type : str
        ``zpix`` or ``ztile``.

    Returns
    -------
    astropy.table.Table
        The key columns, then COEFF_0 … COEFF_9, in a new table named COEFF_PATCH. As in the database, coefficients that
        are not finite are -9999.0.

    Raises
    ------
    MissingColumnError
        If the catalogue lacks a column.
    ValueRejectedError
        If a value does not fit its column.
    ConfigurationError
        If `catalog_type` is none of the two.
    """
    from astropy.table import Table

    cls = _patch_class(catalog_type)
    converter = Converter(cls, column_names(catalog))
    numbers = np.arange(len(catalog[converter.needed[0]]))
    numbers = numbers if rowfilter is None else numbers[np.asarray(rowfilter)]
    columns = converter.convert({name: np.asarray(catalog[name])[numbers] for name in converter.needed}, numbers)
    return Table(_file_rows(cls, columns), meta={"EXTNAME": PATCH_HDU})


def extract(
    files: Sequence[RedshiftFile], table: str, path: Path, *, overwrite: bool = False, chunksize: int = CHUNKSIZE
) -> int:
    """Write the patch file of a table; sky is left out.

    Parameters
    ----------
    files : sequence of RedshiftFile
        The catalogues, usually a single one; they are read in chunks.
    table : str
        ``zpix`` or ``ztile``.
    path : path
        The patch file. It appears under this name when it is complete.
    overwrite : bool
        Whether a file of that name is replaced.
    chunksize : int
        Rows that are in memory at a time.

    Returns
    -------
    int
        Number of rows in the patch.

    Raises
    ------
    InputError
        If a catalogue is not what it should be, or has no rows but sky.
    ConfigurationError
        If the file exists, or its directory cannot be written.
    """
    cls = _patch_class(table)
    check_absent([path], overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with Publication(overwrite) as publication:
            return _write(files, cls, publication.path(path), chunksize)
    except SpecprodError:
        # Some of ours are OSError as well.
        raise
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from error


def _write(files: Sequence[RedshiftFile], cls: type[SchemaMixin], path: Path, chunksize: int) -> int:
    total = 0
    with open_writable(path, new=True) as output:
        for file in files:
            with open_table(file.path, "ZCATALOG") as reader:
                given = {"survey": file.survey, "program": file.program}
                converter = Converter(cls, reader.names, given, file=str(file.path), hdu=reader.hdu)
                for chunk in prefetched(reader.chunks(chunksize)):
                    kept = chunk.take(np.flatnonzero(~is_sky(chunk.integers("TARGETID"))))
                    rows = _file_rows(cls, converter.convert(kept, kept.rows))
                    if total == 0 and rows.size:
                        output.write(rows, extname=PATCH_HDU)
                    elif rows.size:
                        output[PATCH_HDU].append(rows)
                    total += rows.size
                converter.report()
        if total == 0:
            raise FormatError("no rows but sky", file=files[0].path if files else None, hdu="ZCATALOG")
        output[PATCH_HDU].write_checksum()
    return total
