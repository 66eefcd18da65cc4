"""Rows whose variable fields have the same lengths, and so the same layout in a stream or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
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
    key = np.zeros(fields[0].size, dtype=np.int64)
    for lengths in fields:
        key = key * (int(lengths.max(initial=0)) + 1) + lengths
    if key.max(initial=0) < 1 << 16:
        # Numbers of 16 bits are sorted without comparing them.
        key = key.astype(np.uint16)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    starts = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist()] if key.size else []
    for start, end in pairwise([*starts, key.size]):
        chosen = slice(None) if end - start == key.size else order[start:end]
        yield chosen, [int(lengths[order[start]]) for lengths in fields]
