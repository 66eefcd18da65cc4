"""Whether a database equals the files that were loaded into it, value by value.

Each row has a hash of all its values, and a table the sum of these, which depends on no order and takes no memory.
Files and table are read at the same time. Only where the sums differ are rows looked up by their keys, to say which
differ.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specprod.database.keys import missing_keys, orphans
from specprod.database.schema import existing_tables
from specprod.files.tree import relative_name
from specprod.loading.again import slices_of_files
from specprod.loading.known import Parents, keys_of_files
from specprod.loading.pieces import FileLoad
from specprod.loading.rules import Known, Slice
from specprod.model import SchemaMixin, Zpix, Ztile, table_of
from specprod.model.converting import Columns, Rejects
from specprod.production.job import stage_loads
from specprod.results.base import State
from specprod.results.orm import OrmPipelineResultsStorage
from specprod.stages import STAGE_NAMES
from specprod.survey.identifiers import comparable

if TYPE_CHECKING:
    from specprod.database.connection import Database
    from specprod.files.tree import ProductionTree

__all__ = ["Difference", "TableReport", "row_hashes", "verify"]

logger = logging.getLogger(__name__)

_COMPUTED = ("sv_nspec", "sv_primary", "main_nspec", "main_primary", "zcat_nspec", "zcat_primary")


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it should be.

    Attributes
    ----------
    table, what : str
    file, column : str or None
    row : int or None
        Row in the file.
    expected, found : str or None
        Values in the file and in the database.
    """

    table: str
    what: str
    file: str | None = None
    row: int | None = None
    column: str | None = None
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}, row {self.row}: " if self.file else ""
        values = f", column {self.column}: file {self.expected}, database {self.found}" if self.column else ""
        return f"{self.table}: {place}{self.what}{values}"


@dataclass
class TableReport:
    """What was found of a table.

    Attributes
    ----------
    table : str
    files : int
        Files that were compared.
    expected, found : int
        Rows in the files, and in the table.
    differences : list of Difference
        The first ones.
    """

    table: str
    files: int = 0
    expected: int = 0
    found: int = 0
    differences: list[Difference] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A file that was loaded: the ranges of rows that count, and how many of these were left out."""

    load: FileLoad
    ranges: Sequence[tuple[int, int]]
    rejected: int


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
                factor = np.uint64(
                    (0x9E3779B97F4A7C15 * (2 * (number * 64 + place) + 1)) & 0xFFFFFFFFFFFFFFFF
                ) | np.uint64(1)
                mixed = (word ^ (word >> np.uint64(31))) * factor
                total += mixed ^ (mixed >> np.uint64(29))
        total = (total ^ (total >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        total = (total ^ (total >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return total ^ (total >> np.uint64(31))


def verify(
    database: Database, tree: ProductionTree, *, stages: Sequence[str] = STAGE_NAMES, limit: int = 10
) -> list[TableReport]:
    """Compare a database with the files that its ledger names.

    Parameters
    ----------
    database : Database
    tree : ProductionTree
        Where the files stand now.
    stages : sequence of str
        Some of `specprod.stages.STAGE_NAMES`.
    limit : int
        How many differences of a table are looked for.

    Returns
    -------
    list of TableReport
        A table without differences equals its files, and has all its keys, indexes and references.

    Raises
    ------
    InputError, DatabaseError
    """
    ledger: dict[tuple[str, str], list[tuple[int, int]]] = {}
    rejected: dict[tuple[str, str], int] = {}
    for item in OrmPipelineResultsStorage(database).get_task_results(state=str(State.DONE)):
        place = (item.table_name or "", item.file or "")
        ledger.setdefault(place, []).append((item.first_row or 0, item.last_row or 0))
        rejected[place] = rejected.get(place, 0) + (item.rejected or 0)
    loads: dict[type[SchemaMixin], list[_Loaded]] = {}
    for stage in (stage for stage in STAGE_NAMES if stage in stages):
        for load in stage_loads(stage, tree, database):
            place = (table_of(load.table).name, relative_name(load.path, tree.root))
            if place in ledger:
                loads.setdefault(load.table, []).append(_Loaded(load, sorted(ledger[place]), rejected[place]))
    reports = []
    for cls, items in loads.items():
        reports.append(_verify_table(database, tree, cls, items, limit))
        _check_keys(database, cls, reports[-1])
    return reports


def _columns_to_compare(tree: ProductionTree, cls: type[SchemaMixin]) -> list[str]:
    """Names of the columns whose values come from the files; which spectra are primary may have been computed."""
    names = [item.name for item in table_of(cls).columns]
    if cls in (Zpix, Ztile) and not tree.redshifts(table_of(cls).name)[1]:
        return [name for name in names if name not in _COMPUTED]
    return names


def _verify_table(
    database: Database,
    tree: ProductionTree,
    cls: type[SchemaMixin],
    items: Sequence[_Loaded],
    limit: int,
) -> TableReport:
    names = _columns_to_compare(tree, cls)
    report = TableReport(table_of(cls).name, files=len(items))

    left_out: dict[str, int] = {}

    def of_files() -> tuple[int, int]:
        return _digest(piece.columns for piece in _slices(database, cls, items, left_out))

    def of_database() -> tuple[int, int]:
        with database.connect() as connection:
            return _digest(database.fetch(connection, cls))

    def _digest(batches: Iterator[Columns]) -> tuple[int, int]:
        rows = digest = 0
        for columns in batches:
            hashes = row_hashes({name: columns[name] for name in names})
            rows += hashes.size
            digest = (digest + int(np.add.reduce(hashes))) & 0xFFFFFFFFFFFFFFFF
        return rows, digest

    with ThreadPoolExecutor(2) as pool:
        files, found = pool.submit(of_files), pool.submit(of_database)
        report.expected, report.found = files.result()[0], found.result()[0]
        same = files.result() == found.result()
    if not same:
        report.differences += _locate(database, cls, items, names, limit)
    for item in items:
        if left_out[str(item.load.path)] != item.rejected:
            what = f"{left_out[str(item.load.path)]} rows violate a rule, but {item.rejected} were rejected by the load"
            report.differences.append(Difference(report.table, what, str(item.load.path)))
    return report


def _slices(
    database: Database, cls: type[SchemaMixin], items: Sequence[_Loaded], left_out: dict[str, int]
) -> Iterator[Slice]:
    """Read the rows that files gave, by the rules of a load, and count those that were left out."""
    found = {item.load: Rejects() for item in items}
    with contextlib.ExitStack() as stack:
        known: list[Known] = []
        if any(item.rejected for item in items):
            # Rows that repeat a key or refer to none were left out; the database says which.
            connection = stack.enter_context(database.connect())
            transaction = connection.begin()
            stack.callback(transaction.rollback)
            keys = keys_of_files(database, connection, cls, [item.load for item in items])
            known = [stack.enter_context(keys), Parents(database, connection, cls)]
        yield from slices_of_files([(item.load, item.ranges) for item in items], lambda load: found[load], known)
    for load, rejects in found.items():
        left_out[str(load.path)] = len({row for row, *_ in rejects.rows})


def _locate(
    database: Database, cls: type[SchemaMixin], items: Sequence[_Loaded], names: list[str], limit: int
) -> list[Difference]:
    """Find rows that are missing, different, or in no file."""
    table = table_of(cls)
    (key,) = (item.name for item in table.primary_key.columns)
    found: list[Difference] = []
    keys = []
    with database.connect() as connection:
        for piece in _slices(database, cls, items, {}):
            load, rows, columns = piece.load, piece.rows, piece.columns
            wanted = comparable(columns[key])
            keys.append(wanted)
            if len(found) >= limit:
                continue
            batches = list(database.fetch(connection, cls, wanted))
            there = {name: np.concatenate([batch[name] for batch in batches]) for name in names} if batches else {}
            found += _compare(table.name, key, load, rows, columns, there, names)
        every = np.concatenate(keys) if keys else np.empty(0)
        repeated = np.unique(every, return_counts=True)
        for value in repeated[0][repeated[1] > 1][:limit].tolist():
            found.append(Difference(table.name, f"key {_text(value)} occurs in several rows of the files"))
        for batch in database.fetch(connection, cls):
            if len(found) >= limit:
                break
            for value in batch[key][~np.isin(batch[key], every)][:limit].tolist():
                found.append(Difference(table.name, f"the row with key {_text(value)} is in no file"))
    return found[:limit] or [Difference(table.name, "rows occur several times")]


def _compare(
    table: str,
    key: str,
    load: FileLoad,
    rows: npt.NDArray[np.int64],
    columns: Columns,
    there: Columns,
    names: list[str],
) -> Iterator[Difference]:
    wanted = comparable(columns[key])
    have = there.get(key, np.empty(0, dtype=wanted.dtype))
    order = np.argsort(have)
    place = np.searchsorted(have, wanted, sorter=order)
    place = np.where(place < have.size, place, 0)
    present = have[order][place] == wanted if have.size else np.zeros(wanted.size, dtype=np.bool_)
    for row, value in zip(rows[~present].tolist(), wanted[~present].tolist(), strict=True):
        yield Difference(table, f"the row with key {_text(value)} is missing", str(load.path), row)
    for name in names if present.any() else ():
        expected, found = comparable(columns[name])[present], there[name][order][place[present]]
        for i in np.flatnonzero(expected != found).tolist():
            yield Difference(
                table,
                f"the row with key {_text(wanted[present][i])} differs",
                str(load.path),
                int(rows[present][i]),
                name,
                _text(expected[i]),
                _text(found[i]),
            )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _check_keys(database: Database, cls: type[SchemaMixin], report: TableReport) -> None:
    """Look for keys, indexes and references that are missing, and for rows that refer to none."""
    with database.connect() as connection:
        if cls not in existing_tables(database, connection, [cls]):
            report.differences.append(Difference(report.table, "the table is missing"))
            return
        for name in missing_keys(database, connection, cls):
            report.differences.append(Difference(report.table, f"index or key {name} is missing"))
        report.differences += [Difference(report.table, text) for text in orphans(database, connection, cls)]
