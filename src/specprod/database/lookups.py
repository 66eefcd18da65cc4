"""TARGETIDs that table photometry has, and those that it has not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from specprod.model import Photometry

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["contained", "loaded_targetids", "unknown_targetids"]

# Numbers that SQLite gives as one text.
_AT_ONCE = 100_000


def unknown_targetids(
    database: Database, connection: sa.Connection, targetid: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Find which of some TARGETIDs table photometry does not have.

    Parameters
    ----------
    database : Database
    connection : sqlalchemy.Connection
    targetid : numpy.ndarray of int64

    Returns
    -------
    numpy.ndarray of int64
        In no particular order.
    """
    # One parameter holds them all, as the text of an array or as JSON: a tenth of the time of adapting a list.
    numbers = ",".join(map(str, targetid.tolist()))
    if database.is_postgresql:
        source, parameter = "unnest(CAST(%s AS bigint[])) AS wanted(value)", f"{{{numbers}}}"
    else:
        source, parameter = "json_each(?) AS wanted", f"[{numbers}]"
    rows = connection.exec_driver_sql(
        f"SELECT wanted.value FROM {source} WHERE NOT EXISTS "
        f"(SELECT 1 FROM {database.name(Photometry)} AS p WHERE p.targetid = wanted.value)",
        (parameter,),
    )
    return np.fromiter(rows.scalars(), dtype=np.int64)


def loaded_targetids(database: Database, most: int) -> npt.NDArray[np.int64] | None:
    """Read all TARGETIDs of table photometry.

    Parameters
    ----------
    database : Database
    most : int
        If there are more, none are read.

    Returns
    -------
    numpy.ndarray of int64 or None
        In ascending order.
    """
    table = database.name(Photometry)
    with database.turn, database.connect() as connection:
        count = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
        if count > most:
            return None
        # One value for many: a row each would take ten times as long.
        if database.is_postgresql:
            query = f"SELECT string_agg(int8send(targetid), ''::bytea) FROM {table}"
            numbers = np.frombuffer(connection.exec_driver_sql(query).scalar() or b"", dtype=">i8").astype(np.int64)
            numbers.sort()
            return numbers
        query = (
            "SELECT json_group_array(targetid) FROM "
            f"(SELECT targetid FROM {table} WHERE targetid > ? ORDER BY targetid LIMIT {_AT_ONCE})"
        )
        numbers = np.empty(count, dtype=np.int64)
        read, last = 0, -(1 << 63)
        while read < count:
            part = json.loads(connection.exec_driver_sql(query, (last,)).scalar_one())
            numbers[read : read + len(part)] = part
            read, last = read + len(part), part[-1]
    return numbers


def contained(numbers: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Find which of some numbers occur among sorted ones, shape of `wanted`."""
    if not numbers.size:
        return np.zeros(wanted.shape, dtype=np.bool_)
    place = np.minimum(np.searchsorted(numbers, wanted), numbers.size - 1)
    return np.asarray(numbers[place] == wanted)
