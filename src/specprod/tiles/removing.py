"""Rows of a tile that are gone from its files, and photometry that nothing refers to any more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import Connection

from specprod.model import Fiberassign, Photometry, Potential, SchemaMixin, Target, Zpix, Ztile, table_of
from specprod.survey.identifiers import INT128, as_integers

__all__ = ["remove_gone", "remove_unused_photometry"]

#: Keys in one statement; SQLite takes at most 32,766 parameters.
_BATCH = 5000


def remove_gone(
    connection: Connection, cls: type[SchemaMixin], tileid: int, keys: npt.NDArray[np.generic]
) -> tuple[int, list[int]]:
    """Remove the rows of a tile whose keys are not among some.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    cls : class
        A table with a column tileid.
    tileid : int
    keys : numpy.ndarray
        Keys of the rows that stay, integers or `INT128`; all of them are in the table, under this tile.

    Returns
    -------
    removed : int
        Number of rows that were removed.
    targetids : list of int
        Their TARGETIDs, as far as the table has them.
    """
    table = table_of(cls)
    (key,) = table.primary_key.columns
    stay = set(as_integers(keys).tolist() if keys.dtype == INT128 else keys.tolist())
    target = table.c.targetid if "targetid" in table.c else sa.null()
    # As a rule nothing is gone, and to count rows takes a hundredth of the time of comparing keys.
    count = connection.scalar(sa.select(sa.func.count()).select_from(table).where(table.c.tileid == tileid))
    if count == keys.size:
        return 0, []
    there = connection.execute(sa.select(key, target).where(table.c.tileid == tileid)).all()
    gone = [(value, targetid) for value, targetid in there if value not in stay]
    for batch in _batches([value for value, _ in gone]):
        connection.execute(sa.delete(table).where(key.in_(batch)))
    return len(gone), [targetid for _, targetid in gone if targetid is not None]


def remove_unused_photometry(connection: Connection, targetids: Sequence[int]) -> int:
    """Remove the photometry of those of some targets that no other table refers to.

    Returns
    -------
    int
        Number of rows that were removed.
    """
    table = table_of(Photometry)
    used = [
        sa.exists().where(table_of(cls).c.targetid == table.c.targetid).correlate(table)
        for cls in (Target, Ztile, Zpix, Fiberassign, Potential)
    ]
    removed = 0
    for batch in _batches(sorted(set(targetids))):
        statement = sa.delete(table).where(table.c.targetid.in_(batch), ~sa.or_(*used))
        removed += int(connection.execute(statement).rowcount)
    return removed


def _batches(values: Sequence[int]) -> list[Sequence[int]]:
    return [values[start : start + _BATCH] for start in range(0, len(values), _BATCH)]
