"""Columns as PostgreSQL's binary COPY stream, without a loop over rows.

A row of the stream is the number of its fields, then for each field its length and its bytes, big-endian. All fields
but text have one length, so that a structured array whose dtype has these lengths as fields *is* the stream. The
order of the columns in COPY is free: text comes last, and rows whose texts have the same lengths share a dtype.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Table

from specprod.database.grouping import filled, groups_of_equal_lengths
from specprod.model.casting import text_lengths
from specprod.model.converting import Columns, database_dtype
from specprod.survey.identifiers import INT128, decimal_digits

__all__ = ["BinaryPacker"]

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
_EPOCH = np.datetime64("2000-01-01", "us")
#: Digits to the base 10,000 that hold any 39-digit number; PostgreSQL strips the leading zeros itself.
_DIGITS = 10


class BinaryPacker:
    """Packs columns of a table into the stream.

    Parameters
    ----------
    table : sqlalchemy.Table

    Attributes
    ----------
    columns : list of str
        Names of the columns in the order of the stream.
    """

    def __init__(self, table: Table) -> None:
        dtypes = {item.name: database_dtype(item) for item in table.columns}
        self._texts = [name for name, dtype in dtypes.items() if dtype.kind == "S"]
        self._fixed = {name: dtype for name, dtype in dtypes.items() if dtype.kind != "S"}
        self.columns = [*self._fixed, *self._texts]
        fields: list[tuple[Any, ...]] = [("fields", ">i2")]
        for name, dtype in self._fixed.items():
            fields.append((f"length {name}", ">i4"))
            if dtype == INT128:
                fields += [(f"numeric {name}", ">i2", (4,)), (name, ">i2", (_DIGITS,))]
            elif dtype.kind == "b":
                fields.append((name, "u1"))
            elif dtype.kind == "M":
                fields.append((name, ">i8"))
            else:
                fields.append((name, dtype.newbyteorder(">")))
        self._dtype = np.dtype(fields)
        # What all rows have in common is copied in one piece for each row; only values are set one column at a time.
        self._template = np.zeros((), dtype=self._dtype)
        self._template["fields"] = len(self.columns)
        for name, dtype in self._fixed.items():
            if dtype == INT128:
                # Number of digits, weight of the first, sign, digits after the point.
                self._template[f"numeric {name}"] = (_DIGITS, _DIGITS - 1, 0, 0)
                self._template[f"length {name}"] = 8 + 2 * _DIGITS
            else:
                self._template[f"length {name}"] = self._dtype[name].itemsize

    def pack(self, columns: Columns) -> list[memoryview]:
        """Pack columns.

        Parameters
        ----------
        columns : dict of str to numpy.ndarray, each of shape (n,)
            The columns of the table, of the types of `specprod.model.converting.database_dtype`.

        Returns
        -------
        list of memoryview
            Pieces of the stream, without its signature and trailer.
        """
        rows = filled(len(next(iter(columns.values()))), self._template)
        for name, dtype in self._fixed.items():
            values = columns[name]
            if dtype == INT128:
                rows[name] = decimal_digits(values)
            elif dtype.kind == "M":
                rows[name] = (values - _EPOCH).astype(np.int64)
            else:
                rows[name] = values
        if not self._texts:
            return [rows.view(np.uint8).data]
        return list(self._with_texts(rows, [columns[name] for name in self._texts]))

    def _with_texts(self, rows: npt.NDArray[Any], texts: list[npt.NDArray[Any]]) -> Iterator[memoryview]:
        """Append the texts, one piece for each distinct set of their lengths."""
        fixed = rows.view(f"V{self._dtype.itemsize}")
        for chosen, lengths in groups_of_equal_lengths([text_lengths(values) for values in texts]):
            fields: list[tuple[Any, ...]] = [("fixed", f"V{self._dtype.itemsize}")]
            for i, length in enumerate(lengths):
                fields.append((f"length {i}", ">i4"))
                fields += [(f"text {i}", f"V{length}")] if length else []
            these = fixed[chosen]
            piece = np.empty(these.size, dtype=fields)
            piece["fixed"] = these
            for i, length in enumerate(lengths):
                piece[f"length {i}"] = length
                if length:
                    piece[f"text {i}"] = texts[i][chosen].astype(f"S{length}").view(f"V{length}")
            yield piece.view(np.uint8).data

    @staticmethod
    def stream(pieces: Iterable[memoryview]) -> Iterator[bytes | memoryview]:
        """Put signature and trailer around pieces."""
        yield _SIGNATURE
        yield from pieces
        yield _TRAILER
