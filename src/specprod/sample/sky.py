"""The sky of the sample: bricks, and the sources in them.

Each brick holds the same number of sources. All that is known of a source follows from its brick and its number there,
so neighbouring tiles and all catalogues agree on it without sharing anything.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import ConfigurationError
from specprod.sample.draw import Draw
from specprod.survey.identifiers import encode_targetid, lsid

__all__ = [
    "GAIA",
    "NORTH",
    "PRIMARY",
    "SECONDARY",
    "SECONDARY_MATCHED",
    "TOO",
    "Bricks",
    "Sources",
    "healpix",
    "separation",
    "sources_in_bricks",
    "sources_of_tile",
]

# Declination in degrees above which the northern catalogue counts; it is an edge of bricks.
NORTH = 32.375
_CELLS = 100  # a brick is 100 by 100 cells of 9 arcsec with at most one source each, so that sources stay apart

# Kinds of targets: of the Legacy Surveys; of Gaia alone; of a secondary programme, with and without a Legacy Surveys
# source at its place; of opportunity.
PRIMARY, GAIA, SECONDARY_MATCHED, SECONDARY, TOO = range(5)
_KIND_SHARES = (0.92, 0.03, 0.02, 0.02, 0.01)
# RELEASE that the TARGETIDs of secondary targets and of targets of opportunity carry.
SECONDARY_RELEASE, TOO_RELEASE = 8888, 9999


@dataclass(frozen=True)
class Sources:
    """Sources on the sky, one array element each.

    Attributes
    ----------
    brickid, objid : numpy.ndarray of int64
        Brick, and number of the source there.
    ra, dec : numpy.ndarray of float64
        Position in degrees, ICRS.
    kind : numpy.ndarray of int64
        `PRIMARY`, `GAIA`, `SECONDARY_MATCHED`, `SECONDARY` or `TOO`.
    """

    brickid: npt.NDArray[np.int64]
    objid: npt.NDArray[np.int64]
    ra: npt.NDArray[np.float64]
    dec: npt.NDArray[np.float64]
    kind: npt.NDArray[np.int64]

    @property
    def size(self) -> int:
        """Number of sources."""
        return int(self.brickid.size)

    @property
    def key(self) -> npt.NDArray[np.int64]:
        """What the values of a source depend on."""
        return (self.brickid << 22) | self.objid

    @property
    def release(self) -> npt.NDArray[np.int64]:
        """Release of the Legacy Surveys catalogue: 9011 in the north, 9010 in the south."""
        return np.where(self.dec >= NORTH, 9011, 9010)

    @property
    def ls_id(self) -> Any:
        """Identifier in the Legacy Surveys."""
        return lsid(self.release, self.brickid, self.objid)

    @property
    def matched(self) -> npt.NDArray[np.bool_]:
        """Whether the Legacy Surveys have a source there."""
        return np.asarray((self.kind == PRIMARY) | (self.kind == SECONDARY_MATCHED))

    @property
    def targetid(self) -> npt.NDArray[np.int64]:
        """TARGETID.

        The object numbers of secondary targets count within their programme: here they are those of a neighbour,
        so that to take them for numbers of the Legacy Surveys finds the wrong source.
        """
        gaia = self.kind == GAIA
        own = (self.kind == PRIMARY) | gaia
        release = np.where(gaia, 0, np.where(own, self.release, SECONDARY_RELEASE))
        return encode_targetid(
            objid=np.where(own, self.objid, self.objid ^ 1),
            brickid=self.brickid,
            release=np.where(self.kind == TOO, TOO_RELEASE, release),
            gaiadr=np.where(gaia, 2, 0),
        )

    def take(self, index: npt.NDArray[Any]) -> Sources:
        """Select sources by index or mask."""
        return Sources(*(getattr(self, field.name)[index] for field in fields(self)))


class Bricks:
    """The Legacy Surveys' division of the sky into bricks of 0.25 degrees.

    Notes
    -----
    721 rows in declination centred on multiples of 0.25 degrees; in each, an even number of bricks, enough that none is
    wider than 0.25 degrees, and one at each pole; numbered from 1 from the south, eastwards: 662,174 bricks.
    """

    size = 0.25

    def __init__(self) -> None:
        self.row_dec = -90 + self.size * np.arange(721)
        equatorward = np.maximum(np.abs(self.row_dec) - self.size / 2, 0)
        self.columns = (np.ceil(360 / self.size * np.cos(np.radians(equatorward)) / 2) * 2).astype(np.int64)
        self.columns[[0, -1]] = 1
        self.first = 1 + np.concatenate([[0], np.cumsum(self.columns)[:-1]])

    def number(self, ra: npt.ArrayLike, dec: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """BRICKID of positions in degrees."""
        row = np.clip(np.floor((np.asarray(dec) + 90) / self.size + 0.5).astype(np.int64), 0, 720)
        column = np.floor(np.asarray(ra) % 360 / 360 * self.columns[row]).astype(np.int64)
        return np.asarray(self.first[row] + np.minimum(column, self.columns[row] - 1))

    def corner(self, brickid: npt.ArrayLike) -> tuple[Any, Any, Any]:
        """Lowest right ascension and declination, and width in right ascension, all in degrees."""
        row = np.searchsorted(self.first, brickid, side="right") - 1
        width = 360 / self.columns[row]
        return (np.asarray(brickid) - self.first[row]) * width, self.row_dec[row] - self.size / 2, width

    def name(self, brickid: npt.ArrayLike) -> npt.NDArray[np.bytes_]:
        """BRICKNAME, such as 1054p567: tenths of degrees of the centre, truncated."""
        distinct, inverse = np.unique(np.atleast_1d(brickid), return_inverse=True)
        low, dec, width = self.corner(distinct)
        # A hundredth of an arcsecond is added because centres such as 0.3 are not exact in binary.
        tenths_ra = ((low + width / 2) * 10 + 1e-7).astype(int)
        centre = dec + self.size / 2
        tenths_dec = (np.abs(centre) * 10 + 1e-7).astype(int)
        sign = np.where(centre < 0, "m", "p")
        names = [f"{r:04d}{s}{d:03d}" for r, s, d in zip(tenths_ra, sign, tenths_dec, strict=True)]
        return np.array(names, dtype="S8")[inverse.ravel()]

    def around(self, ra: float, dec: float, radius: float) -> npt.NDArray[np.int64]:
        """BRICKIDs of the bricks that a circle of `radius` degrees may touch, sorted; circles must not reach a pole."""
        margin = radius + self.size
        rows = np.flatnonzero(np.abs(self.row_dec - dec) <= margin)
        found = []
        for row in rows.tolist():
            count = int(self.columns[row])
            reach = margin / np.cos(np.radians(np.minimum(np.abs(self.row_dec[row]) + self.size, 89)))
            low, high = np.floor((ra - reach) / 360 * count), np.floor((ra + reach) / 360 * count)
            found.append(self.first[row] + np.unique(np.arange(low, high + 1).astype(np.int64) % count))
        return np.sort(np.concatenate(found))


def separation(ra: Any, dec: Any, ra0: float, dec0: float) -> npt.NDArray[np.float64]:
    """Angle between positions and one position, all in degrees (haversine formula)."""
    ra, dec = np.radians(ra), np.radians(dec)
    a = np.sin((dec - np.radians(dec0)) / 2) ** 2
    a = a + np.cos(dec) * np.cos(np.radians(dec0)) * np.sin((ra - np.radians(ra0)) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(a, 0, 1)))))


def healpix(ra: npt.NDArray[Any], dec: npt.NDArray[Any], nside: int = 64) -> npt.NDArray[np.int64]:
    """HEALPix pixel, nested, of positions in degrees."""
    from astropy import units
    from astropy_healpix import HEALPix

    pixels = HEALPix(nside, order="nested").lonlat_to_healpix(ra * units.deg, dec * units.deg)
    return np.asarray(pixels, dtype=np.int64)


def sources_in_bricks(bricks: Bricks, brickids: npt.NDArray[np.int64], first: int, count: int, seed: int) -> Sources:
    """Make sources `first` to ``first + count - 1`` of each brick.

    Raises
    ------
    ConfigurationError
        If a brick is to hold more sources than it has cells.
    """
    if first + count > _CELLS**2:
        raise ConfigurationError(f"{first + count} sources in a brick of {_CELLS**2} cells: widen the radius of tiles")
    brickid = np.repeat(brickids, count)
    objid = np.tile(np.arange(first, first + count), brickids.size)
    draw = Draw((brickid << 22) | objid, seed)
    # 7919 is prime to the number of cells, so no two sources share one.
    cell = (objid * 7919 + brickid * 104729) % _CELLS**2
    low, dec, width = bricks.corner(brickid)
    x = (cell % _CELLS + draw.uniform("x", 0.25, 0.75)) / _CELLS
    y = (cell // _CELLS + draw.uniform("y", 0.25, 0.75)) / _CELLS
    return Sources(
        brickid=brickid,
        objid=objid,
        ra=low + x * width,
        dec=dec + y * bricks.size,
        kind=draw.choice("kind", np.arange(5), _KIND_SHARES),
    )


def sources_of_tile(
    bricks: Bricks, ra: float, dec: float, radius: float, *, per_brick: int, targets: int, seed: int
) -> Sources:
    """Find those `targets` sources of a tile that come first in an order that all tiles share.

    Raises
    ------
    ConfigurationError
        If there are not so many.
    """
    sources = sources_in_bricks(bricks, bricks.around(ra, dec, radius), 0, per_brick, seed)
    sources = sources.take(separation(sources.ra, sources.dec, ra, dec) < radius)
    if sources.size < targets:
        raise ConfigurationError(f"a tile has {sources.size} sources for {targets} targets: widen the radius of tiles")
    rank = Draw(sources.key, seed).bits("rank")
    return sources.take(np.sort(np.argsort(rank, kind="stable")[:targets]))
