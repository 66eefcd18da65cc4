"""FITS files that CFITSIO writes, under their literal names."""

from __future__ import annotations

import tempfile
from pathlib import Path

import fitsio

__all__ = ["open_writable"]


def open_writable(path: Path, *, new: bool) -> fitsio.FITS:
    """Open a file for writing by CFITSIO.

    CFITSIO takes brackets and other characters in names for expressions, and has no way to quote them. It gets the name
    of a link to the file, which is needed only until the file is open.

    Parameters
    ----------
    path : path
    new : bool
        Whether the file begins anew; what is there is removed.

    Returns
    -------
    fitsio.FITS

    Raises
    ------
    OSError
    """
    if new:
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="specprod-") as directory:
        link = Path(directory) / "file.fits"
        link.symlink_to(path.resolve())
        return fitsio.FITS(str(link), "rw")
