"""Searches by position on the sky."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import sqlalchemy as sa

from specprod.errors import ConfigurationError

if TYPE_CHECKING:
    from specprod.model import SchemaMixin

__all__ = ["circle", "within"]


def circle(
    table: type[SchemaMixin], ra: float, dec: float, radius: float
) -> tuple[sa.ColumnElement[float], sa.ColumnElement[float]]:
    """Make sure that a table has positions and that a circle is one, and give the columns of the positions.

    Raises
    ------
    ConfigurationError
    """
    if table.__sky__ is None:
        raise ConfigurationError(f"table {table.__name__.lower()} has no positions")
    if not (math.isfinite(ra) and -90 <= dec <= 90 and 0 <= radius <= 180):
        raise ConfigurationError(f"no circle on the sky: ra {ra}, dec {dec}, radius {radius} degrees")
    columns = sa.inspect(table).columns
    return columns[table.__sky__[0]], columns[table.__sky__[1]]


def within(table: type[SchemaMixin], ra: float, dec: float, radius: float) -> sa.ColumnElement[bool]:
    """Make the condition that an object lies within a circle on the sky, in SQL that any database has.

    A strip of declination and, off the poles, of right ascension is cut out first, for which there is an index, and the
    haversine formula decides within.

    Parameters
    ----------
    table : class
        Photometry, Tile, Exposure or Fiberassign.
    ra, dec : float
        Centre, ICRS, in degrees.
    radius : float
        In degrees, between 0 and 180.

    Returns
    -------
    sqlalchemy.ColumnElement
        For ``where()``.

    Raises
    ------
    ConfigurationError
        If the table has no positions, or the circle is none.
    """
    column_ra, column_dec = circle(table, ra, dec, radius)
    ra = ra % 360.0
    # A little wider than the circle, so that rounding at its edge is left to the exact test.
    reach = radius + 1e-9
    cuts: list[sa.ColumnElement[bool]] = [column_dec.between(dec - reach, dec + reach)]
    if abs(dec) + reach < 90:
        # Half the width in right ascension of a circle that does not hold a pole.
        half = math.degrees(math.asin(min(1.0, math.sin(math.radians(reach)) / math.cos(math.radians(dec)))))
        low, high = ra - half, ra + half
        if low < 0:
            cuts.append(sa.or_(column_ra >= low + 360, column_ra <= high))
        elif high >= 360:
            cuts.append(sa.or_(column_ra >= low, column_ra <= high - 360))
        else:
            cuts.append(column_ra.between(low, high))
    half_dec = sa.func.sin(sa.func.radians(column_dec - dec) / 2)
    half_ra = sa.func.sin(sa.func.radians(column_ra - ra) / 2)
    haversine = half_dec * half_dec + sa.func.cos(sa.func.radians(column_dec)) * (
        math.cos(math.radians(dec)) * half_ra * half_ra
    )
    return sa.and_(*cuts, haversine <= math.sin(math.radians(radius) / 2) ** 2)
