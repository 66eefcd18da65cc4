"""Values that stand in a table though its columns, as they are declared, cannot hold them.

SQLite keeps any value in any column, and NOT NULL can be taken from columns of every database. Whoever reads a table
as columns of numpy meets such values, which have no place there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import DatabaseError

__all__ = ["Misfit", "Misfits"]


@dataclass(frozen=True)
class Misfit:
    """A value that its column cannot hold.

    Attributes
    ----------
    table, column : str
    key : str
        Value of the key of the row, as far as it can be shown.
    value : str
        The value, as SQL writes it.
    """

    table: str
    column: str
    key: str
    value: str

    def __str__(self) -> str:
        return f"the row with key {self.key} of {self.table} has {self.value} in {self.column}, which cannot hold that"


@dataclass
class Misfits:
    """What was met of these while a table was read; their rows are left out.

    Attributes
    ----------
    most : int or None
        How many are kept; None if the first one is an error.
    rows : int
        How many rows have such values.
    first : list of Misfit
    """

    most: int | None = None
    rows: int = 0
    first: list[Misfit] = field(default_factory=list)

    def take(self, bad: npt.NDArray[np.bool_], found: Iterator[Misfit] | Sequence[Misfit]) -> None:
        """Take note of rows, and of the values in them.

        Raises
        ------
        DatabaseError
            If none is expected.
        """
        self.rows += int(bad.sum())
        for misfit in found:
            if self.most is None:
                raise DatabaseError(str(misfit))
            if len(self.first) >= self.most:
                break
            self.first.append(misfit)


def literal(value: Any) -> str:
    """Write a value as SQL does, so that NULL, numbers, texts and bytes can be told apart."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes | memoryview):
        return f"X'{bytes(value).hex().upper()}'"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
