"""Redshifts of a tile, from the files of its petals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specprod.errors import FormatError, MissingColumnError
from specprod.files.opening import open_table
from specprod.model import Ztile
from specprod.tiles.merging import file_columns, merged
from specprod.tiles.sky import without_sky

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["petal_columns", "read_spectra"]

Array = npt.NDArray[Any]

#: The HDUs that hold a row for each spectrum; the first is named otherwise in the files of the first years.
_TABLES: Sequence[tuple[str, ...]] = (("REDSHIFTS", "ZBEST"), ("FIBERMAP",), ("TSNR2",))
# What else is needed of a spectrum: its fiber, and its position, of which its name is made.
_POSITION = ("LOCATION", "TARGET_RA", "TARGET_DEC")
_ARMS = ("IN_COADD_B", "IN_COADD_R", "IN_COADD_Z")


def read_spectra(files: Mapping[int, Path], lastnight: int) -> Table:
    """Read the redshifts of a tile.

    Parameters
    ----------
    files : mapping of int to path
        By petal.
    lastnight : int
        Last night of the exposures, YYYYMMDD; it becomes SPGRPVAL, and LASTNIGHT where the files have none.

    Returns
    -------
    astropy.table.Table
        The columns that table ztile takes from files, of spectra that are not sky; and LOCATION.

    Raises
    ------
    InputError
        If a file is not what it should be.
    """
    return merged([petal_columns(path, lastnight) for path in files.values()], Ztile, extra=_POSITION)


def petal_columns(path: Path, lastnight: int) -> dict[str, Array]:
    """Read the redshifts of a petal, as `read_spectra` does.

    Raises
    ------
    FormatError
        If the rows of its HDUs are not those of the same spectra.
    """
    tables = [without_sky(path, hdu) for hdu in _TABLES]
    targetid = tables[0]["TARGETID"].astype(np.int64)
    wanted = {name for names, *_ in file_columns(Ztile) for name in names} | set(_POSITION)
    columns: dict[str, Array] = {}
    for hdu, table in zip(_TABLES, tables, strict=True):
        rows = _same_rows(path, hdu, table["TARGETID"].astype(np.int64), targetid)
        present = set(table)
        columns |= {name: table[name][rows] for name in sorted(wanted & present - set(columns))}
    columns["SPGRPVAL"] = np.full(targetid.size, lastnight)
    columns.setdefault("LASTNIGHT", columns["SPGRPVAL"])
    _add_dates(path, columns, targetid)
    required = [names for names, needed, *_ in file_columns(Ztile) if needed]
    absent = [
        " or ".join(names)
        for names in [*required, *((name,) for name in _POSITION)]
        if columns.keys().isdisjoint(names)
    ]
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


def _add_dates(path: Path, columns: dict[str, Array], targetid: Array) -> None:
    """Add the first night and the dates that the fibermap does not have, from the exposures of the spectra.

    The first night is that of the petal: the earliest of its exposures, whether or not a fiber was good in them. Dates
    are those of the exposures that went into the coadded spectrum, as far as the file says which these were.
    """
    with open_table(path, "EXP_FIBERMAP") as reader:
        reader.require("TARGETID", "NIGHT", "MJD")
        chunk = reader.view()
        night = chunk["NIGHT"].astype(np.int64)
        if not night.size:
            raise FormatError("the table has no rows", file=path, hdu=reader.hdu)
        columns["FIRSTNIGHT"] = np.full(targetid.size, night.min())
        if {"MIN_MJD", "MEAN_MJD", "MAX_MJD"} <= set(columns):
            return
        exposed, mjd = chunk["TARGETID"].astype(np.int64), chunk["MJD"].astype(np.float64)
        arms = [np.asarray(chunk[name], dtype=np.bool_) for name in _ARMS if name in reader.names]
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
