"""Which rows of a file are loaded: filters, as loads take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from specprod.database.failures import Retries
from specprod.database.keys import build_key
from specprod.database.lookups import contained, loaded_targetids, unknown_targetids
from specprod.files.tables import Chunk
from specprod.loading.pieces import LearningFilter
from specprod.model import Photometry
from specprod.model.base import TableLike
from specprod.model.converting import Columns
from specprod.survey.identifiers import is_sky, whole_numbers

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["FilesTargets", "NewTargets", "TargetSet", "deduplicate_targetid", "not_sky"]


def not_sky(chunk: Chunk) -> npt.NDArray[np.int64]:
    """Indexes of the rows that are not sky."""
    return np.flatnonzero(~is_sky(chunk["TARGETID"]))


def deduplicate_targetid(data: TableLike, *, database: Database) -> npt.NDArray[np.int64]:
    """Find the rows whose TARGETID is not in table photometry yet, the first of each TARGETID.

    Parameters
    ----------
    data : astropy.table.Table, chunk or mapping
        Has a column TARGETID.
    database : Database

    Returns
    -------
    numpy.ndarray of int64
        Indexes of the rows that can be loaded, in order.
    """
    targetid, first = np.unique(whole_numbers(data["TARGETID"], "TARGETID"), return_index=True)
    with database.turn, database.connect() as connection:
        missing = unknown_targetids(database, connection, targetid)
    return np.sort(first[np.isin(targetid, missing)]).astype(np.int64)


class TargetSet:
    """TARGETIDs, 8 bytes each.

    Parameters
    ----------
    targetid : numpy.ndarray of int64, optional
        In ascending order.
    """

    def __init__(self, targetid: npt.NDArray[np.int64] | None = None) -> None:
        self._sorted = np.empty(0, dtype=np.int64) if targetid is None else targetid
        self._recent = self._sorted[:0]
        self._new: list[npt.NDArray[np.int64]] = []

    def add(self, targetid: npt.NDArray[np.int64]) -> None:
        """Add some; they are sorted when they are first asked for."""
        self._new.append(targetid)

    def have(self, targetid: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Find which of some are in the set."""
        if self._new:
            new, self._new = np.concatenate([self._recent, *self._new]), []
            # What comes little by little is sorted by itself, again and again, until it is worth joining the rest.
            if new.size > max(10_000, self._sorted.size // 8):
                self._sorted, new = np.union1d(self._sorted, new), new[:0]
            self._recent = np.unique(new)
        return contained(self._sorted, targetid) | contained(self._recent, targetid)


class NewTargets(LearningFilter):
    """Chooses the rows whose TARGETID table photometry does not have.

    The TARGETIDs are held in memory if they are not too many; else the database is asked. Of the rows of one TARGETID
    all are chosen, until one of them became a row of the table.

    Parameters
    ----------
    database : Database
    most : int
        How many are held, 8 bytes each.
    """

    def __init__(self, database: Database, most: int = 2_000_000) -> None:
        self._database = database
        self._most = most
        self._known: TargetSet | None = None
        self._asked = False

    @property
    def certain(self) -> bool:
        """Whether all TARGETIDs are held: nobody else writes to the table while a production is loaded."""
        return self._known is not None

    def __call__(self, chunk: Chunk) -> npt.NDArray[np.int64]:
        """Give the indexes of the rows of a chunk that are new."""
        if not self._asked:
            known = loaded_targetids(self._database, self._most)
            if known is None:
                # Whether a TARGETID is there is asked of this key.
                build_key(self._database, Photometry, Retries(attempts=1))
            else:
                self._known = TargetSet(known)
            self._asked = True
        targetid = chunk.integers("TARGETID")
        if self._known is not None:
            return np.flatnonzero(~self._known.have(targetid))
        with self._database.turn, self._database.connect() as connection:
            missing = unknown_targetids(self._database, connection, np.unique(targetid))
        return np.flatnonzero(np.isin(targetid, missing))

    def accept(self, columns: Columns) -> None:
        """Take note of the TARGETIDs that became rows."""
        if self._known is not None:
            self._known.add(columns["targetid"])


class FilesTargets(LearningFilter):
    """Chooses the rows whose TARGETID no row of the files before has: `NewTargets`, asked of the files themselves."""

    def __init__(self) -> None:
        self._known = TargetSet()

    def __call__(self, chunk: Chunk) -> npt.NDArray[np.int64]:
        """Give the indexes of the rows of a chunk that are new."""
        return np.flatnonzero(~self._known.have(chunk.integers("TARGETID")))

    def accept(self, columns: Columns) -> None:
        """Take note of the TARGETIDs that became rows."""
        self._known.add(columns["targetid"])
