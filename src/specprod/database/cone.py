"""Searches by position on the sky."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from specprod.errors import ConfigurationError

if TYPE_CHECKING:
    from specprod.model import SchemaMixin

__all__ = ["Circle", "as_circle", "inside", "positions", "within"]

#: What rounding makes of the haversine of nothing, 360 degrees away.
_ROUNDING = 1e-30


@dataclass(frozen=True)
class Circle:
    """A circle on the sky.

    Attributes
    ----------
    ra, dec : float
        Centre, ICRS, in degrees.
    radius : float
        In degrees, 0 to 180.
    """

    ra: float
    dec: float
    radius: float


def as_circle(ra: Any, dec: Any = None, radius: Any = None) -> Circle:
    """Make a circle of numbers, or of what astropy has for them.

    Parameters
    ----------
    ra : float, Quantity or SkyCoord
        Right ascension, or the centre itself in any frame; the radius may then come next.
    dec : float or Quantity, optional
    radius : float or Quantity
        Numbers are degrees.

    Raises
    ------
    ConfigurationError
        If that is no circle.
    """
    if hasattr(ra, "icrs"):
        dec, radius = (None, dec) if radius is None else (dec, radius)
        if dec is not None:
            raise ConfigurationError("a circle on the sky has one centre: a SkyCoord, or ra and dec")
        center = ra.icrs
        if not center.isscalar:
            raise ConfigurationError(f"a circle on the sky has one centre, found {center.size} positions")
        ra, dec = center.ra, center.dec
    ra, dec, radius = (_degrees(name, value) for name, value in (("ra", ra), ("dec", dec), ("radius", radius)))
    if not (math.isfinite(ra) and -90 <= dec <= 90 and 0 <= radius <= 180):
        raise ConfigurationError(f"no circle on the sky: ra {ra}, dec {dec}, radius {radius} degrees")
    return Circle(ra % 360.0, dec, radius)


def _degrees(name: str, value: Any) -> float:
    """Give an angle in degrees."""
    if value is None or np.ma.is_masked(value):
        raise ConfigurationError(f"a circle on the sky needs {name}")
    try:
        return float(value.to_value("deg") if hasattr(value, "to_value") else value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} {value} of a circle on the sky is no angle: {error}") from error


def positions(table: type[SchemaMixin]) -> tuple[sa.ColumnElement[float], sa.ColumnElement[float]]:
    """Give the columns of right ascension and declination of a table.

    Raises
    ------
    ConfigurationError
        If it has none.
    """
    if table.__sky__ is None:
        raise ConfigurationError(f"table {table.__name__.lower()} has no positions")
    columns = sa.inspect(table).columns
    return columns[table.__sky__[0]], columns[table.__sky__[1]]


def inside(table: type[SchemaMixin], circle: Circle) -> sa.ColumnElement[bool]:
    """Make the exact condition that an object lies within a circle, its edge included, which no index serves.

    Positions that are none, such as -9999, lie nowhere.
    """
    column_ra, column_dec = positions(table)
    somewhere = column_dec.between(-90, 90)
    if circle.radius == 180:
        return somewhere
    half_dec = sa.func.sin(sa.func.radians(column_dec - circle.dec) / 2)
    half_ra = sa.func.sin(sa.func.radians(column_ra - circle.ra) / 2)
    haversine = half_dec * half_dec + sa.func.cos(sa.func.radians(column_dec)) * (
        math.cos(math.radians(circle.dec)) * half_ra * half_ra
    )
    return sa.and_(somewhere, haversine <= math.sin(math.radians(circle.radius) / 2) ** 2 + _ROUNDING)


def within(table: type[SchemaMixin], circle: Circle) -> sa.ColumnElement[bool]:
    """Make the condition that an object lies within a circle on the sky, in SQL that any database has.

    A strip of declination and, off the poles, of right ascension is cut out first, for which there is an index; within
    it the exact condition decides.

    Parameters
    ----------
    table : class
        One that has positions.
    circle : Circle

    Returns
    -------
    sqlalchemy.ColumnElement
        For ``where()``.

    Raises
    ------
    ConfigurationError
        If the table has no positions.
    """
    column_ra, column_dec = positions(table)
    ra, dec = circle.ra, circle.dec
    # A little wider than the circle, so that rounding at its edge is left to the exact test.
    reach = circle.radius + 1e-9
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
    return sa.and_(*cuts, inside(table, circle))
