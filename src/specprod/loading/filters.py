"""Which rows of a file are loaded: filters, as loads take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from specprod.database.failures import Retries
from specprod.database.keys import build_key
from specprod.database.lookups import contained, loaded_targetids, unknown_targetids
from specprod.files.tables import Chunk
from specprod.model import Photometry
from specprod.model.base import TableLike
from specprod.survey.identifiers import is_sky

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["NewTargets", "deduplicate_targetid", "not_sky"]


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
    targetid, first = np.unique(np.asarray(data["TARGETID"]), return_index=True)
    with database.turn, database.connect() as connection:
        missing = unknown_targetids(database, connection, targetid)
    return np.sort(first[np.isin(targetid, missing)]).astype(np.int64)


class NewTargets:
    """Chooses the rows whose TARGETID table photometry does not have, the first of each.

    The TARGETIDs are held in memory if they are not too many; else the database is asked.

    Parameters
    ----------
    database : Database
    most : int
        How many are held, 8 bytes each.

    Attributes
    ----------
    certain : bool
        Whether the rows that it chose are new beyond doubt, so that they need not be compared with the table again:
        nobody else writes to it while a production is loaded.
    """

    def __init__(self, database: Database, most: int = 2_000_000) -> None:
        self._database = database
        self._most = most
        self._known: npt.NDArray[np.int64] | None = None
        self._asked = False

    @property
    def certain(self) -> bool:
        """Whether the rows that it chose are new beyond doubt."""
        return self._known is not None

    def __call__(self, chunk: Chunk) -> npt.NDArray[np.int64]:
        """Give the indexes of the rows of a chunk that are new; after a failure it can be asked again."""
        if not self._asked:
            self._known = loaded_targetids(self._database, self._most)
            if self._known is None:
                # Whether a TARGETID is there is asked of this key.
                build_key(self._database, Photometry, Retries(attempts=1))
            self._asked = True
        if self._known is None:
            return deduplicate_targetid(chunk, database=self._database)
        targetid, first = np.unique(chunk["TARGETID"].astype(np.int64), return_index=True)
        new = ~contained(self._known, targetid)
        if new.any():
            fresh = targetid[new]
            self._known = np.insert(self._known, np.searchsorted(self._known, fresh), fresh)
        return np.sort(first[new]).astype(np.int64)
