"""Bricks: the Legacy Surveys' division of the sky, by which their catalogues are filed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["NORTH", "brickid", "brickname"]

#: Declination in degrees north of which the northern catalogue counts, where both exist.
NORTH = 32.375

_SIZE = 0.25
_ROWS = round(180 / _SIZE) + 1


def _columns() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count the bricks in each row of declination, and number the first of each row."""
    centre = -90 + _SIZE * np.arange(_ROWS)
    # The edge nearer to the equator is the longer one; no brick may be wider than 0.25 degrees there.
    edge = np.maximum(np.abs(centre) - _SIZE / 2, 0)
    columns = 2 * np.ceil(180 / _SIZE * np.cos(np.radians(edge))).astype(np.int64)
    columns[[0, -1]] = 1
    return columns, 1 + np.concatenate([[0], np.cumsum(columns)[:-1]])


def brickid(ra: npt.ArrayLike, dec: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """BRICKID of positions.

    Parameters
    ----------
    ra, dec : array_like of float, shape (n,)
        ICRS, in degrees.

    Returns
    -------
    numpy.ndarray of int64, shape (n,)

    Notes
    -----
    Rows of bricks are centred on multiples of 0.25 degrees in declination, 721 from pole to pole. A row is divided into
    an even number of bricks of at most 0.25 degrees; each pole is one brick. They are numbered from 1, from south to
    north and in each row from right ascension 0 eastwards; see the description of survey-bricks at legacysurvey.org.
    """
    columns, first = _columns()
    row = np.clip(np.floor((np.asarray(dec, dtype=np.float64) + 90) / _SIZE + 0.5).astype(np.int64), 0, _ROWS - 1)
    column = np.floor(np.asarray(ra, dtype=np.float64) % 360 / 360 * columns[row]).astype(np.int64)
    return np.asarray(first[row] + np.minimum(column, columns[row] - 1))


def brickname(number: int) -> str:
    """Name of the brick of a BRICKID, such as 1054p567: tenths of degrees of its centre, cut off."""
    columns, first = _columns()
    row = int(np.searchsorted(first, number, side="right")) - 1
    # In units of 1/1000 of a degree and rounded, as centres such as 0.3 are not exact in binary.
    ra = round((number - int(first[row]) + 0.5) * 360_000 / int(columns[row]), 3)
    dec = -90_000 + row * round(1000 * _SIZE)
    return f"{int(ra / 100 + 1e-6):04d}{'m' if dec < 0 else 'p'}{abs(dec) // 100:03d}"
