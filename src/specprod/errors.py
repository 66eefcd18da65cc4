"""The exceptions of specprod: one tree, drawn here.

::

    SpecprodError
    ├── ConfigurationError          an option, a variable or a configuration file is wrong
    ├── InputError                  a file is not what it should be
    │   ├── MissingFileError            (FileNotFoundError)
    │   ├── FormatError                 not a FITS file, truncated, corrupt
    │   ├── ChecksumError               CHECKSUM or DATASUM of a FITS file says that it was damaged
    │   ├── MissingHDUError
    │   ├── MissingColumnError          (KeyError)
    │   └── ValueRejectedError          (ValueError) a value that the column cannot hold
    │       └── UnknownNameError            (KeyError) a survey, program, camera … that there is not
    ├── DatabaseError               the database refuses or is not what it should be
    │   ├── ConnectionFailedError
    │   ├── SchemaError                 not ours, wrong tables, a role that does not exist
    │   ├── LockedError                 another loader is at work
    │   └── ConstraintError             a key or a reference is violated
    ├── LedgerError                 what was loaded before does not fit what is asked for now
    └── StorageError                a results storage that is not of this package raised something
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from os import PathLike

__all__ = [
    "ChecksumError",
    "ConfigurationError",
    "ConnectionFailedError",
    "ConstraintError",
    "DatabaseError",
    "FormatError",
    "InputError",
    "LedgerError",
    "LockedError",
    "MissingColumnError",
    "MissingFileError",
    "MissingHDUError",
    "SchemaError",
    "SpecprodError",
    "StorageError",
    "UnknownNameError",
    "ValueRejectedError",
    "did_you_mean",
    "printable",
]


class SpecprodError(Exception):
    """Base of all errors that this package raises on purpose.

    Parameters
    ----------
    message : str
        What is wrong and what was expected, without the place.
    file, hdu, column, row : optional
        The place, as far as it is known. `row` counts from 0, as numpy and fitsio do.

    Notes
    -----
    ``str(error)`` is one line: the place, then the message.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | PathLike[str] | None = None,
        hdu: str | int | None = None,
        column: str | None = None,
        row: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = None if file is None else str(file)
        self.hdu = hdu
        self.column = column
        self.row = row

    def __str__(self) -> str:
        places = [] if self.file is None else [self.file]
        places += [
            f"{name} {value}"
            for name, value in (("HDU", self.hdu), ("column", self.column), ("row", self.row))
            if value is not None
        ]
        message = " ".join(str(self.message).split())
        return printable(f"{', '.join(places)}: {message}" if places else message)


class ConfigurationError(SpecprodError):
    """An option, an environment variable or a configuration file is wrong."""


class InputError(SpecprodError):
    """An input file is not what it should be."""


class MissingFileError(InputError, FileNotFoundError):
    """A file or directory of the production is absent."""


class FormatError(InputError):
    """A file is not of its format, truncated or corrupt."""


class ChecksumError(InputError):
    """A part of a FITS file is not what its CHECKSUM or DATASUM says."""


class MissingHDUError(InputError):
    """A FITS file lacks an HDU."""


class MissingColumnError(InputError, KeyError):
    """A table lacks a column that is required and that the caller did not give."""


class ValueRejectedError(InputError, ValueError):
    """A value cannot be stored in its column: range, length, type, or an unknown name."""


class UnknownNameError(ValueRejectedError, KeyError):
    """A name is none of those that there are."""


class DatabaseError(SpecprodError):
    """The database refuses, or is not what it should be."""


class ConnectionFailedError(DatabaseError):
    """The database cannot be reached or opened."""


class SchemaError(DatabaseError):
    """The schema is not one of ours, or a role or extension is missing."""


class LockedError(DatabaseError):
    """Another loader holds the schema."""


class ConstraintError(DatabaseError):
    """A row violates a key or a reference."""


class LedgerError(SpecprodError):
    """What was loaded before does not fit what is asked for now."""


class StorageError(SpecprodError):
    """A results storage that is not of this package raised something; the message names its class."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Make the end of a message about a name that does not exist: the one that is most alike, if any is.

    Examples
    --------
    >>> "unknown production 'irn'" + did_you_mean("irn", ["fuji", "iron"])
    "unknown production 'irn'; did you mean iron?"
    """
    alike = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {alike[0]}?" if alike else ""


def printable(text: str) -> str:
    r"""Write a text as UTF-8 can hold it: bytes of the name of a file that are not UTF-8 as ``\xff``.

    Examples
    --------
    >>> print(printable("tiles-\udcff.fits"))
    tiles-\xff.fits
    """
    return text.translate(_BYTES).encode(errors="backslashreplace").decode()


# What Python makes of a byte that is not UTF-8.
_BYTES = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
