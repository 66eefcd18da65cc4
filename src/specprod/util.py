"""Small functions that scripts use beside the loads: codes and ids, packed files, time stamps, passwords."""

from __future__ import annotations

import logging
import os
import re
import stat
from datetime import datetime, tzinfo
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy import URL

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

logger = logging.getLogger(__name__)


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


def parse_pgpass(hostname: str = "specprod-db.desi.lbl.gov", username: str = "desi_admin") -> str | None:
    r"""Find a server and user in the password file of libpq.

    Connections of this package do not need it: libpq reads the file itself, and services and ``PG*`` variables too.

    Parameters
    ----------
    hostname : str
    username : str

    Returns
    -------
    str or None
        A URL with the password, such as SQLAlchemy opens with psycopg, of the first line that fits; what that line
        leaves open by ``*`` (port, database) is not in it. None if there is no such line, no file, or if others than
        its owner may use the file, as for libpq.

    Notes
    -----
    The format is that of PostgreSQL's documentation, "The Password File": five fields between colons, ``\`` before a
    colon or backslash that is part of a field, ``*`` for any. The file is ``~/.pgpass`` or what ``PGPASSFILE`` names.
    """
    path = Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) or mode & (stat.S_IRWXG | stat.S_IRWXO):
            logger.warning("%s is ignored: it must be a file that only its owner may use (chmod 600)", path)
            return None
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        logger.info("%s: no passwords: %s", path, error.strerror)
        return None
    for line in lines:
        found = None if line.startswith("#") else _PGPASS_LINE.fullmatch(line)
        if found is None or not (_fits(found["host"], hostname) and _fits(found["user"], username)):
            continue
        port, database = (None if found[name] == "*" else _unescaped(found[name]) for name in ("port", "database"))
        if port is not None and not port.isdecimal():
            continue
        return URL.create(
            "postgresql+psycopg",
            username=username,
            password=_unescaped(found["password"]),
            host=hostname,
            port=None if port is None else int(port),
            database=database,
        ).render_as_string(hide_password=False)
    return None


_FIELD = r"((?:\\.|[^:\\])*)"
# The password is the rest of the line: libpq takes colons in it as they are.
_PGPASS_LINE = re.compile(
    ":".join(_FIELD.replace("((", f"(?P<{name}>(", 1) for name in ("host", "port", "database", "user"))
    + ":(?P<password>.*)"
)


def _unescaped(field: str) -> str:
    return re.sub(r"\\(.)", r"\1", field)


def _fits(field: str, value: str) -> bool:
    return field == "*" or _unescaped(field) == value
