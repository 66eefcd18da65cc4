"""Redshifts of a tile, from the files of its petals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specprod.errors import FormatError, MissingColumnError
from specprod.files.opening import open_whole
from specprod.files.tables import TableReader
from specprod.files.unpacking import Unpacker
from specprod.model import Ztile
from specprod.tiles.merging import file_columns, merged
from specprod.tiles.sky import without_sky

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["petal_columns", "read_spectra"]

Array = npt.NDArray[Any]

#: The HDUs that hold a row for each spectrum; the first is named otherwise in the files of the first years.
_TABLES: Sequence[tuple[str, ...]] = (("REDSHIFTS", "ZBEST"), ("FIBERMAP",), ("TSNR2",))
# The position of which the name of an object is made, where the file does not have the name.
_POSITION = ("TARGET_RA", "TARGET_DEC")
# By which an update finds out whether a tile was designed anew.
_FIBER = "LOCATION"
_ARMS = ("IN_COADD_B", "IN_COADD_R", "IN_COADD_Z")


def read_spectra(files: Mapping[int, Path], lastnight: int, *, checksums: bool = True) -> Table:
    """Read the redshifts of a tile.

    Parameters
    ----------
    files : mapping of int to path
        By petal.
    lastnight : int
        Last night of the exposures, YYYYMMDD; it becomes SPGRPVAL, and LASTNIGHT where the files have none.
    checksums : bool
        Whether wrong checksums of a file are an error.

    Returns
    -------
    astropy.table.Table
        The columns that table ztile takes from files, of spectra that are not sky; and LOCATION, if all files have it.

    Raises
    ------
    InputError
        If a file is not what it should be.
    """
    petals = [petal_columns(path, lastnight, checksums=checksums) for path in files.values()]
    return merged(petals, Ztile, extra=(*_POSITION, _FIBER))


def petal_columns(path: Path, lastnight: int, *, checksums: bool = True) -> dict[str, Array]:
    """Read the redshifts of a petal, as `read_spectra` does.

    Raises
    ------
    FormatError
        If the rows of its HDUs are not those of the same spectra.
    """
    with Unpacker() as unpacker:
        tables = [without_sky(path, hdu, unpacker, checksums=checksums) for hdu in _TABLES]
        exposures = open_whole(path, "EXP_FIBERMAP", unpacker=unpacker, checksums=checksums)
    targetid = tables[0].integers("TARGETID")
    wanted = {name for names, *_ in file_columns(Ztile) for name in names} | {*_POSITION, _FIBER}
    columns: dict[str, Array] = {}
    for hdu, table in zip(_TABLES, tables, strict=True):
        rows = _same_rows(path, hdu, table.integers("TARGETID"), targetid)
        columns |= {name: table[name][rows] for name in sorted(wanted - set(columns)) if name in table}
    columns["SPGRPVAL"] = np.full(targetid.size, lastnight)
    columns.setdefault("LASTNIGHT", columns["SPGRPVAL"])
    _add_dates(path, exposures, columns, targetid)
    required = [names for names, needed, *_ in file_columns(Ztile) if needed]
    required += [(name,) for name in _POSITION if "DESINAME" not in columns]
    absent = [" or ".join(names) for names in required if columns.keys().isdisjoint(names)]
    if absent:
        raise MissingColumnError(f"table ztile needs {', '.join(absent)}", file=path, column=absent[0])
    return columns


def _same_rows(path: Path, hdu: tuple[str, ...], found: Array, expected: Array) -> Array:
    """Rows of an HDU in the order of the redshifts; they must be those of the same spectra."""
    if np.array_equal(found, expected):
        return np.arange(found.size)
    order, wanted = np.argsort(found, kind="stable"), np.argsort(expected, kind="stable")
    same = found.size == expected.size and np.array_equal(found[order], expected[wanted])
    if not same or np.unique(found).size != found.size:
        other = np.setxor1d(found, expected)
        example = f", for example TARGETID {int(other[0])}" if other.size else ": a TARGETID occurs twice"
        raise FormatError(
            f"its {found.size} spectra are not the {expected.size} of HDU {' or '.join(_TABLES[0])}{example}",
            file=path,
            hdu=hdu[0],
        )
    rows = np.empty_like(order)
    rows[wanted] = order
    return rows


def _add_dates(path: Path, exposures: TableReader, columns: dict[str, Array], targetid: Array) -> None:
    """Add the first night and the dates that the fibermap does not have, from the exposures of the spectra.

    The first night is that of the petal: the earliest of its exposures, whether or not a fiber was good in them. Dates
    are those of the exposures that went into the coadded spectrum, as far as the file says which these were.
    """
    with exposures as reader:
        chunk = reader.view()
        night = chunk.integers("NIGHT")
        if not night.size:
            raise FormatError("the table has no rows", file=path, hdu=reader.hdu)
        columns["FIRSTNIGHT"] = np.full(targetid.size, night.min())
        if {"MIN_MJD", "MEAN_MJD", "MAX_MJD"} <= set(columns):
            return
        exposed, mjd = chunk.integers("TARGETID"), chunk.numbers("MJD")
        arms = [np.asarray(chunk[name], dtype=np.bool_) for name in _ARMS if name in chunk]
    order = np.argsort(targetid, kind="stable")
    ordered = targetid[order]
    # Fibers on sky have exposures too; a petal may be all sky.
    mine = np.isin(exposed, ordered)
    used = mine & np.logical_or.reduce(arms) if arms else mine
    place = np.searchsorted(ordered, exposed[mine])
    good = np.zeros(ordered.size, dtype=np.bool_)
    good[place[used[mine]]] = True
    # A spectrum of which no exposure was good is the sum of all of them.
    counts = used[mine] | ~good[place]
    place, mjd = place[counts], mjd[mine][counts]
    number = np.bincount(place, minlength=ordered.size)
    if (number == 0).any():
        lost = int(ordered[number == 0][0])
        raise FormatError(f"has no exposure of TARGETID {lost}", file=path, hdu="EXP_FIBERMAP")
    first, last = np.full(ordered.size, np.inf), np.full(ordered.size, -np.inf)
    np.minimum.at(first, place, mjd)
    np.maximum.at(last, place, mjd)
    # The mean of the differences keeps the digits that a sum of dates would lose.
    mean = first + np.bincount(place, mjd - first[place], minlength=ordered.size) / np.maximum(number, 1)
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    for name, values in (("MIN_MJD", first), ("MEAN_MJD", mean), ("MAX_MJD", last)):
        columns.setdefault(name, values[back])
