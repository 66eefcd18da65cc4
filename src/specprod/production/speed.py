"""How fast this machine loads: a small load into a throw-away file, against the same one on a machine that is known."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from specprod.database.connection import connect
from specprod.database.keys import build_indexes
from specprod.database.schema import create_tables
from specprod.model import Zpix, table_of
from specprod.model.converting import Columns, database_dtype
from specprod.survey.identifiers import INT128, zpixid

__all__ = ["measured_rate"]

#: Rows of the small load.
_ROWS: Final = 20_000
#: Seconds that it takes on the machine of `specprod.database.sizes.Sizes.rate`.
_REFERENCE: Final = 0.16


def measured_rate(usual: int) -> int:
    """Estimate the rows a second that this machine loads.

    Parameters
    ----------
    usual : int
        Rate of the machine that is known, for a kind of database; see `specprod.database.sizes.Sizes`. A server is
        taken to be as fast, compared with the one that is known, as this machine is.

    Returns
    -------
    int
        Rows of zpix are packed, written to an SQLite file in ``TMPDIR`` and indexed, twice; the faster time counts.
    """
    return max(1, round(usual * _REFERENCE / min(_small_load() for _ in range(2))))


def _small_load() -> float:
    """Give the seconds of a small load."""
    with (
        tempfile.TemporaryDirectory(prefix="specprod-") as directory,
        connect(Path(directory) / "speed.db", create=True) as database,
    ):
        with database.begin() as connection:
            create_tables(database, connection, [Zpix])
        columns, writer = _columns(), database.writer(Zpix)
        start = time.perf_counter()
        with database.begin(check_references=False, durable=True) as connection:
            writer.append(connection, [writer.prepare(columns)])
        build_indexes(database, Zpix)
        return time.perf_counter() - start


def _columns() -> Columns:
    """Make rows of zpix that differ in their keys and numbers."""
    numbers = np.random.default_rng(1).permutation(_ROWS).astype(np.int64) + 39_627_000_000_000_000
    columns: Columns = {}
    for item in table_of(Zpix).columns:
        dtype = database_dtype(item)
        if dtype == INT128:
            columns[item.name] = zpixid(numbers, np.full(_ROWS, b"main"), np.full(_ROWS, b"dark"))
        elif dtype.kind == "S":
            columns[item.name] = np.full(_ROWS, b"text")
        elif dtype.kind == "M":
            columns[item.name] = np.zeros(_ROWS, dtype=dtype)
        else:
            columns[item.name] = (numbers % 100).astype(dtype)
    columns["targetid"] = numbers
    return columns
