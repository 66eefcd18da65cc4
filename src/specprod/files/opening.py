"""Which reader a file takes."""

from __future__ import annotations

from pathlib import Path

from specprod.files.fits import FitsTable
from specprod.files.tables import TableReader
from specprod.files.text import TextTable
from specprod.files.unpacking import Unpacker

__all__ = ["open_table", "open_whole"]


def open_table(
    path: str | Path, hdu: str | int | tuple[str, ...] = 1, *, unpacker: Unpacker | None = None
) -> TableReader:
    """Open a table for reading in chunks.

    Parameters
    ----------
    path : str or path
        A FITS file, plain or gzipped, or one whose images are tile-compressed (``.fz``); an ECSV or a CSV file.
    hdu : str, int or tuple of str
        Name or number of the HDU, or names of which the first that is there counts; text files have none.
    unpacker : Unpacker, optional
        Of a user who reads more than one HDU of a file.

    Returns
    -------
    TableReader
        To be closed by its user; it is a context manager.

    Raises
    ------
    MissingFileError, FormatError, MissingHDUError
    """
    path = Path(path)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".ecsv")):
        return TextTable(path)
    return FitsTable(path, hdu, unpacker)


def open_whole(
    path: str | Path,
    hdu: str | int | tuple[str, ...] = 1,
    *,
    unpacker: Unpacker | None = None,
    checksums: bool = True,
) -> TableReader:
    """Open a table of which all will be used, and read it once beforehand to see that it is what it says.

    Parameters
    ----------
    path, hdu, unpacker
        See `open_table`.
    checksums : bool
        Whether to look at CHECKSUM and DATASUM at all.

    Raises
    ------
    ChecksumError
        If they are wrong.
    MissingFileError, FormatError, MissingHDUError
    """
    reader = open_table(path, hdu, unpacker=unpacker)
    if checksums:
        try:
            reader.check_header()
            if reader.claimed_datasum is not None:
                reader.check_data(reader.datasum())
        except BaseException:
            reader.close()
            raise
    return reader
