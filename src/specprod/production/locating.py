"""Which rows of a table differ from those of its files, in bounded memory.

Rows are known by hashes: of their keys, and of all their values. Of both sides only those are looked at together whose
hash of the key falls into one part; so many parts that the hashes of one fit into memory. Where they disagree, the rows
themselves are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from specprod.database.misfits import Misfits
from specprod.loading.pieces import FileLoad
from specprod.loading.rules import Slice
from specprod.model import table_of
from specprod.model.converting import Columns
from specprod.production.comparing import Compared
from specprod.production.differences import Difference, shown
from specprod.production.hashing import row_hashes
from specprod.survey.identifiers import comparable

__all__ = ["KEYS", "Excuse", "Found", "locate"]

#: Keys that are held at a time, some 40 bytes each.
KEYS = 5_000_000

#: Says which values that differ are as they should be nevertheless: given the keys, the column, what the file has, and
#: what the table has.
Excuse = Callable[[npt.NDArray[Any], str, npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[np.bool_]]


@dataclass
class Found:
    """What was found.

    Attributes
    ----------
    differences : list of Difference
        The first ones.
    extra : int
        Rows of the table that are in no file.
    excused : int
        Values that differ, and have an excuse.
    misfits : set of (str, str)
        Keys and columns of those whose value in the table its column cannot hold.
    """

    differences: list[Difference] = field(default_factory=list)
    extra: int = 0
    excused: int = 0
    misfits: set[tuple[str, str]] = field(default_factory=set)


def locate(
    compared: Compared, expected: int, limit: int, excuse: Excuse, *, keys: int = KEYS, unread: int = 0
) -> Found:
    """Find rows that are missing, different, or in no file.

    Parameters
    ----------
    compared : Compared
        Its columns include the key.
    expected : int
        Rows of the files, about.
    limit : int
        How many differences are wanted.
    excuse : callable
    keys : int
        How many keys are held at a time.
    unread : int
        Rows of the table that came from files that cannot be read; so many in no other file are as they should be.

    Raises
    ------
    InputError, DatabaseError
    """
    result = Found()
    parts = max(1, -(-expected // keys))
    extra: list[str] = []
    misfits = Misfits(limit)
    for part in range(parts):
        ours = _Part(compared, part, parts)
        misfits = Misfits(limit)
        result.extra += ours.look_up(limit, extra, misfits)
        if len(result.differences) < limit:
            for difference in _details(compared, ours, limit, excuse, result):
                result.differences.append(difference)
                if len(result.differences) >= limit:
                    break
    for misfit in misfits.first:
        if (misfit.key, misfit.column) not in result.misfits:
            what = f"the row with key {misfit.key} is in no file"
            result.differences.append(
                Difference(misfit.table, what, column=misfit.column, expected="has none", found=misfit.value)
            )
    if result.extra > unread:
        name = table_of(compared.table).name
        if unread:
            result.differences.append(Difference(name, f"{result.extra - unread} rows are in no file"))
        else:
            result.differences += [Difference(name, f"the row with key {key} is in no file") for key in extra]
    del result.differences[limit:]
    return result


class _Part:
    """The rows of files whose keys have hashes of one part.

    Parameters
    ----------
    compared : Compared
    part, parts : int
    """

    def __init__(self, compared: Compared, part: int, parts: int) -> None:
        self._compared = compared
        self._part, self._parts = np.uint64(part), np.uint64(parts)
        self.loads: list[FileLoad] = []
        keys, hashes, rows, files = [], [], [], []
        for item in compared.slices():
            if not self.loads or self.loads[-1] is not item.load:
                self.loads.append(item.load)
            key, chosen = self._keys(item.columns)
            keys.append(key[chosen])
            hashes.append(row_hashes(compared.values(item.columns))[chosen])
            rows.append(item.rows[chosen])
            files.append(np.full(rows[-1].size, len(self.loads) - 1, dtype=np.int32))
        none = np.empty(0, dtype=np.uint64)
        found = np.concatenate([none, *keys])
        order = np.argsort(found, kind="stable")
        self._key = found[order]
        self._hash = np.concatenate([none, *hashes])[order]
        self._row = np.concatenate([none.astype(np.int64), *rows])[order]
        self._file = np.concatenate([none.astype(np.int32), *files])[order]
        self._wrong = np.zeros(self._key.size, dtype=np.bool_)
        self._again = np.zeros(self._key.size, dtype=np.bool_)
        self._again[1:] = self._key[1:] == self._key[:-1]

    def _keys(self, columns: Columns) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """Hash keys, and say which belong to this part."""
        hashes = row_hashes({self._compared.key: columns[self._compared.key]})
        return hashes, hashes % self._parts == self._part

    def look_up(self, limit: int, extra: list[str], misfits: Misfits) -> int:
        """Read the table, note which rows are not as in the files, and count those that are in none."""
        compared = self._compared
        times = np.zeros(self._key.size, dtype=np.uint16)
        count = 0
        with compared.database.connect() as connection:
            for columns in compared.database.fetch(connection, compared.table, names=compared.names, misfits=misfits):
                keys, chosen = self._keys(columns)
                keys, hashes = keys[chosen], row_hashes(compared.values(columns))[chosen]
                place = np.searchsorted(self._key, keys)
                known = place < self._key.size
                known[known] = self._key[place[known]] == keys[known]
                np.add.at(times, place[known], 1)
                self._wrong[place[known][self._hash[place[known]] != hashes[known]]] = True
                count += int((~known).sum())
                values = comparable(columns[compared.key])[chosen][~known]
                extra += [key_text(value) for value in values[: max(0, limit - len(extra))].tolist()]
        self._wrong |= times != 1
        return count

    def _rows(self, load: FileLoad, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        rows: npt.NDArray[np.int64] = self._row[mask & (self._file == self.loads.index(load))]
        return rows

    def wrong(self, load: FileLoad) -> npt.NDArray[np.int64]:
        """Give the rows of a file that are not in the table as they should be."""
        # Of a key that several rows of the files have, the first is compared.
        return self._rows(load, self._wrong & ~self._again)

    def again(self, load: FileLoad) -> npt.NDArray[np.int64]:
        """Give the rows of a file that repeat a key."""
        return self._rows(load, self._again)


def _details(compared: Compared, part: _Part, limit: int, excuse: Excuse, result: Found) -> Iterator[Difference]:
    """Read the rows that are not as they should be once more, and say what is wrong with each."""
    wrong = {load: part.wrong(load) for load in part.loads}
    again = {load: part.again(load) for load in part.loads}
    if not any(rows.size for rows in (*wrong.values(), *again.values())):
        return
    with compared.database.connect() as connection:
        for item in compared.slices():
            for row in np.flatnonzero(np.isin(item.rows, again[item.load])).tolist():
                key = key_text(comparable(item.columns[compared.key][row : row + 1])[0])
                what = f"key {key} occurs in a row of the files before"
                yield Difference(table_of(compared.table).name, what, str(item.load.path), int(item.rows[row]))
            chosen = np.isin(item.rows, wrong[item.load])
            if chosen.any():
                columns = {name: values[chosen] for name, values in compared.values(item.columns).items()}
                yield from _compare(
                    compared, connection, Slice(item.load, item.rows[chosen], columns), limit, excuse, result
                )


def _compare(
    compared: Compared, connection: Connection, item: Slice, limit: int, excuse: Excuse, result: Found
) -> Iterator[Difference]:
    """Compare rows of a file with those of the table that have their keys."""
    table, misfits = table_of(compared.table).name, Misfits(limit)
    wanted = comparable(item.columns[compared.key])
    batches = list(compared.database.fetch(connection, compared.table, wanted, names=compared.names, misfits=misfits))
    there = {name: np.concatenate([batch[name] for batch in batches]) for name in compared.names} if batches else {}
    have = there.get(compared.key, np.empty(0, dtype=wanted.dtype))
    order = np.argsort(have, kind="stable")
    first = np.searchsorted(have, wanted, sorter=order)
    times = np.searchsorted(have, wanted, side="right", sorter=order) - first
    misfitting = {misfit.key for misfit in misfits.first}
    keys = [key_text(value) for value in wanted.tolist()]
    file = str(item.load.path)
    for misfit in misfits.first:
        if misfit.key in keys:
            place = keys.index(misfit.key)
            values = item.columns[misfit.column][place : place + 1]
            result.misfits.add((misfit.key, misfit.column))
            yield _difference(table, misfit.key, file, item.rows[place], misfit.column, values[0], misfit.value)
    for place in np.flatnonzero(times != 1).tolist():
        key, row = keys[place], int(item.rows[place])
        if times[place]:
            yield Difference(table, f"the row with key {key} is in the table {times[place]} times", file, row)
        elif key not in misfitting:
            yield Difference(table, f"the row with key {key} is missing", file, row)
    once = np.flatnonzero(times == 1)
    places = order[first[once]]
    for name in compared.names:
        expected, found = comparable(item.columns[name])[once], (there[name][places] if batches else have)
        differs = np.asarray(expected != found)
        if not differs.any():
            continue
        excused = excuse(wanted[once][differs], name, expected[differs], found[differs])
        result.excused += int(excused.sum())
        for i in np.flatnonzero(differs)[~excused].tolist():
            yield _difference(table, keys[once[i]], file, item.rows[once[i]], name, expected[i], shown(found[i]))


def _difference(table: str, key: str, file: str, row: Any, column: str, expected: Any, found: str) -> Difference:
    what = f"the row with key {key} differs"
    return Difference(table, what, file, int(row), column, shown(comparable(np.asarray([expected]))[0]), found)


def key_text(value: Any) -> str:
    """Write a key, without the zeros before it."""
    return str(int(value))
