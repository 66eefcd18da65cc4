"""TARGETIDs that table photometry has, and those that it has not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from specprod.model import Photometry

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["contained", "loaded_targetids", "unknown_targetids"]


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
    source, parameters = database.as_rows(targetid)
    rows = connection.exec_driver_sql(
        f"SELECT wanted.value FROM {source} WHERE NOT EXISTS "
        f"(SELECT 1 FROM {database.name(Photometry)} AS p WHERE p.targetid = wanted.value)",
        parameters,
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
    with database.turn, database.connect() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(Photometry))
        if count is None or count > most:
            return None
        return database.fetch_integers(connection, Photometry, "targetid")


def contained(numbers: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Find which of some numbers occur among sorted ones, shape of `wanted`."""
    if not numbers.size:
        return np.zeros(wanted.shape, dtype=np.bool_)
    place = np.minimum(np.searchsorted(numbers, wanted), numbers.size - 1)
    return np.asarray(numbers[place] == wanted)
