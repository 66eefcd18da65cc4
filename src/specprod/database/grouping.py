"""Rows whose variable fields have the same lengths, and so the same layout in a stream or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["filled", "groups_of_equal_lengths"]


def filled(size: int, template: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make rows of one layout.

    Parameters
    ----------
    size : int
    template : numpy.ndarray, shape ()
        What each of them is, a structure.

    Returns
    -------
    numpy.ndarray, shape (size,)
    """
    rows = np.empty(size, dtype=template.dtype)
    # Without its fields, a row is copied in one piece; with them, numpy copies each by itself.
    plain = f"V{template.itemsize}"
    rows.view(plain)[...] = template.view(plain)
    return rows


def groups_of_equal_lengths(
    fields: Sequence[npt.NDArray[np.int64]],
) -> Iterator[tuple[slice | npt.NDArray[np.intp], list[int]]]:
    """Yield the rows of each distinct set of lengths.

    Parameters
    ----------
    fields : sequence of numpy.ndarray of int64, each of shape (n,)
        Lengths of each variable field, row by row; at least one field.

    Yields
    ------
    chosen : slice or numpy.ndarray of int
        Indexes of the rows in order; a slice if it is all of them.
    lengths : list of int
        Of their fields.
    """
    lengths = np.stack(fields, axis=1)
    key = np.zeros(len(lengths), dtype=np.int64)
    for length in lengths.T:
        key = key * (int(length.max(initial=0)) + 1) + length
    _, first, inverse, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    if counts.size == 1:
        yield slice(None), lengths[0].tolist()
        return
    order = np.argsort(inverse.ravel(), kind="stable")
    ends = np.cumsum(counts)
    for row, start, end in zip(first, ends - counts, ends, strict=True):
        yield order[start:end], lengths[row].tolist()
