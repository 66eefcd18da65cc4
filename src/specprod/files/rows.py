"""Rows of a binary table, read from their places in the file in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import FormatError
from specprod.files.unpacking import OpenFile

__all__ = ["RowReader"]

#: Bytes that are read at a time where only a part of them is kept.
_PIECE = 1 << 20
#: Rows that are wanted are read together, if no more bytes than this lie between them.
_GAP = 1 << 14


class RowReader:
    """Reads rows, or a column of them.

    Parameters
    ----------
    file : OpenFile
    start : int
        Byte of the file at which the first row begins.
    dtype : numpy.dtype
        Of a row.
    error : callable
        Makes the error for a message.
    """

    def __init__(self, file: OpenFile, start: int, dtype: np.dtype[Any], error: Callable[[str], FormatError]) -> None:
        self.dtype = dtype
        self._file = file
        self._start = start
        self._error = error

    def _fill(self, rows: npt.NDArray[Any], first: int) -> None:
        """Read as many rows as the array has, from a row on."""
        if not rows.nbytes:
            return
        found = self._file.read_into(rows.view(np.uint8).data, self._start + first * self.dtype.itemsize)
        if found != rows.nbytes:
            raise self._error(f"truncated at row {first + found // self.dtype.itemsize}")

    def read(self, first: int, last: int) -> npt.NDArray[Any]:
        """Read rows, `last` not included.

        Raises
        ------
        FormatError
            If the file has grown shorter since it was opened, or cannot be read.
        """
        rows = np.empty(max(last - first, 0), dtype=self.dtype)
        self._fill(rows, first)
        return rows

    def select(self, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Read the rows of these numbers, in this order; all of them are in memory then."""
        rows = np.empty(places.size, dtype=self.dtype)
        if not rows.nbytes:
            return rows
        # As bytes: numpy copies rows of many fields field by field.
        whole = rows.view(f"V{self.dtype.itemsize}")
        for where, read, chosen in self._pieces(places):
            whole[where] = read.view(whole.dtype)[chosen]
        return rows

    def column(self, name: str, places: npt.NDArray[np.int64] | tuple[int, int]) -> npt.NDArray[Any]:
        """Read one field of the rows of these numbers, or of those from one number to another.

        The rows pass through a buffer; only the field is kept.
        """
        if isinstance(places, tuple):
            first, last = places
            values = np.empty(max(last - first, 0), dtype=self.dtype[name])
            step = max(1, _PIECE // max(self.dtype.itemsize, 1))
            buffer = np.empty(min(step, values.shape[0]), dtype=self.dtype)
            for begin in range(first, last, step):
                rows = buffer[: min(step, last - begin)]
                self._fill(rows, begin)
                values[begin - first : begin - first + rows.size] = rows[name]
            return values
        values = np.empty(places.size, dtype=self.dtype[name])
        for where, read, chosen in self._pieces(places):
            values[where] = read[name][chosen]
        return values

    def _pieces(
        self, places: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any], npt.NDArray[np.int64]]]:
        """Read the rows of these numbers, those that lie near each other together.

        Yields
        ------
        where : numpy.ndarray of int64
            Places of some of the numbers among all of them.
        read : numpy.ndarray
            Rows of the file, theirs and those between.
        chosen : numpy.ndarray of int64
            Which of these rows are theirs.
        """
        if not places.size:
            return
        order = np.argsort(places, kind="stable")
        ordered = places[order]
        width = max(self.dtype.itemsize, 1)
        # A new piece begins after a gap, and wherever a piece would grow too large.
        group = np.cumsum(np.diff(ordered, prepend=ordered[0]) > max(1, _GAP // width))
        step = max(1, _PIECE // width)
        first_of_group = ordered[np.searchsorted(group, group)]
        part = (ordered - first_of_group) // step
        edges = np.flatnonzero((np.diff(group, prepend=-1) != 0) | (np.diff(part, prepend=-1) != 0))
        for begin, end in zip(edges.tolist(), [*edges[1:].tolist(), ordered.size], strict=True):
            numbers = ordered[begin:end]
            rows = self.read(int(numbers[0]), int(numbers[-1]) + 1)
            yield order[begin:end], rows, numbers - numbers[0]
