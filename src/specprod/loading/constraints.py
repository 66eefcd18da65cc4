"""Rules that only the whole table can tell: keys that occur once, and references to rows that are there.

Across chunks it is the key itself, built after the rows, that tells whether one is repeated. Then the files are read
once more, to say which rows it is, and the table is put right: with a file for rejects such rows are left out,
without it the table goes back to what it held before the chunk of the first of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import Connection

from specprod.database.temporary import temporary_values
from specprod.errors import ConstraintError, LedgerError
from specprod.files.tables import TableReader
from specprod.loading.again import slices_of_files
from specprod.loading.interfaces import Ledger
from specprod.loading.pieces import FileLoad
from specprod.loading.rejects import RejectFile
from specprod.loading.rules import Slice
from specprod.model import Int128, SchemaMixin, table_of
from specprod.model.converting import Columns, Rejects
from specprod.survey.identifiers import as_comparable, comparable

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["delete_orphans", "settle_duplicates"]


def _loaded(ledger: Ledger, loads: Sequence[FileLoad]) -> Iterator[Slice]:
    """Read the rows again that the ledger has of files.

    Rows that were rejected when they were loaded are so again; more of them than the ledger knows of are an error.
    """
    found: dict[FileLoad, Rejects] = {}

    def compare(load: FileLoad, _: TableReader) -> None:
        rows = len({row for row, *_ in found[load].rows})
        if rows > ledger.rejected(load):
            row, column, reason = found[load].rows[0]
            raise LedgerError(
                f"has changed since it was loaded: {reason}", file=load.path, hdu=load.hdu_name, column=column, row=row
            )

    items = [(load, ranges) for load in loads if (ranges := ledger.ranges(load))]
    yield from slices_of_files(items, lambda load: found.setdefault(load, Rejects()), done=compare)


def _repeated_keys(connection: Connection, cls: type[SchemaMixin]) -> npt.NDArray[Any]:
    """Find the keys that occur in several rows of a table, in the form of `comparable`."""
    (key,) = table_of(cls).primary_key.columns
    values = connection.scalars(sa.select(key).group_by(key).having(sa.func.count() > 1)).all()
    return as_comparable(values, wide=isinstance(key.type, Int128))


def _delete(database: Database, connection: Connection, cls: type[SchemaMixin], keys: npt.NDArray[Any]) -> int:
    """Delete rows by their keys, in one pass: a table without its key has no index to find them by."""
    (name,) = (item.name for item in table_of(cls).primary_key.columns)
    with temporary_values(database, connection, "specprod_keys", value=keys) as temporary:
        return int(
            connection.exec_driver_sql(
                f"DELETE FROM {database.name(cls)} WHERE {database.quote(name)} IN (SELECT value FROM {temporary})"
            ).rowcount
        )


def settle_duplicates(
    database: Database,
    cls: type[SchemaMixin],
    loads: Sequence[FileLoad],
    ledger: Ledger,
    rejects: RejectFile | None,
) -> None:
    """Keep the first row of each key that occurs several times.

    Parameters
    ----------
    database : Database
    cls : class
        A table without its key.
    loads : sequence of FileLoad
        All files of the table, in the order in which they are loaded.
    ledger : Ledger
    rejects : RejectFile or None
        Takes the other rows. Without it the first of them is an error, and what was loaded from its chunk on is
        removed, as if the load had stopped there.

    Raises
    ------
    ConstraintError
        The message names the row, and the one whose key it repeats.
    """
    (name,) = (item.name for item in table_of(cls).primary_key.columns)
    first: dict[Any, tuple[FileLoad, int]] = {}
    keep: list[Columns] = []
    failure: ConstraintError | None = None
    cut: tuple[FileLoad, int] | None = None
    later: list[npt.NDArray[Any]] = []
    with database.begin(check_references=False) as connection:
        wanted = _repeated_keys(connection, cls)
        if not wanted.size:
            return
        passed: list[Slice] = []
        for piece in _loaded(ledger, loads):
            keys = comparable(piece.columns[name])
            # Of the file at hand, as a chunk may have begun some slices ago.
            passed = [*(item for item in passed if item.load is piece.load), _only(piece, name)]
            kept = []
            for place in np.flatnonzero(np.isin(keys, wanted)).tolist() if failure is None else ():
                key, row = int(keys[place]), int(piece.rows[place])
                if key not in first:
                    first[key] = (piece.load, row)
                    kept.append(place)
                    continue
                other, there = first[key]
                reason = f"repeats the key {key} of row {there} of {other.path.name}"
                if rejects is not None:
                    rejects.add(piece.load, [(row, name.upper(), reason)])
                    ledger.reject(connection, piece.load, [row])
                    continue
                cut = (piece.load, next(start for start, end in ledger.ranges(piece.load) if start <= row < end))
                failure = ConstraintError(
                    f"{reason}; mend the file, or leave such rows out with --rejects",
                    file=piece.load.path,
                    hdu=piece.load.hdu_name,
                    row=row,
                )
                break
            kept_rows = np.array(kept, dtype=np.int64)
            if cut is not None:
                for item in passed:
                    behind = item.rows >= cut[1] if item.load is cut[0] else np.ones(item.rows.size, dtype=np.bool_)
                    later.append(comparable(item.columns[name])[behind])
                passed = []
            keep.append({column: values[kept_rows] for column, values in piece.columns.items()})
        if cut is not None:
            keep = [_before_cut(columns, first, cut, name) for columns in keep]
        _delete(database, connection, cls, np.unique(np.concatenate([wanted, *later])) if later else wanted)
        writer = database.writer(cls)
        writer.append(connection, [writer.prepare(columns) for columns in keep if columns[name].size])
        if cut is not None:
            place = next(i for i, load in enumerate(loads) if load is cut[0])
            ledger.forget(connection, cut[0], cut[1])
            for load in loads[place + 1 :]:
                ledger.forget(connection, load, 0)
    if failure is not None:
        raise failure


def _only(piece: Slice, name: str) -> Slice:
    """Forget all columns but one."""
    return Slice(piece.load, piece.rows, {name: piece.columns[name]})


def _before_cut(
    columns: Columns, first: dict[Any, tuple[FileLoad, int]], cut: tuple[FileLoad, int], name: str
) -> Columns:
    """Leave out the rows that stand behind the cut in its own file."""
    places = [first[int(key)] for key in comparable(columns[name]).tolist()]
    good = np.array([not (load is cut[0] and row >= cut[1]) for load, row in places], dtype=np.bool_)
    return {column: values[good] for column, values in columns.items()}


def delete_orphans(
    database: Database,
    cls: type[SchemaMixin],
    loads: Sequence[FileLoad],
    ledger: Ledger,
    rejects: RejectFile,
    names: Collection[str] | None = None,
) -> int:
    """Delete the rows that refer to one that is not there, and write them to the rejects.

    Parameters
    ----------
    database : Database
    cls : class
    loads : sequence of FileLoad
        All files of the table.
    ledger : Ledger
    rejects : RejectFile
    names : collection of str, optional
        Only these references. All by default.

    Returns
    -------
    int
        Number of rows that were deleted.
    """
    table = table_of(cls)
    (key,) = table.primary_key.columns
    reasons: dict[int, tuple[str, str]] = {}
    with database.begin(check_references=False) as connection:
        for reference in sorted(table.foreign_key_constraints, key=lambda item: str(item.name)):
            if names is not None and reference.name not in names:
                continue
            (element,) = reference.elements
            parent, (child,) = element.column, list(reference.columns)
            query = sa.select(key, child).where(~sa.exists().where(parent == child).correlate(table))
            for value, missing in connection.execute(query):
                reason = f"refers to {parent.table.name}.{parent.name} {missing}, which is not there"
                reasons.setdefault(int(value), (child.name.upper(), reason))
        if not reasons:
            return 0
        wanted = as_comparable(list(reasons), wide=isinstance(key.type, Int128))
        for piece in _loaded(ledger, loads):
            keys = comparable(piece.columns[key.name])
            places = np.flatnonzero(np.isin(keys, wanted)).tolist()
            rejects.add(piece.load, [(int(piece.rows[place]), *reasons[int(keys[place])]) for place in places])
            ledger.reject(connection, piece.load, [int(piece.rows[place]) for place in places])
        return _delete(database, connection, cls, wanted)
