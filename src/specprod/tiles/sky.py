"""Sky positions, which no table takes, and pixels of the sky, by which catalogues are split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from specprod.files.opening import open_whole
from specprod.files.tables import Chunk
from specprod.files.unpacking import Unpacker
from specprod.survey.identifiers import is_sky

__all__ = ["pixels", "without_sky"]


def without_sky(
    path: Path, hdu: str | tuple[str, ...], unpacker: Unpacker | None = None, *, checksums: bool = True
) -> Chunk:
    """Read the rows of an HDU that are not sky.

    Raises
    ------
    InputError
        If there is no such HDU, or it has no TARGETID.
    """
    with open_whole(path, hdu, unpacker=unpacker, checksums=checksums) as reader:
        chunk = reader.view()
        return chunk.take(np.flatnonzero(~is_sky(chunk.integers("TARGETID"))))


def pixels(ra: npt.ArrayLike, dec: npt.ArrayLike, nside: int) -> npt.NDArray[np.int64]:
    """HEALPix pixels, nested, of positions in degrees, shape (n,)."""
    from astropy import units
    from astropy_healpix import lonlat_to_healpix

    lon, lat = (np.asarray(values, dtype=np.float64) * units.deg for values in (ra, dec))
    return np.asarray(lonlat_to_healpix(lon, lat, nside, order="nested")).astype(np.int64)
