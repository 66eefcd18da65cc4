"""Files of a patch: reading those of a production, writing the patched ones in the form of the originals."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TextIO

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table

from specprod.errors import ConfigurationError, FormatError, MissingFileError
from specprod.files import open_table
from specprod.patch.columns import masked, plain

__all__ = ["get_data", "production_files", "write_csv", "write_fits"]

_BLOCK = 2880
_CHUNK_ROWS = 100_000


class DataOptions(Protocol):
    """What `get_data` needs to know; an `argparse.Namespace` will do."""

    @property
    def src(self) -> str:
        """Name of the production to take values from."""

    @property
    def dst(self) -> str:
        """Name of the production to patch."""


def production_files(root: str | os.PathLike[str] | None, specprod: str) -> tuple[Path, Path]:
    """Paths of the tiles and of the exposures file of a production.

    Parameters
    ----------
    root : path or None
        What the survey calls DESI_ROOT; None for the directory of productions that DESI_SPECTRO_REDUX names.
    specprod : str
        Production.

    Raises
    ------
    ConfigurationError
        If neither is set, or the production is not the name of a directory.
    """
    if not specprod or Path(specprod).name != specprod:
        raise ConfigurationError(f"{specprod!r} is not the name of a production")
    redux = os.environ.get("DESI_SPECTRO_REDUX") if root is None else Path(root) / "spectro" / "redux"
    if redux is None:
        raise ConfigurationError("neither a root directory nor DESI_SPECTRO_REDUX is given")
    directory = Path(redux) / specprod
    return directory / f"tiles-{specprod}.csv", directory / f"exposures-{specprod}.fits"


def get_data(options: DataOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read in source and destination data.

    Parameters
    ----------
    options : object
        With the attributes ``src`` and ``dst``, names of productions, and ``root``, the directory above
        ``spectro/redux``; without ``root`` the productions are in the directory that DESI_SPECTRO_REDUX names.

    Returns
    -------
    tuple of dict
        Source and destination, each with the tables ``tiles``, ``exposures``, ``frames`` and the paths ``tiles_file``,
        ``exposures_file``. Text of FITS is bytes; NaN is not masked, an empty cell of CSV is.

    Raises
    ------
    MissingFileError, MissingHDUError, FormatError
    """
    root = getattr(options, "root", None)
    files = [production_files(root, specprod) for specprod in (options.src, options.dst)]
    for path in (path for pair in files for path in pair):
        if not path.is_file():
            raise MissingFileError("this file is absent", file=path)
    source, destination = (
        {
            "tiles": _read_csv(tiles),
            "tiles_file": tiles,
            "exposures": _read_hdu(exposures, "EXPOSURES"),
            "frames": _read_hdu(exposures, "FRAMES"),
            "exposures_file": exposures,
        }
        for tiles, exposures in files
    )
    return source, destination


def _read_csv(path: Path) -> Table:
    try:
        return Table.read(path, format="ascii.csv")
    except (ValueError, OSError) as error:
        raise FormatError(f"cannot be read as CSV: {error}", file=path) from error


def _read_hdu(path: Path, name: str) -> Table:
    """Read a binary table into one array a column, in chunks: never are rows and columns in memory in full."""
    with open_table(path, name) as reader:
        columns: dict[str, npt.NDArray[Any]] = {}
        masks: dict[str, npt.NDArray[np.bool_]] = {}
        for start in range(0, max(reader.nrows, 1), _CHUNK_ROWS):
            chunk = reader.read(start, start + _CHUNK_ROWS)
            for column in reader.names:
                values = chunk[column]
                if column not in columns:
                    columns[column] = np.empty((reader.nrows, *values.shape[1:]), values.dtype.newbyteorder("="))
                columns[column][start : start + chunk.nrows] = plain(values)
                if isinstance(values, np.ma.MaskedArray):
                    mask = masks.setdefault(column, np.zeros(columns[column].shape, dtype=bool))
                    mask[start : start + chunk.nrows] = np.ma.getmaskarray(values)
        units = {
            str(reader.header[f"TTYPE{number}"]).strip(): str(reader.header[f"TUNIT{number}"]).strip()
            for number in range(1, len(reader.names) + 1)
            if f"TUNIT{number}" in reader.header
        }
    table = Table(meta={"EXTNAME": name})
    for column, values in columns.items():
        if column in masks:
            table.add_column(MaskedColumn(values, column, mask=masks[column], unit=units.get(column)))
        else:
            table.add_column(Column(values, column, unit=units.get(column), copy=False), copy=False)
    return table


def _check_length(path: Path, hdu: fits.BinTableHDU) -> None:
    """Raise if the file ends before the data of an HDU do."""
    header = hdu.header
    end = hdu.fileinfo()["datLoc"] + header["NAXIS1"] * header["NAXIS2"] + header.get("PCOUNT", 0)
    if path.stat().st_size < end:
        raise FormatError(f"truncated: {path.stat().st_size} bytes, expected at least {end}", file=path, hdu=hdu.name)


def write_csv(table: Table, stream: TextIO) -> None:
    """Write a table as CSV: names, then one line a row; a masked value is an empty cell.

    Numbers are written so that reading them gives the same number.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.colnames)
    writer.writerows(zip(*(_cells(table[name]) for name in table.colnames), strict=True))


def _cells(column: Any) -> list[Any]:
    mask, values = np.ma.getmaskarray(column), plain(column)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "ascii", "replace")
    if values.dtype.kind == "U":
        values = np.char.rstrip(values)
    cells = values.astype(object)
    if mask.any():
        cells[mask] = None
    return list(cells.tolist())


def write_fits(original: Path, patched: Mapping[str, tuple[Table, Collection[str]]], stream: BinaryIO) -> list[str]:
    """Write a FITS file that differs from `original` in the given columns only.

    Parameters
    ----------
    original : path
        File whose HDUs, headers, order of columns, types and units are taken over.
    patched : mapping
        For the name of an HDU its patched table and the names of the columns that changed. Columns of text that became
        wider are wider in the file.
    stream : binary file
        Where to write.

    Returns
    -------
    list of str
        Names of the HDUs that have a checksum, which is now to be computed anew.

    Raises
    ------
    FormatError
        If the original is truncated, or has not the rows of the table.
    """
    stale = []
    with fits.open(original, mode="readonly", memmap=False) as hdus, original.open("rb") as raw:
        for hdu in hdus:
            place = hdu.fileinfo()
            table, columns = patched.get(hdu.name, (None, ()))
            if table is None or not columns:
                raw.seek(place["hdrLoc"])
                _copy_bytes(raw, stream, place["datLoc"] + place["datSpan"] - place["hdrLoc"])
                continue
            if len(table) != hdu.header["NAXIS2"]:
                message = f"{hdu.header['NAXIS2']} rows, expected {len(table)}"
                raise FormatError(message, file=original, hdu=hdu.name)
            _check_length(original, hdu)
            raw.seek(place["datLoc"])
            _write_table(hdu, table, columns, raw, stream)
            if "CHECKSUM" in hdu.header or "DATASUM" in hdu.header:
                stale.append(hdu.name)
    return stale


def _write_table(
    hdu: fits.BinTableHDU, table: Table, columns: Collection[str], raw: BinaryIO, stream: BinaryIO
) -> None:
    """Write header and data of a binary table: the bytes of the original, but for the columns that changed."""
    # FITS is big-endian; astropy gives the types in the byte order of the machine.
    header, old = hdu.header.copy(), hdu.columns.dtype.newbyteorder(">")
    fields = []
    for number, name in enumerate(old.names, start=1):
        form = old[name]
        if name in columns and form.kind == "S" and table[name].dtype.itemsize > form.itemsize:
            form = np.dtype(f"S{table[name].dtype.itemsize}")
            header[f"TFORM{number}"] = f"{form.itemsize}A"
        fields.append((name, form))
    new = np.dtype(fields)
    header["NAXIS1"] = new.itemsize
    stream.write(header.tostring().encode("ascii"))
    written = 0
    for start in range(0, len(table), _CHUNK_ROWS):
        stop = min(start + _CHUNK_ROWS, len(table))
        rows = np.frombuffer(raw.read((stop - start) * old.itemsize), dtype=old)
        changed = np.zeros(stop - start, dtype=new)
        for name in old.names:
            changed[name] = _stored(table[name][start:stop], hdu.columns[name]) if name in columns else rows[name]
        stream.write(changed.view(np.uint8).data)
        written += changed.nbytes
    heap = header.get("PCOUNT", 0)
    _copy_bytes(raw, stream, heap)
    stream.write(bytes(-(written + heap) % _BLOCK))


def _stored(column: Any, definition: fits.Column) -> npt.NDArray[Any]:
    """Values of a column as its field in the file holds them."""
    values = plain(column)
    missing = masked(column) if isinstance(column, np.ma.MaskedArray) else np.zeros(values.shape, dtype=bool)
    if definition.bscale not in (None, "", 1) or definition.bzero not in (None, "", 0):
        scaled = (values - (definition.bzero or 0)) / (definition.bscale or 1)
        values = np.rint(scaled) if definition.format.format in "BIJK" else scaled
    if missing.any():
        # What is still masked is what no rule may fill: blank text, or an integer that stands for no value.
        blank: Any = b"" if values.dtype.kind == "S" else definition.null if definition.null is not None else np.nan
        values = np.where(missing, blank, values)
    return values


def _copy_bytes(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size > 0:
        data = source.read(min(size, 1 << 20))
        if not data:
            raise FormatError("truncated", file=getattr(source, "name", None))
        target.write(data)
        size -= len(data)
