"""What a patch changed, and what it could not change: collected while it works, then printed or saved."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from specprod.errors import ConfigurationError
from specprod.patch.columns import Bools, Rows, plain, put

__all__ = ["Change", "Report", "Unpatched", "as_json", "check_report_name", "replace", "write_report"]

# How the rows of each table are named in a report.
KEYS = {"tiles": ("TILEID",), "exposures": ("EXPID",), "frames": ("EXPID", "CAMERA")}
_VALUES = {"row": int, "tileid": int, "expid": int, "camera": str, "old": str, "new": str}
_HEADER = ("table", "column", "rule", *_VALUES)
_FORMATS = (".csv", ".ecsv", ".json")


@dataclass(frozen=True)
class Change:
    """Values of one column that one rule replaced.

    Attributes
    ----------
    table, column, rule : str
        Where, and why.
    rows : numpy.ndarray of int64, shape (n,)
        Rows of the table, counted from 0, ascending.
    keys : dict of numpy.ndarray, shape (n,)
        TILEID, EXPID, or EXPID and CAMERA, of the rows.
    old, new : numpy.ndarray, shape (n,)
        The values before, masked where they were, and after.
    """

    table: str
    column: str
    rule: str
    rows: Rows
    keys: dict[str, npt.NDArray[Any]]
    old: npt.NDArray[Any]
    new: npt.NDArray[Any]

    def values(self, limit: int | None = None) -> dict[str, list[Any]]:
        """Row, tileid, expid, camera, old and new of the first `limit` rows, as lists of plain Python values."""
        size = self.rows[:limit].size
        keys = {name: self.keys.get(name.upper()) for name in ("tileid", "expid", "camera")}
        arrays = {"row": self.rows, **keys, "old": self.old, "new": self.new}
        return {name: [None] * size if array is None else _python(array[:limit]) for name, array in arrays.items()}


@dataclass(frozen=True)
class Unpatched:
    """Rows that a rule applies to, but for which there is no value.

    Attributes
    ----------
    table, column, reason : str
    rows : numpy.ndarray of int64
    """

    table: str
    column: str
    reason: str
    rows: Rows


@dataclass
class Report:
    """Collects what the functions of a patch change.

    Attributes
    ----------
    changes : list of Change
        In the order in which they were made.
    unpatched : list of Unpatched
        What is still wrong in the patched tables.
    """

    changes: list[Change] = field(default_factory=list)
    unpatched: list[Unpatched] = field(default_factory=list)

    def columns(self, table: str) -> set[str]:
        """Names of the columns of a table in which a value changed."""
        return {change.column for change in self.changes if change.table == table}


def replace(
    table: Table,
    column: str,
    rows: Rows,
    values: npt.NDArray[Any],
    *,
    name: str,
    rule: str,
    report: Report | None,
    promote: bool = False,
) -> None:
    """Replace values in place where they differ, and report those.

    Parameters
    ----------
    table : astropy.table.Table
        The copy that is being patched.
    column : str
        Its column.
    rows, values : numpy.ndarray, shape (n,)
        Where, and the new values, none of them masked.
    name : {"tiles", "exposures", "frames"}
        What the table is in the report.
    rule : str
        Why.
    report : Report or None
        Collects the change.
    promote : bool, optional
        As in `put`.

    Raises
    ------
    ValueRejectedError
        If the column cannot hold a value.
    """
    if not rows.size:
        return
    before = table[column][rows]
    values = plain(values)
    old, mask = plain(before), np.ma.getmaskarray(before)
    changed = np.flatnonzero(mask | _differ(old, values))
    if not changed.size:
        return
    changed = changed[np.argsort(rows[changed], kind="stable")]
    rows = rows[changed]
    put(table, column, rows, values[changed], promote=promote)
    if report is not None:
        keys = {key: plain(table[key])[rows] for key in KEYS[name] if key in table.colnames}
        new = plain(table[column])[rows]
        report.changes.append(Change(name, column, rule, rows, keys, np.ma.MaskedArray(old, mask)[changed], new))


def _differ(old: npt.NDArray[Any], new: npt.NDArray[Any]) -> Bools:
    """Which values are not what the column holds; blanks at the end of text do not count."""
    if (old.dtype.kind in "SU") != (new.dtype.kind in "SU"):
        return np.ones(old.size, dtype=bool)
    if old.dtype.kind in "SU":
        if old.dtype.kind != new.dtype.kind:
            old, new = (x if x.dtype.kind == "U" else np.char.decode(x, "ascii", "replace") for x in (old, new))
        differ = np.asarray(old != new)
        some = np.flatnonzero(differ)
        differ[some] = np.char.rstrip(old[some]) != np.char.rstrip(new[some])
        return differ
    # A double that rounds to the float that is there already is no change.
    with np.errstate(over="ignore"):
        return np.asarray(old != (new.astype(old.dtype) if old.dtype.kind == new.dtype.kind == "f" else new))


def _python(values: npt.NDArray[Any]) -> list[Any]:
    """Python values of an array; None where masked, text without its blanks, numbers in their shortest form."""
    mask, data = np.ma.getmaskarray(values), plain(values)
    if data.dtype.kind == "S":
        data = np.char.decode(data, "ascii", "replace")
    if data.dtype.kind == "U":
        data = np.char.rstrip(data)
    if data.dtype.kind == "f" and data.dtype.itemsize < 8:
        # 1.1 as float32 is 1.100000023841858 as a double: go by its own shortest text.
        data = data.astype(str).astype(float)
    objects = data.astype(object)
    objects[mask] = None
    return list(objects.tolist())


def check_report_name(path: PurePath) -> None:
    """Raise if the extension of a report's file is none that can be written.

    Raises
    ------
    ConfigurationError
    """
    if path.suffix.lower() not in _FORMATS:
        raise ConfigurationError(f"the report {path} must end in one of {', '.join(_FORMATS)}")


def write_report(report: Report, stream: TextIO, suffix: str) -> None:
    """Write all changes.

    Parameters
    ----------
    report : Report
    stream : text file
    suffix : {".csv", ".ecsv", ".json"}
        CSV and ECSV hold one line a value, with an empty cell for what was masked. JSON holds one object a rule and
        column, with lists of equal length, null for what was masked, "nan" and "inf" as text, and also the list of
        what could not be patched.
    """
    if suffix.lower() == ".json":
        json.dump(as_json(report), stream, indent=1, allow_nan=False)
        stream.write("\n")
        return
    writer = csv.writer(stream, lineterminator="\n")
    if suffix.lower() == ".ecsv":
        empty = Table(names=_HEADER, dtype=[str, str, str, *_VALUES.values()])
        header = io.StringIO()
        empty.write(header, format="ascii.ecsv", delimiter=",")
        stream.write(header.getvalue())
    else:
        writer.writerow(_HEADER)
    for change in report.changes:
        writer.writerows(_lines(change))


def _lines(change: Change) -> Iterator[tuple[Any, ...]]:
    place = (change.table, change.column, change.rule)
    return ((*place, *line) for line in zip(*change.values().values(), strict=True))


def as_json(report: Report, limit: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """Turn a report into lists and dictionaries that JSON can hold.

    Parameters
    ----------
    report : Report
    limit : int, optional
        Give no more than this number of rows of each change; all by default.

    Returns
    -------
    dict
        ``changes``: table, column, rule, count, and lists row, tileid, expid, camera, old, new. ``unpatched``: table,
        column, reason, count, row.
    """
    changes = []
    for change in report.changes:
        values = {
            name: _finite(value)
            for name, value in change.values(limit).items()
            if any(v is not None for v in value) or name in ("old", "new")
        }
        place = {"table": change.table, "column": change.column, "rule": change.rule, "count": int(change.rows.size)}
        changes.append({**place, **values})
    unpatched = [
        {
            "table": u.table,
            "column": u.column,
            "reason": u.reason,
            "count": int(u.rows.size),
            "row": u.rows[:limit].tolist(),
        }
        for u in report.unpatched
    ]
    return {"changes": changes, "unpatched": unpatched}


def _finite(values: list[Any]) -> list[Any]:
    return [str(value) if isinstance(value, float) and not np.isfinite(value) else value for value in values]
