"""Tables of SQLite as columns.

SQLite keeps any value in any column. Each column is taken as what it is declared to be, in one step that fails if a
value is something else; only then are its values looked at one by one.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from specprod.database.misfits import Misfit, Misfits, literal
from specprod.database.naming import Names
from specprod.database.sqlite.driver import sqlite_connection
from specprod.database.sqlite.values import as_rows
from specprod.model import SchemaMixin, table_of
from specprod.model.converting import Columns, database_dtype
from specprod.survey.identifiers import INT128

__all__ = ["fetch"]

#: Rows at a time: so few that the objects of Python that they are made of stay in the caches of the processor.
BATCH = 500

#: Makes an array of the values of a column, and raises ValueError or TypeError if one of them cannot be in it.
_Taker = Callable[[Sequence[Any]], npt.NDArray[Any]]


def fetch(
    names_of: Names,
    connection: Connection,
    cls: type[SchemaMixin],
    keys: npt.NDArray[Any] | None,
    names: Sequence[str] | None = None,
    misfits: Misfits | None = None,
    batch: int = BATCH,
) -> Iterator[Columns]:
    """Yield all rows of a table, or those of some keys, as `specprod.database.interface.Database.fetch` does."""
    table = table_of(cls)
    (key,) = table.primary_key.columns
    wanted = [item.name for item in table.columns] if names is None else list(names)
    source = f"SELECT {names_of.columns(wanted)} FROM {names_of.name(cls)}"
    parameters: tuple[str, ...] = ()
    if keys is not None:
        rows_of_keys, parameters = as_rows(keys)
        source += f" WHERE {names_of.quote(key.name)} IN (SELECT value FROM {rows_of_keys})"
    takers = {name: _taker(database_dtype(table.columns[name])) for name in wanted}
    cursor = sqlite_connection(connection).cursor()
    cursor.execute(source, parameters)
    while rows := cursor.fetchmany(batch):
        values = dict(zip(wanted, zip(*rows, strict=True), strict=True))
        columns, failed = _take(takers, values)
        if failed:
            bad = _bad_rows({name: takers[name] for name in failed}, values)
            good = np.flatnonzero(~np.logical_or.reduce(list(bad.values()))).tolist()
            shown = values.get(key.name, ("?",) * len(rows))
            found = (
                Misfit(table.name, name, _shown(shown[row]), literal(values[name][row]))
                for name, mask in bad.items()
                for row in np.flatnonzero(mask).tolist()
            )
            (misfits or Misfits()).take(np.logical_or.reduce(list(bad.values())), found)
            if not good:
                continue
            columns, _ = _take(takers, {name: [column[row] for row in good] for name, column in values.items()})
        yield columns


def _shown(key: Any) -> str:
    """Write a key for a message: a number without the zeros before it."""
    return key.lstrip("0") or key if isinstance(key, str) else literal(key)


def _take(takers: dict[str, _Taker], values: Mapping[str, Sequence[Any]]) -> tuple[Columns, list[str]]:
    """Take columns, and name those that hold what they cannot."""
    columns: Columns = {}
    failed = []
    for name, take in takers.items():
        try:
            columns[name] = take(values[name])
        except (TypeError, ValueError, OverflowError):
            failed.append(name)
    return columns, failed


def _bad_rows(takers: dict[str, _Taker], values: Mapping[str, Sequence[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
    """Find the rows whose values columns cannot hold, value by value."""
    return {
        name: np.array([bool(_take({name: take}, {name: (value,)})[1]) for value in values[name]])
        for name, take in takers.items()
    }


def _taker(dtype: np.dtype[Any]) -> _Taker:
    if dtype == INT128:
        return _numerals
    if dtype.kind == "S":
        return _texts
    if dtype.kind == "M":
        return _moments
    if dtype.kind == "b":
        return _booleans
    return partial(_integers if dtype.kind == "i" else _floats, dtype)


def _integers(dtype: np.dtype[Any], values: Sequence[Any]) -> npt.NDArray[Any]:
    # An array of the standard library takes integers only, and does so in half of the time that numpy needs.
    wide = np.frombuffer(array("q", values), dtype=np.int64)
    narrow = wide.astype(dtype, copy=False)
    if dtype.itemsize < 8 and (narrow != wide).any():
        raise OverflowError
    return narrow


def _floats(dtype: np.dtype[Any], values: Sequence[Any]) -> npt.NDArray[Any]:
    wide = np.frombuffer(array("d", values), dtype=np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype, copy=False)
    if dtype.itemsize < 8 and (narrow != wide).any():
        raise OverflowError
    return narrow


def _booleans(values: Sequence[Any]) -> npt.NDArray[np.bool_]:
    numbers = np.frombuffer(array("q", values), dtype=np.int64)
    if ((numbers & 1) != numbers).any():
        raise ValueError
    return numbers.astype(np.bool_)


def _texts(values: Sequence[Any]) -> npt.NDArray[np.bytes_]:
    joined = "".join(values)
    # numpy takes zeros at the end of a text for none.
    if "\0" in joined:
        raise ValueError
    if joined.isascii():
        return np.array(values, dtype="S") if joined else np.zeros(len(values), dtype="S1")
    return np.array([value.encode() for value in values], dtype="S")


def _fixed(values: Sequence[Any], width: int) -> npt.NDArray[np.bytes_]:
    """Take texts of one length."""
    joined = "".join(values).encode("ascii")
    if set(map(len, values)) != {width}:
        raise ValueError
    return np.frombuffer(joined, dtype=f"S{width}")


def _numerals(values: Sequence[Any]) -> npt.NDArray[np.bytes_]:
    texts = _fixed(values, 39)
    digits = texts.view(np.uint8)
    if digits.min() < ord("0") or digits.max() > ord("9"):
        raise ValueError
    return texts


def _moments(values: Sequence[Any]) -> npt.NDArray[np.datetime64]:
    # 2026-11-21 18:00:00.000000
    return _fixed(values, 26).astype("datetime64[us]")
