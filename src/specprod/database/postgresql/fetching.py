"""Tables of PostgreSQL as columns: binary COPY, the reverse of the writer.

Numbers come first, so that all rows begin with the same layout, which numpy parses; texts, of any length, follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Table

from specprod.database.misfits import Misfit, Misfits
from specprod.database.naming import Names
from specprod.database.postgresql.driver import psycopg_connection
from specprod.database.postgresql.values import array_literal
from specprod.model import SchemaMixin, table_of
from specprod.model.casting import Array
from specprod.model.converting import Columns, database_dtype
from specprod.survey.identifiers import INT128

__all__ = ["fetch"]

#: Rows at a time: so few that what is made of them stays in the caches of the processor.
BATCH = 1000
_EPOCH = np.datetime64("2000-01-01", "us")
#: Bytes before the first row: signature, flags, length of an extension that there is none of.
_HEADER = 19
_TRAILER = b"\xff\xff"


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
    layout = _Layout(table, [item.name for item in table.columns] if names is None else list(names), names_of)
    source = f"SELECT {', '.join(layout.expressions)} FROM {names_of.name(cls)}"
    if keys is not None:
        (key,) = table.primary_key.columns
        # COPY takes no parameters.
        source += f" WHERE {names_of.quote(key.name)} = ANY('{array_literal(keys)}')"
    with (
        psycopg_connection(connection).cursor() as cursor,
        cursor.copy(f"COPY ({source}) TO STDOUT (FORMAT BINARY)".encode()) as copy,
    ):
        stream = iter(copy)
        # The signature comes with the first row, or with the trailer of an empty table. The stream is read to its end,
        # however many rows there are: left before, it is an error.
        rows = [next(stream)[_HEADER:], *islice(stream, batch - 1)]
        while rows:
            if rows[-1] == _TRAILER:
                rows.pop()
            if rows:
                columns = layout.parse(rows, misfits or Misfits())
                if len(next(iter(columns.values()))):
                    yield columns
            rows = list(islice(stream, batch))


class _Layout:
    """How the rows of a table stand in the stream.

    Attributes
    ----------
    expressions : list of str
        What is selected.
    """

    def __init__(self, table: Table, names: list[str], names_of: Names) -> None:
        self._table = table.name
        (self._key,) = (item.name for item in table.primary_key.columns)
        self._names = names
        self._dtypes = {name: database_dtype(table.columns[name]) for name in names}
        self._texts = [name for name in names if self._dtypes[name].kind == "S"]
        fixed = [name for name in names if name not in self._texts]
        fields: list[tuple[str, str]] = [("fields", ">i2")]
        self._lengths = {}
        for name in fixed:
            kind = _kind(self._dtypes[name])
            fields += [(f"length {name}", ">i4"), (name, kind)]
            self._lengths[name] = np.dtype(kind).itemsize
        self._dtype = np.dtype(fields)
        numerals = [name for name in fixed if self._dtypes[name] == INT128]
        self.expressions = [
            f"lpad({names_of.quote(name)}::text, 39, '0')" if name in numerals else names_of.quote(name)
            for name in [*fixed, *self._texts]
        ]

    def parse(self, rows: Sequence[Any], misfits: Misfits) -> Columns:
        """Make columns of rows."""
        size = self._dtype.itemsize
        # A NULL has no bytes: what follows it stands elsewhere, and its row may be shorter than all that comes first.
        heads = np.frombuffer(b"".join([bytes(row[:size]).ljust(size, b"\0") for row in rows]), dtype=self._dtype)
        good = np.ones(heads.size, dtype=np.bool_)
        for name, bytes_of_value in self._lengths.items():
            good &= heads[f"length {name}"] == bytes_of_value
        rows, heads = self._without_nulls(rows, heads, good, misfits)
        texts, lengths = self._parse_texts([row[size:] for row in rows])
        good = np.ones(heads.size, dtype=np.bool_)
        for length in lengths.values():
            good &= length >= 0
        rows, heads = self._without_nulls(rows, heads, good, misfits)
        texts = {name: values[good] for name, values in texts.items()} if not good.all() else texts
        return {name: texts[name] if name in texts else self._numbers(name, heads) for name in self._names}

    def _without_nulls(
        self, rows: Sequence[Any], heads: npt.NDArray[Any], good: npt.NDArray[np.bool_], misfits: Misfits
    ) -> tuple[Sequence[Any], npt.NDArray[Any]]:
        """Leave the rows out that have a NULL, and take note of them."""
        if good.all():
            return rows, heads
        self._note_nulls([row for row, well in zip(rows, good.tolist(), strict=True) if not well], misfits)
        return [row for row, well in zip(rows, good.tolist(), strict=True) if well], heads[good]

    def _numbers(self, name: str, heads: npt.NDArray[Any]) -> Array:
        values, dtype = heads[name], self._dtypes[name]
        if dtype == INT128:
            return np.ascontiguousarray(values)
        return _EPOCH + values.astype("timedelta64[us]") if dtype.kind == "M" else values.astype(dtype)

    def _parse_texts(self, tails: Sequence[Any]) -> tuple[Columns, dict[str, npt.NDArray[np.int32]]]:
        """Take texts out of the rest of rows, and give their lengths, which are negative for NULL."""
        if not self._texts:
            return {}, {}
        sizes = np.fromiter(map(len, tails), dtype=np.int64, count=len(tails))
        starts = np.cumsum(sizes) - sizes
        # Room behind the last text for a gap as wide as the widest.
        stream = np.frombuffer(b"".join([*tails, bytes(4 + int(sizes.max(initial=0)))]), dtype=np.uint8)
        texts: Columns = {}
        lengths = {}
        for name in self._texts:
            length = stream[starts[:, None] + np.arange(4)].view(">i4").ravel().astype(np.int32)
            starts = starts + 4
            shown = np.maximum(length, 0)
            width = max(int(shown.max(initial=0)), 1)
            letters = stream[np.minimum(starts[:, None] + np.arange(width), stream.size - 1)]
            letters[np.arange(width) >= shown[:, None]] = 0
            texts[name], lengths[name] = letters.view(f"S{width}").ravel(), length
            starts = starts + shown
        return texts, lengths

    def _note_nulls(self, rows: Sequence[Any], misfits: Misfits) -> None:
        """Name the columns of rows that are NULL: the only values that this database lets into a wrong column."""
        found = []
        for row in map(bytes, rows):
            place, values = 2, {}
            for name in [*self._lengths, *self._texts]:
                length = int.from_bytes(row[place : place + 4], "big", signed=True)
                values[name] = row[place + 4 : place + 4 + length] if length >= 0 else None
                place += 4 + max(length, 0)
            key = self._key_of(values.get(self._key))
            found += [Misfit(self._table, name, key, "NULL") for name, value in values.items() if value is None]
        misfits.take(np.ones(len(rows), dtype=np.bool_), found)

    def _key_of(self, value: bytes | None) -> str:
        if value is None:
            return "NULL"
        if self._dtypes[self._key] == INT128:
            return value.decode().lstrip("0") or "0"
        return str(int.from_bytes(value, "big", signed=True))


def _kind(dtype: np.dtype[Any]) -> str:
    """Give the type that a number has in the stream."""
    if dtype == INT128:
        return "S39"
    return {"M": ">i8", "b": "?"}.get(dtype.kind, dtype.newbyteorder(">").str)
