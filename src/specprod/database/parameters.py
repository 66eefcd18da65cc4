"""Parameters of statements as drivers take them: what comes out of numpy and astropy becomes Python's own.

sqlite3 binds what it does not know by its bytes, so that a comparison with a ``numpy.int64`` finds nothing, or
everything. Adapters for it are global to the process; this is part of an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, Final
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.types import TypeEngine

__all__ = ["accept_numpy", "plain"]

#: Types that are given to the driver as they are; whoever else asks pays for the question.
_PLAIN: Final = frozenset(
    (NoneType, bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta, UUID, list, dict, tuple)
)


def accept_numpy(engine: Engine) -> None:
    """Let statements of an engine take numpy's and astropy's values, masked ones as NULL."""
    sa.event.listen(engine, "before_cursor_execute", _convert, retval=True)
    # SQLAlchemy itself looks at numbers and truth before the driver does.
    types = engine.dialect.colspecs
    engine.dialect.colspecs = {
        **types,
        **{kind: _taking_numpy(types.get(kind, kind)) for kind in (sa.Float, sa.Boolean)},
    }


class _TakingNumpy:
    """Makes a type convert numpy's values first."""

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """Give the conversion of a parameter."""
        process: Callable[[Any], Any] | None = super().bind_processor(dialect)  # type: ignore[misc]
        return None if process is None else lambda value: process(plain(value))


def _taking_numpy(kind: type[TypeEngine[Any]]) -> type[TypeEngine[Any]]:
    return type(kind.__name__, (_TakingNumpy, kind), {})


def _convert(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, executemany: bool
) -> tuple[str, Any]:
    if executemany:
        return statement, [_row(row) for row in parameters]
    return statement, _row(parameters)


def _row(row: Any) -> Any:
    """Give the parameters of a row; the same object, where nothing has to be done."""
    if isinstance(row, Mapping):
        if _PLAIN.issuperset(map(type, row.values())):
            return row
        return {name: plain(value) for name, value in row.items()}
    if not row or _PLAIN.issuperset(map(type, row)):
        return row
    return tuple(plain(value) for value in row)


def plain(value: Any) -> Any:
    """Turn a value of numpy into one of Python.

    Parameters
    ----------
    value : object
        Numbers, booleans and texts of numpy, `numpy.ma.masked`, arrays of no dimension; others stay as they are.

    Returns
    -------
    object
        None for what is masked; text for ``numpy.bytes_``.

    Raises
    ------
    TypeError
        If it is a whole array, or a quantity with a unit.
    """
    if isinstance(value, np.ndarray):
        if value.ndim or getattr(value, "unit", None) is not None:
            what = f"an array of shape {value.shape}" if value.ndim else f"a quantity in {value.unit}"  # type: ignore[attr-defined]
            raise TypeError(f"expected one value, found {what}; arrays belong into in_(), and .value is without a unit")
        if np.ma.is_masked(value):
            return None
        return plain(value[()])
    if isinstance(value, np.generic):
        if isinstance(value, np.bytes_):
            return value.decode("utf-8")
        # Of numbers beyond double precision, item() is no number of Python.
        return float(value) if isinstance(value, np.longdouble) else value.item()
    return value
