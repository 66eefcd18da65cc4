"""The password file of libpq."""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path

from sqlalchemy import URL

__all__ = ["parse_pgpass"]

logger = logging.getLogger(__name__)


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
