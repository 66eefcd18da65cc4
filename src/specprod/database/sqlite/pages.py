"""Columns as the pages of an SQLite database, without a loop over rows.

SQLite copies rows between tables of the same columns as they are, without looking into them. A small database that
holds nothing but the rows to be inserted can be made by numpy, as all rows whose texts have the same lengths have the
same layout; SQLite takes it from memory, and copies. The layout is that of https://www.sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Table
from sqlalchemy.dialects import sqlite

from specprod.database.grouping import filled, groups_of_equal_lengths
from specprod.errors import DatabaseError
from specprod.model.casting import Array, text_lengths
from specprod.model.converting import Columns
from specprod.survey.identifiers import INT128, as_decimal_text

__all__ = ["PagePacker"]

_PAGE = 32768
_LEAF, _INTERIOR = 0x0D, 0x05
# Numbers of rows from here on, below 2 << 20, take three bytes each.
_FIRST_ROW = 1 << 14
_MOST_ROWS = 1 << 20
# What an entry of the root takes at most: a pointer of two bytes, the number of a page, and that of its last row.
_MOST_PAGES = (_PAGE - 12) // (2 + 4 + 9)


def _stored_text(values: Array) -> Array:
    """Turn a column that SQLite stores as text, though it is none, into that text; leave others as they are."""
    if values.dtype == INT128:
        return as_decimal_text(values)
    if values.dtype.kind == "M":
        text = np.datetime_as_string(values, unit="us").astype("S26")
        text.view("S1").reshape(-1, 26)[:, 10] = b" "
        return text
    return values


class PagePacker:
    """Packs columns of a table into databases that SQLite can take from memory.

    Parameters
    ----------
    table : sqlalchemy.Table
    key : str, optional
        The column that is the number of the row, where SQLite has it so.

    Attributes
    ----------
    empty : bytes
        The database without rows.
    """

    def __init__(self, table: Table, key: str | None) -> None:
        self._names = [item.name for item in table.columns]
        self._key = key
        dialect = sqlite.dialect()
        quote = dialect.identifier_preparer.quote_identifier
        kinds = {item.name: f"{item.type.compile(dialect)} NOT NULL" for item in table.columns}
        if key is not None:
            kinds[key] = "INTEGER NOT NULL PRIMARY KEY"
        columns = ", ".join(f"{quote(name)} {kind}" for name, kind in kinds.items())
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.execute(f"PRAGMA page_size = {_PAGE}")
            connection.execute(f"CREATE TABLE piece ({columns})")
            # Its header and its schema, then the root of the table.
            self.empty = connection.serialize()
        self._template = np.frombuffer(self.empty, dtype=np.uint8).reshape(2, _PAGE)

    def pack(self, columns: Columns) -> list[memoryview]:
        """Pack columns.

        Parameters
        ----------
        columns : dict of str to numpy.ndarray, each of shape (n,)
            The columns of the table, of the types of `specprod.model.converting.database_dtype`.

        Returns
        -------
        list of memoryview
            Databases with a table ``piece``, which has the columns of the table.

        Raises
        ------
        DatabaseError
            If a row is longer than a page.
        """
        rows = len(next(iter(columns.values())))
        if not rows:
            return []
        fields = {name: _field(_stored_text(columns[name])) for name in self._names}
        if self._key is not None:
            fields[self._key] = _Field(0, np.empty((rows, 0), dtype=np.uint8))
        groups = self._groups(fields, None if self._key is None else columns[self._key].astype(np.int64), rows)
        # Rows have the order of their numbers: with numbers of their own, groups would have to be mixed.
        together = [[group] for group in groups] if self._key is not None else [groups]
        if rows > _MOST_ROWS or max(sum(group.pages for group in image) for image in together) > _MOST_PAGES:
            parts = (slice(0, rows // 2), slice(rows // 2, rows))
            return [image for part in parts for image in self.pack({n: v[part] for n, v in columns.items()})]
        return [self._image(image, fields) for image in together]

    def _groups(self, fields: dict[str, _Field], keys: npt.NDArray[np.int64] | None, rows: int) -> list[_Group]:
        """Find the rows that have one layout, and number them."""
        texts = {name: field.lengths for name, field in fields.items() if field.lengths is not None}
        sizes = np.full(rows, 3) if keys is None else _varint_sizes(keys)
        groups, row = [], _FIRST_ROW
        for chosen, (size, *lengths) in groups_of_equal_lengths([sizes, *texts.values()]):
            if keys is None:
                taken = chosen
                count = rows if isinstance(chosen, slice) else chosen.size
                numbers = np.arange(row, row + count)
                row += count
            else:
                numbers = keys[chosen]
                order = np.argsort(numbers, kind="stable")
                numbers = numbers[order]
                taken = order if isinstance(chosen, slice) else chosen[order]
            groups.append(_Group(fields, dict(zip(texts, lengths, strict=True)), taken, _varints(numbers, size)))
        return groups

    def _image(self, groups: list[_Group], fields: dict[str, _Field]) -> memoryview:
        """Make a database of groups of rows."""
        pages = sum(group.pages for group in groups)
        image = np.empty(((1 if pages == 1 else 2) + pages, _PAGE), dtype=np.uint8)
        image[:2] = self._template
        image[0, 28:32] = list(struct.pack(">I", len(image)))
        page = len(image) - pages
        for group in groups:
            _fill_leaves(image[page : page + group.pages], group.cells(fields), group.rows_per_page)
            page += group.pages
        if pages > 1:
            _fill_root(image[1], np.concatenate([group.last_numbers for group in groups]))
        return image.reshape(-1).data


@dataclass(frozen=True)
class _Field:
    """A column: the code of its type in a record, its values as bytes, and the lengths of texts."""

    code: int
    values: Array
    lengths: npt.NDArray[np.int64] | None = None

    @property
    def width(self) -> int:
        """Bytes of a number."""
        return self.values.dtype.itemsize if self.values.ndim == 1 else 0


def _field(values: Array) -> _Field:
    """Give numbers the fewest bytes that hold all of them, big-endian."""
    kind = values.dtype.kind
    if kind == "S":
        return _Field(13, values, text_lengths(values))
    first = values[0]
    if first in (0, 1) and (values == first).all() and not np.signbit(values).any():
        # 0 and 1 have codes of their own, and no bytes.
        return _Field(8 + int(first), np.empty((values.size, 0), dtype=np.uint8))
    if kind == "f":
        return _Field(7, values.astype(">f8").view("V8"))
    smallest, largest = values.min(), values.max()
    codes = {1: 1, 2: 2, 4: 4, 8: 6}
    size = next(size for size in codes if -(1 << 8 * size - 1) <= int(smallest) and int(largest) < 1 << 8 * size - 1)
    return _Field(codes[size], values.astype(f">i{size}").view(f"V{size}"))


class _Group:
    """Rows of one layout.

    Parameters
    ----------
    fields : dict
        Columns.
    lengths : dict of str to int
        Of their texts.
    chosen : slice or array of int
        The rows.
    numbers : numpy.ndarray of uint8, shape (n, size)
        Their numbers, encoded.
    """

    def __init__(
        self,
        fields: dict[str, _Field],
        lengths: dict[str, int],
        chosen: slice | npt.NDArray[np.intp],
        numbers: npt.NDArray[np.uint8],
    ) -> None:
        self._chosen = chosen
        self._numbers = numbers
        codes = b"".join(_varint(field.code + 2 * lengths.get(name, 0)) for name, field in fields.items())
        # The size of the header counts itself.
        size = len(codes) + 1
        self._header = _varint(size if size < 0x80 else size + 1) + codes
        widths = {name: lengths.get(name, field.width) for name, field in fields.items()}
        self._widths = {name: width for name, width in widths.items() if width}
        self._length = _varint(len(self._header) + sum(widths.values()))
        parts: list[Any] = [("length", f"V{len(self._length)}"), ("number", "u1", (numbers.shape[1],))]
        parts += [("header", f"V{len(self._header)}")]
        parts += [(f"value {name}", f"V{width}") for name, width in self._widths.items()]
        self._dtype = np.dtype(parts)
        if self._dtype.itemsize > _PAGE - 64:
            raise DatabaseError(f"a row of {self._dtype.itemsize} bytes does not fit a page of {_PAGE}")
        self.rows_per_page = (_PAGE - 8) // (self._dtype.itemsize + 2)
        self.pages = -(-len(numbers) // self.rows_per_page)

    @property
    def last_numbers(self) -> npt.NDArray[np.void]:
        """Numbers of the last rows of the pages, encoded, as single values whatever their size."""
        last = np.minimum(np.arange(1, self.pages + 1) * self.rows_per_page, len(self._numbers)) - 1
        return np.ascontiguousarray(self._numbers[last]).view(f"V{self._numbers.shape[1]}").ravel()

    def cells(self, fields: dict[str, _Field]) -> npt.NDArray[Any]:
        """Make what stands in the pages for each row."""
        template = np.zeros((), dtype=self._dtype)
        template["length"], template["header"] = np.void(self._length), np.void(self._header)
        cells = filled(len(self._numbers), template)
        cells["number"] = self._numbers
        for name, width in self._widths.items():
            values = fields[name].values[self._chosen]
            if fields[name].lengths is not None:
                values = values.astype(f"S{width}").view(f"V{width}")
            cells[f"value {name}"] = values
        return cells


def _varint(value: int) -> bytes:
    """Encode a small number as SQLite does: seven bits a byte, the highest bit set in all but the last."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))


def _varint_sizes(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bytes that numbers take; negative ones, and those from 2**56 on, take nine."""
    limits = np.array([1 << 7 * size for size in range(1, 9)])
    return np.where(values < 0, 9, np.searchsorted(limits, values, side="right") + 1)


def _varints(values: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.uint8]:
    """Encode numbers that take so many bytes; the ninth byte has eight bits of the number, all others seven."""
    result = np.empty((values.size, size), dtype=np.uint8)
    if size == 9:
        result[:, 8] = values & 0xFF
        values = values >> 8
    for place in range(min(size, 8)):
        last = place == size - 1
        result[:, place] = (values >> 7 * (min(size, 8) - 1 - place)) & 0x7F | (0 if last else 0x80)
    return result


def _fill_leaves(pages: npt.NDArray[np.uint8], cells: npt.NDArray[Any], rows_per_page: int) -> None:
    """Distribute cells over pages: their number, pointers to them, then the cells, at the end of the page."""
    size = cells.dtype.itemsize
    flat = cells.view(np.uint8)
    full, rest = divmod(cells.size, rows_per_page)
    for part, count, begin in ((pages[:full], rows_per_page, 0), (pages[full:], rest, full * rows_per_page * size)):
        if len(part):
            start = _PAGE - count * size
            head = struct.pack(">BHHHB", _LEAF, 0, count, start, 0) + _pointers(start, size, count)
            part[:, : len(head)] = np.frombuffer(head, dtype=np.uint8)
            part[:, start:] = flat[begin : begin + len(part) * count * size].reshape(len(part), count * size)


def _fill_root(page: npt.NDArray[np.uint8], last_numbers: npt.NDArray[np.void]) -> None:
    """Make the page that leads to the leaves, which begin with the third page; the last needs no number."""
    count = last_numbers.size - 1
    cells = np.empty(count, dtype=[("page", ">u4"), ("number", last_numbers.dtype)])
    cells["page"] = np.arange(3, 3 + count)
    cells["number"] = last_numbers[:-1]
    size = cells.dtype.itemsize
    start = _PAGE - size * count
    head = struct.pack(">BHHHBI", _INTERIOR, 0, count, start, 0, 3 + count) + _pointers(start, size, count)
    page[: len(head)] = np.frombuffer(head, dtype=np.uint8)
    page[start:] = cells.view(np.uint8)


def _pointers(start: int, size: int, count: int) -> bytes:
    return (start + size * np.arange(count)).astype(">u2").tobytes()
