"""Values that are not those of the files, and are as they should be nevertheless."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specprod.coeff.tables import COEFFICIENTS, FIXES
from specprod.database.schema import existing_tables
from specprod.model import SchemaMixin, table_of
from specprod.model.base import source_of
from specprod.model.casting import REPLACEMENT
from specprod.survey.identifiers import comparable

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["Excuses"]


class Excuses:
    """What is known of loads and repairs that do not take values as a load of a production does.

    Where tiles were loaded too, by which NaN counts as zero in the columns that say so (``nan_zero``), it is not known
    which of both loads wrote a row: there, -9999 and 0 are both right for a value that is not finite, and nothing else
    is. And coefficients may be those of a patch that ``specprod-load coeff-fix`` loaded.

    Parameters
    ----------
    database : Database
    cls : class
        The table.
    tiles : bool
        Whether tiles were loaded one by one.
    patches : Database, optional
        The schema of the patch tables.

    Attributes
    ----------
    zeros : int
        Values that are 0 where other loads write -9999.
    coefficients : int
        Values that are those of the patch.
    """

    def __init__(
        self, database: Database, cls: type[SchemaMixin], tiles: bool, patches: Database | None = None
    ) -> None:
        self._database = database
        self._zeros = {item.name for item in table_of(cls).columns if tiles and source_of(item).nan_zero}
        self._patches = None if patches is None else _patch_of(patches, cls)
        self.zeros = 0
        self.coefficients = 0

    def __call__(
        self, keys: npt.NDArray[Any], column: str, expected: npt.NDArray[Any], found: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Say which of some values that differ have an excuse."""
        excused = np.zeros(keys.size, dtype=np.bool_)
        if column in self._zeros:
            excused = (expected == REPLACEMENT) & (found == 0)
            self.zeros += int(excused.sum())
        elif self._patches is not None and column in COEFFICIENTS:
            excused = found == self._patches(keys, column)
            self.coefficients += int(excused.sum())
        return excused

    def notes(self) -> list[str]:
        """Say what was excused."""
        notes = []
        if self.zeros:
            notes.append(f"{self.zeros} values that are not finite in the files are 0, as loads of tiles write them")
        if self.coefficients:
            notes.append(f"{self.coefficients} coefficients were replaced on purpose: they are those of coeff-fix")
        return notes


def _patch_of(
    patches: Database, cls: type[SchemaMixin]
) -> Callable[[npt.NDArray[Any], str], npt.NDArray[np.float64]] | None:
    """Give what looks up coefficients of the patch of a table, NaN for rows that it has not; None without a patch."""
    fix = FIXES.get(table_of(cls).name)
    if fix is None:
        return None
    with patches.connect() as connection:
        if not existing_tables(patches, connection, [fix.patch]):
            return None

    def look_up(keys: npt.NDArray[Any], column: str) -> npt.NDArray[np.float64]:
        values = np.full(keys.size, np.nan)
        order = np.argsort(keys)
        with patches.connect() as connection:
            for batch in patches.fetch(connection, fix.patch, keys, names=["id", column]):
                values[order[np.searchsorted(keys, comparable(batch["id"]), sorter=order)]] = batch[column]
        return values

    return look_up
