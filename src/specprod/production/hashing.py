"""Hashes of rows, by which tables of any size are compared without regard to the order of their rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.model.converting import Columns
from specprod.survey.identifiers import comparable

__all__ = ["Digest", "row_hashes"]

_MASK = (1 << 64) - 1


def _words(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield the values of a column as 64-bit words."""
    if values.dtype.kind == "f":
        # SQLite does not keep the sign of a zero.
        positive = values + values.dtype.type(0)
        yield positive.view(f"u{values.dtype.itemsize}").astype(np.uint64)
    elif values.dtype.kind == "S":
        width = -(-max(values.dtype.itemsize, 1) // 8)
        words = np.ascontiguousarray(values.astype(f"S{8 * width}")).view(np.uint64).reshape(values.size, width)
        yield from words.T
    else:
        yield values.astype(np.int64).view(np.uint64)


def row_hashes(columns: Columns) -> npt.NDArray[np.uint64]:
    """Hash the rows of a table.

    Parameters
    ----------
    columns : dict of str to numpy.ndarray, each of shape (n,)

    Returns
    -------
    numpy.ndarray of uint64, shape (n,)

    Notes
    -----
    Each word is multiplied by an odd number of its column and place; the finalizer is that of splitmix64.
    """
    size = len(next(iter(columns.values())))
    total = np.zeros(size, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for number, values in enumerate(columns.values()):
            for place, word in enumerate(_words(comparable(values))):
                # Words of blanks add nothing: texts may be held in arrays of any width.
                factor = np.uint64(((0x9E3779B97F4A7C15 * (2 * (number * 64 + place) + 1)) & _MASK) | 1)
                mixed = (word ^ (word >> np.uint64(31))) * factor
                total += mixed ^ (mixed >> np.uint64(29))
        total = (total ^ (total >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        total = (total ^ (total >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return total ^ (total >> np.uint64(31))


class Digest:
    """The number of rows, and the sum of their hashes, which depends on no order and takes no memory.

    Attributes
    ----------
    rows, sum : int
    """

    def __init__(self) -> None:
        self.rows = 0
        self.sum = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and (self.rows, self.sum) == (other.rows, other.sum)

    __hash__ = None  # type: ignore[assignment]

    def add(self, columns: Columns) -> None:
        """Add rows."""
        hashes = row_hashes(columns)
        self.rows += hashes.size
        self.sum = (self.sum + int(np.add.reduce(hashes))) & _MASK
