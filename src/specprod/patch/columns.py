"""Columns of tables: which values are missing, how a value is replaced, which rows of two tables belong together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from astropy.table import Column, MaskedColumn, Table

from specprod.errors import MissingColumnError, ValueRejectedError

Bools: TypeAlias = npt.NDArray[np.bool_]
Rows: TypeAlias = npt.NDArray[np.int64]

_NAMED_ROWS = 10


def match_rows(left: npt.ArrayLike, right: npt.ArrayLike) -> tuple[Rows, Rows]:
    """Rows of `left` and rows of `right` that have equal values.

    Parameters
    ----------
    left, right : array_like, one-dimensional
        The keys, numbers or text. They may be a column of a table or made for the purpose. A masked key matches
        nothing.

    Returns
    -------
    tuple of numpy.ndarray of int64
        Row indexes into `left` and into `right`, of equal length: each pair of rows with equal keys is there once,
        in the order of the keys and, for equal keys, of the rows.
    """
    left_rows, left_keys = _sorted(left)
    right_rows, right_keys = _sorted(right)
    if left_keys.dtype.kind == "S" and right_keys.dtype.kind == "U":
        left_keys = left_keys.astype("U")
    if left_keys.dtype.kind == "U" and right_keys.dtype.kind == "S":
        right_keys = right_keys.astype("U")
    first = np.searchsorted(right_keys, left_keys, side="left")
    count = np.searchsorted(right_keys, left_keys, side="right") - first
    # Position of each pair within the run of right rows that its left row matches.
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(left_rows, count), right_rows[np.repeat(first, count) + within]


def _sorted(keys: npt.ArrayLike) -> tuple[Rows, npt.NDArray[Any]]:
    """Row indexes in the order of the keys, and the keys in that order, without the masked ones."""
    values = plain(keys)
    order = np.argsort(values, kind="stable")
    if isinstance(keys, np.ma.MaskedArray):
        order = order[~np.ma.getmaskarray(keys)[order]]
    return order, values[order]


def plain(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Values as a bare array, neither column nor masked; numpy before 2.0 takes no other for functions of text."""
    return np.asarray(np.ma.getdata(values))


def masked(column: Column) -> Bools:
    """Which values of a column are missing: masked, NaN, or text of nothing but blanks.

    Parameters
    ----------
    column : astropy.table.Column or MaskedColumn, shape (n,)

    Returns
    -------
    numpy.ndarray of bool, shape (n,)
    """
    values = plain(column)
    missing = np.ma.getmaskarray(column).copy() if isinstance(column, np.ma.MaskedArray) else None
    if values.dtype.kind == "f":
        blank = np.isnan(values)
    elif values.dtype.kind in "SU":
        blank = _blank(values)
    else:
        return np.zeros(values.shape, dtype=bool) if missing is None else missing
    return np.asarray(blank) if missing is None else missing | blank


def _blank(values: npt.NDArray[Any]) -> Bools:
    """Which texts are empty or of blanks."""
    # By their characters: comparing a million texts takes ten times longer.
    unit, width = (
        (np.uint8, values.dtype.itemsize) if values.dtype.kind == "S" else (np.uint32, values.dtype.itemsize // 4)
    )
    if width == 0:
        return np.ones(len(values), dtype=bool)
    characters = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="))).view(unit).reshape(-1, width)
    return np.asarray(((characters == 0) | (characters == ord(" "))).all(axis=1))


def is_text(column: Column, *texts: str) -> Bools:
    """Which values of a column of text, unicode or bytes, are one of `texts`; blanks at the end do not count."""
    values = plain(column)
    if values.dtype.kind not in "SU":
        return np.zeros(len(values), dtype=bool)
    candidates = [text.encode("ascii") for text in texts] if values.dtype.kind == "S" else list(texts)
    return np.isin(np.char.rstrip(values), candidates)


def scalar_columns(table: Table) -> list[str]:
    """Names of the columns with one value a row; no rule is about a vector."""
    return [name for name in table.colnames if table[name].ndim == 1]


def require_columns(table: Table, names: Iterable[str], what: str) -> None:
    """Raise if a table lacks a column.

    Raises
    ------
    MissingColumnError
        That names the first column that is absent.
    """
    for name in names:
        if name not in table.colnames:
            raise MissingColumnError(f"the table of {what} lacks this column", column=name)


def require_unique(keys: npt.ArrayLike, what: str, name: str) -> None:
    """Raise if a key is there more than once.

    Raises
    ------
    ValueRejectedError
        That names the rows of the first such keys.
    """
    values = plain(keys)
    distinct, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    if distinct.size < values.size:
        rows = np.flatnonzero(count[inverse.ravel()] > 1)
        raise ValueRejectedError(f"{what}: duplicate keys, in {name_rows(rows, values)}", column=name, row=int(rows[0]))


def name_rows(rows: npt.NDArray[Any], keys: npt.NDArray[Any]) -> str:
    """Say in a line which rows, with their keys; the first of many."""
    shown = ", ".join(f"row {row} ({keys[row]})" for row in rows[:_NAMED_ROWS].tolist())
    return shown if rows.size <= _NAMED_ROWS else f"{shown} and {rows.size - _NAMED_ROWS} more"


def put(table: Table, name: str, rows: Rows, values: npt.NDArray[Any], *, promote: bool = False) -> None:
    """Replace values of a column in place; they are no longer masked.

    Parameters
    ----------
    table : astropy.table.Table
        Its column is replaced by a wider one where text would not fit.
    name : str
        Column.
    rows : numpy.ndarray of int, shape (m,)
        Rows to replace.
    values : numpy.ndarray, shape (m,)
        New values, none of them masked.
    promote : bool, optional
        Whether a number that the type of the column cannot hold widens the column, as is right for CSV, where the type
        was guessed from the other rows. Otherwise it is an error.

    Raises
    ------
    ValueRejectedError
        If the column cannot hold a value.
    """
    column = table[name]
    values = plain(values)
    if promote and column.dtype.kind != values.dtype.kind and masked(column).all():
        # A column of nothing but empty cells has no type of its own.
        table.replace_column(
            name, MaskedColumn(np.ma.MaskedArray(np.zeros(len(table), values.dtype), True), **_attributes(column))
        )
    elif column.dtype.kind in "SU":
        values = _as_text(values, column, name, rows)
        if values.dtype.itemsize > column.dtype.itemsize:
            table.replace_column(name, type(column)(column.astype(values.dtype), **_attributes(column)))
    else:
        wider = _number_type(values, column, name, rows, promote)
        if wider != column.dtype:
            table.replace_column(name, type(column)(column.astype(wider), **_attributes(column)))
    table[name][rows] = values


def _attributes(column: Column) -> dict[str, Any]:
    return {key: getattr(column, key) for key in ("name", "unit", "format", "description", "meta")}


def _as_text(values: npt.NDArray[Any], column: Column, name: str, rows: Rows) -> npt.NDArray[Any]:
    """Turn the values into text of the column's kind, no wider than it needs to be."""
    if values.dtype.kind not in "SU":
        raise ValueRejectedError(f"{values[0]!s} is a number, expected text", column=name, row=int(rows[0]))
    if values.dtype.kind != column.dtype.kind:
        try:
            values = np.char.encode(values, "ascii") if column.dtype.kind == "S" else np.char.decode(values, "ascii")
        except UnicodeError as error:
            raise ValueRejectedError(f"text is not ASCII: {error}", column=name, row=int(rows[0])) from error
    width = max(1, int(np.char.str_len(values).max(initial=0)))
    return values.astype(f"{values.dtype.kind}{width}")


def _number_type(values: npt.NDArray[Any], column: Column, name: str, rows: Rows, promote: bool) -> np.dtype[Any]:
    """Find the type that the column must have to hold the values."""
    if values.dtype.kind not in "iufb":
        raise ValueRejectedError(f"{values[0]!s} is not a number", column=name, row=int(rows[0]))
    with np.errstate(over="ignore", invalid="ignore"):
        stored = values.astype(column.dtype)
    lossy = np.isfinite(stored) != np.isfinite(values) if column.dtype.kind == "f" else stored != values
    if not lossy.any():
        present: np.dtype[Any] = np.dtype(column.dtype)
        return present
    if promote:
        promoted: np.dtype[Any] = np.result_type(values.dtype, column.dtype)
        return promoted
    first = int(np.flatnonzero(lossy)[0])
    raise ValueRejectedError(f"cannot hold {values[first]} in {column.dtype.name}", column=name, row=int(rows[first]))
