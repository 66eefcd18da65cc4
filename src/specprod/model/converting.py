"""From the columns of a file to the columns of a table: one piece of code for all tables, led by their declarations."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sqlalchemy import REAL, BigInteger, Boolean, Column, DateTime, Float, Integer, SmallInteger, String

from specprod.errors import InputError, MissingColumnError, ValueRejectedError
from specprod.model.base import Int128, SchemaMixin, Source, TableLike, parameters, source_of, table_of
from specprod.model.casting import Array, Cast, cast, text_array
from specprod.survey.identifiers import INT128, as_integers

__all__ = ["Columns", "Converter", "Rejects", "column_names", "database_dtype", "number_of_rows", "python_values"]

#: Columns of a table, by their names in the database, as arrays of equal length and of exactly the database's types.
Columns: TypeAlias = dict[str, Array]

logger = logging.getLogger(__name__)


def column_names(data: TableLike) -> list[str]:
    """Names of the columns of a table-like object, as it spells them."""
    if isinstance(data, np.ndarray):
        return list(data.dtype.names or ())
    names = getattr(data, "colnames", None)
    return list(data.keys() if names is None else names)


def number_of_rows(data: TableLike) -> int:
    """Count the rows of a table-like object; the length of a mapping is the number of its columns."""
    if not isinstance(data, Mapping):
        return len(data)
    rows: int | None = getattr(data, "nrows", None)
    return len(next(iter(data.values()), ())) if rows is None else rows


def database_dtype(item: Column[Any]) -> np.dtype[Any]:
    """Find the numpy type that holds exactly what a column of the database holds; S for text of any length."""
    kinds: tuple[tuple[type, Any], ...] = (
        (Int128, INT128),
        (BigInteger, np.int64),
        (SmallInteger, np.int16),
        (Integer, np.int32),
        (REAL, np.float32),
        (Float, np.float64),
        (Boolean, np.bool_),
        (DateTime, "datetime64[us]"),
        (String, np.bytes_),
    )
    for kind, dtype in kinds:
        if isinstance(item.type, kind):
            result: np.dtype[Any] = np.dtype(dtype)
            return result
    raise TypeError(f"no numpy type for {item.type!r}")


def python_values(values: Array) -> list[Any]:
    """Turn a column into the Python values that an object of the table has: int, float, bool, str, datetime."""
    if values.dtype == INT128:
        return list(as_integers(values))
    if values.dtype.kind == "S":
        return [text.decode("utf-8") for text in values.tolist()]
    if values.dtype.kind == "M":
        return [moment.replace(tzinfo=UTC) for moment in values.tolist()]
    return list(values.tolist())


def _repeated(value: Any, size: int) -> Array:
    """Give the same value for all rows."""
    array = text_array(value) if isinstance(value, str) else np.asarray(value)
    return np.broadcast_to(array, (size,))


def _numbers(data: TableLike, name: str) -> Array:
    """Take a column from which another is computed."""
    values = np.asarray(data[name])
    if values.dtype.kind not in "fiu":
        raise ValueRejectedError("expected numbers", column=name)
    return values


@dataclass
class Rejects:
    """Rows that violate a rule, collected instead of stopping at the first.

    Attributes
    ----------
    rows : list of tuple
        Row in the file, column, reason.
    """

    rows: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, rows: npt.NDArray[np.integer[Any]], column: str, reason: str) -> None:
        """Collect rows that have one reason."""
        self.rows += [(row, column, reason) for row in rows.tolist()]


@dataclass(frozen=True)
class _Step:
    """How one column is made: from the file, from the caller, from its default, or from other columns.

    Where there is a constant beside a column of the file, or beside what its header said, they must agree.
    """

    name: str
    dtype: np.dtype[Any]
    length: int | None
    source: Source
    file_column: str | None = None
    constant: Any = None
    said: Any = None
    inputs: tuple[tuple[str, str | None], ...] = ()


class Converter:
    """Makes the columns of a table from those of a file.

    Parameters
    ----------
    table : class
        A table of `specprod.model`.
    names : iterable of str
        Columns that the file has.
    given : mapping, optional
        Values for all rows that come from the caller, such as ``survey="main"``; None counts as not given. Where the
        file says something else, the row violates a rule.
    header : mapping, optional
        Keywords of the file, for the columns that say that they take one.
    file, hdu : optional
        Where the data come from, for messages.
    nan_zero : bool
        Whether columns that say so take NaN as zero, as loads of tiles do.

    Attributes
    ----------
    needed : list of str
        Columns of the file that have to be read.
    nonfinite : dict
        Number of values, by column, that were not finite and became -9999.0.

    Raises
    ------
    MissingColumnError
        If a column is neither in the file nor given nor has a default.
    """

    def __init__(
        self,
        table: type[SchemaMixin],
        names: Iterable[str],
        given: Mapping[str, Any] | None = None,
        *,
        header: Mapping[str, Any] | None = None,
        file: str | None = None,
        hdu: str | int | None = None,
        nan_zero: bool = False,
    ) -> None:
        self.table = table
        self.file, self.hdu = file, hdu
        self.nan_zero = nan_zero
        self.nonfinite: dict[str, int] = {}
        present = {name.upper(): name for name in names}
        constants = {name: value for name, value in (given or {}).items() if value is not None}
        absent: list[str] = []
        self._steps = list(self._plan(present, constants, header or {}, absent))
        missing = list(dict.fromkeys(absent))
        if missing:
            raise MissingColumnError(
                f"table {table_of(table).name} needs {', '.join(missing)}, which the file lacks"
                + (" and the caller did not give" if len(missing) == 1 else ""),
                file=file,
                hdu=hdu,
                column=missing[0] if len(missing) == 1 else None,
            )
        needed = [step.file_column for step in self._steps if step.file_column]
        needed += [raw for step in self._steps for _, raw in step.inputs if raw]
        self.needed = list(dict.fromkeys(needed))

    def _plan(
        self,
        present: Mapping[str, str],
        constants: Mapping[str, Any],
        header: Mapping[str, Any],
        missing: list[str],
    ) -> Iterator[_Step]:
        """Decide for each column where its values come from; derived columns come last."""
        derived = []
        columns = table_of(self.table).columns
        for item in columns:
            source = source_of(item)
            dtype = database_dtype(item)
            length = getattr(item.type, "length", None)
            found = next((present[name] for name in source.names if name in present), None)
            if found is None and source.element is not None:
                # Files without vectors have their elements as columns: COEFF_0 is COEFF[0].
                found = present.get(f"{source.names[0]}_{source.element}")
                source = replace(source, element=None) if found is not None else source
            constant = constants.get(source.given or "")
            said = None if source.header is None else header.get(source.header)
            if constant is not None:
                yield _Step(item.name, dtype, length, source, found, constant, said if found is None else None)
            elif found is not None:
                yield _Step(item.name, dtype, length, source, file_column=found)
            elif said is not None:
                yield _Step(item.name, dtype, length, source, constant=said)
            elif source.numbered:
                yield _Step(item.name, dtype, length, source)
            elif source.derive is not None:
                inputs = [
                    (name, None if name in columns else present.get(name.upper())) for name in parameters(source.derive)
                ]
                absent = [name.upper() for name, raw in inputs if name not in columns and raw is None]
                missing += [f"{item.name.upper()} (or {', '.join(absent)})"] if absent else []
                derived.append(_Step(item.name, dtype, length, source, inputs=tuple(inputs)))
            elif source.has_default:
                yield _Step(item.name, dtype, length, source, constant=source.default)
            else:
                missing.append(" or ".join(source.names) if source.names else item.name.upper())
        yield from derived

    def convert(
        self, data: TableLike, rows: npt.NDArray[np.integer[Any]] | int = 0, rejects: Rejects | None = None
    ) -> Columns:
        """Convert a piece of the file, as `convert_rows` does, without the numbers of the rows."""
        return self.convert_rows(data, rows, rejects)[0]

    def convert_rows(
        self, data: TableLike, rows: npt.NDArray[np.integer[Any]] | int = 0, rejects: Rejects | None = None
    ) -> tuple[Columns, npt.NDArray[np.int64]]:
        """Convert a piece of the file.

        Parameters
        ----------
        data : table-like
            The columns that `needed` names, all of one length.
        rows : int or array of int
            Row in the file of the first of them, or of each.
        rejects : Rejects, optional
            Collects the rows that violate a rule; they are left out. By default the first such row is an error.

        Returns
        -------
        columns : dict of str to numpy.ndarray
            In the order of the table's columns. Text is S, UTF-8, without trailing blanks.
        rows : numpy.ndarray of int64
            Row in the file of each row that stayed.

        Raises
        ------
        ValueRejectedError
            If a value does not fit its column.
        """
        # A table that needs no column of the file still has the length of the data.
        length = len(data[self.needed[0]]) if self.needed else number_of_rows(data)
        numbers = np.arange(rows, rows + length) if isinstance(rows, int) else np.asarray(rows)
        result: Columns = {}
        good = np.ones(length, dtype=np.bool_)
        for step in self._steps:
            try:
                result[step.name] = self._make(step, data, result, numbers, good, rejects)
            except InputError as error:
                error.file, error.hdu = self.file, self.hdu
                error.column = error.column or step.file_column or step.name.upper()
                raise
        ordered = {item.name: result[item.name] for item in table_of(self.table).columns}
        if good.all():
            return ordered, numbers
        return {name: values[good] for name, values in ordered.items()}, numbers[good]

    def _make(
        self,
        step: _Step,
        data: TableLike,
        result: Columns,
        numbers: npt.NDArray[np.integer[Any]],
        good: npt.NDArray[np.bool_],
        rejects: Rejects | None,
    ) -> Array:
        if step.inputs:
            inputs = {name: result[name] if raw is None else _numbers(data, raw) for name, raw in step.inputs}
            return self._derive(step, inputs, good)
        values = self._values(step, data, numbers)
        done = self._cast(step, values)
        if done.nonfinite:
            self.nonfinite[step.name] = self.nonfinite.get(step.name, 0) + done.nonfinite
        if done.bad is None and step.source.given is not None and step.constant is not None:
            values, done = self._agreed(step, data, values, done)
        if done.bad is not None:
            bad = numbers[done.bad]
            if rejects is None:
                raise done.error(done.describe(values), row=int(bad[0]))
            rejects.add(bad[good[done.bad]], step.file_column or step.name.upper(), done.reason)
            good &= ~done.bad
        return done.values

    def _cast(self, step: _Step, values: Any) -> Cast:
        return cast(values, step.dtype, step.length, step.source.choices, self.nan_zero and step.source.nan_zero)

    @staticmethod
    def _values(step: _Step, data: TableLike, numbers: npt.NDArray[np.integer[Any]]) -> Any:
        """Give the values of a column as caller, file or declaration have them."""
        if step.constant is not None:
            return _repeated(step.constant, numbers.size)
        if step.file_column is None:
            return numbers + 1
        values = data[step.file_column]
        if step.source.element is not None:
            if values.ndim != 2 or values.shape[1] <= step.source.element:
                raise ValueRejectedError(f"expected a vector of more than {step.source.element} elements")
            values = values[:, step.source.element]
        return values

    def _agreed(self, step: _Step, data: TableLike, values: Any, done: Cast) -> tuple[Any, Cast]:
        """Compare what the caller gave with what the file says; where that is nothing, the caller counts."""
        if step.file_column is not None:
            found = data[step.file_column]
        elif step.said is not None:
            found = _repeated(step.said, done.values.size)
        else:
            return values, done
        other = self._cast(step, found).values
        differing = (other != done.values) & ~np.ma.getmaskarray(found)
        if other.dtype.kind == "S":
            differing &= other != b""
        if not differing.any():
            return values, done
        where = "" if step.file_column else f"keyword {step.source.header} "
        reason = f"{where}differs from the argument {step.source.given}, which is {step.constant!r}"
        return found, replace(done, bad=differing, reason=reason)

    @staticmethod
    def _derive(step: _Step, inputs: dict[str, Array], good: npt.NDArray[np.bool_]) -> Array:
        """Compute a column from others, of the rows that violate no rule so far."""
        if step.source.derive is None:
            raise TypeError(f"column {step.name} has no function")
        if good.all():
            return np.asarray(step.source.derive(**inputs))
        derived = np.asarray(step.source.derive(**{name: values[good] for name, values in inputs.items()}))
        values = np.zeros(good.size, dtype=derived.dtype)
        values[good] = derived
        return values

    def report(self) -> None:
        """Log how many values were not finite, column by column."""
        for name, count in self.nonfinite.items():
            logger.info(
                "%s: %d values of %s.%s were not finite and became -9999.0",
                self.file or "data",
                count,
                table_of(self.table).name,
                name,
            )
