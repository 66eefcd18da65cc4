"""Small functions that scripts use beside the loads: codes and ids, packed files, time stamps, passwords."""

from __future__ import annotations

from datetime import datetime, tzinfo
from pathlib import Path

import numpy as np
import numpy.typing as npt

from specprod.database.postgresql.passwords import parse_pgpass
from specprod.errors import ValueRejectedError
from specprod.files.tree import with_or_without_gz
from specprod.model.base import TableLike
from specprod.survey.identifiers import (
    cameraid,
    fiberassignid,
    frameid,
    is_sky,
    programid,
    spgrpid,
    surveyid,
    targetphotid,
    zpixid,
)

__all__ = [
    "cameraid",
    "checkgzip",
    "convert_dateobs",
    "fiberassignid",
    "frameid",
    "no_sky",
    "parse_pgpass",
    "programid",
    "spgrpid",
    "surveyid",
    "targetphotid",
    "zpixid",
]


def checkgzip(filename: str | Path) -> str:
    """Find a file under its name, or with ``.gz`` added or taken away.

    Parameters
    ----------
    filename : str or path

    Returns
    -------
    str
        Path of the file that is there; under its own name if both are.

    Raises
    ------
    MissingFileError
        If there is neither. It is a `FileNotFoundError` too.
    """
    return str(with_or_without_gz(Path(filename)))


def convert_dateobs(timestamp: str, tzinfo: tzinfo | None = None) -> datetime:
    """Read a time stamp such as that of the keyword DATE-OBS.

    Parameters
    ----------
    timestamp : str
        ISO 8601; digits beyond microseconds are cut off.
    tzinfo : datetime.tzinfo, optional
        Zone of a time stamp that names none; one that does is converted to it.

    Returns
    -------
    datetime.datetime

    Raises
    ------
    ValueRejectedError
        If the text is no time. It is a `ValueError` too.
    """
    try:
        moment = datetime.fromisoformat(timestamp.strip())
    except ValueError as error:
        raise ValueRejectedError(f"expected a date and time, found {timestamp!r}") from error
    if tzinfo is None:
        return moment
    return moment.replace(tzinfo=tzinfo) if moment.tzinfo is None else moment.astimezone(tzinfo)


def no_sky(catalog: TableLike) -> npt.NDArray[np.int64]:
    """Find the rows that are no blank sky: TARGETID is positive and its bit 59 is 0.

    Parameters
    ----------
    catalog : astropy.table.Table, numpy.ndarray or mapping
        Has a column TARGETID.

    Returns
    -------
    numpy.ndarray of int64
        Indexes of the rows, in order.
    """
    return np.flatnonzero(~is_sky(catalog["TARGETID"])).astype(np.int64)
