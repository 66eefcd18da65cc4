"""What all tables share: the declaration of a column, its types, and how a table finds its name.

A column is declared once, by `column`, with its type, unit, description, index and the source of its values.
`converting.py` fills it, the writers store it, the comments and the documentation describe it, all from that declaration.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, ClassVar, Self, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt
from sqlalchemy import Column, Dialect, Float, FromClause, MetaData, Numeric, String, Table, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, MappedColumn, declared_attr, mapped_column
from sqlalchemy.types import TypeEngine

__all__ = [
    "MISSING",
    "Base",
    "Int128",
    "Rows",
    "SchemaMixin",
    "Source",
    "TableLike",
    "column",
    "parameters",
    "source_of",
    "table_of",
]

T = TypeVar("T")

#: An astropy Table, a structured array, or a mapping of names to arrays.
TableLike: TypeAlias = Any
#: Indexes of rows, or None for all.
Rows: TypeAlias = Sequence[int] | npt.NDArray[np.integer[Any]] | None


class _Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Int128(TypeDecorator[int]):
    """A 128-bit integer: NUMERIC(39) in PostgreSQL, and in SQLite, which has no such number, 39 digits of text.

    Python sees an `int`. The text has leading zeros, so that it sorts, compares and joins as the number does. Which it
    is, the dialect says itself: one that has values of 128 bits of its own (UUIDs) has exact decimals too.
    """

    impl = Numeric(39, 0)
    cache_ok = True

    @property
    def python_type(self) -> type[int]:
        """What Python sees, which SQLAlchemy 2.0 does not take from the type argument."""
        return int

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the type of the column for a dialect."""
        return dialect.type_descriptor(Numeric(39, 0) if dialect.supports_native_uuid else String(39))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Turn a Python integer into what the database stores."""
        if value is None or value is np.ma.masked:
            return None
        number = int(value)
        if number != value and not isinstance(value, str):
            raise ValueError(f"expected a whole number, found {value}")
        return Decimal(number) if dialect.supports_native_uuid else f"{number:039d}"

    def process_result_value(self, value: Any | None, dialect: Dialect) -> int | None:
        """Turn what the database returns into a Python integer."""
        return None if value is None else int(value)


@dataclass(frozen=True)
class Source:
    """Where the values of a column come from.

    Attributes
    ----------
    names : tuple of str
        Names that the column has in files, the first that is present counts.
    element : int or None
        Element of a vector-valued column.
    given : str or None
        Argument of ``convert()`` that comes before the file.
    default : object
        Value where neither the caller nor the file has the column, or `MISSING`.
    derive : callable or None
        Function of other columns, by the names of its parameters; used when neither caller nor file has the column.
    nan_zero : bool
        In loads of tiles, NaN counts as zero here.
    choices : collection of str or None
        The only texts that are allowed.
    header : str or None
        Keyword of the file that holds the value of all rows, where the file has no such column.
    numbered : bool
        Whether rows are numbered from 1, where the file has no such column.
    """

    names: tuple[str, ...] = ()
    element: int | None = None
    given: str | None = None
    default: Any = field(default=MISSING)
    derive: Callable[..., Any] | None = None
    nan_zero: bool = False
    choices: Collection[str] | None = None
    header: str | None = None
    numbered: bool = False

    @property
    def has_default(self) -> bool:
        """Whether there is a value for files that lack the column."""
        return self.default is not MISSING

    def describe(self) -> str:
        """Say in a few words where the values come from, for the documentation."""
        words = [" or ".join(self.names) + ("" if self.element is None else f"[{self.element}]")] if self.names else []
        if self.header:
            words.append(f"keyword {self.header}")
        if self.given:
            words.append(f"argument {self.given}")
        if self.derive is not None:
            words.append(f"{getattr(self.derive, '__name__', 'function')}({', '.join(parameters(self.derive))})")
        if self.numbered:
            words.append("else the number of the row")
        if self.has_default:
            words.append(f"else {self.default!r}")
        return "; ".join(words)


def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the parameters of a function that derives a column: the columns that it takes."""
    return tuple(inspect.signature(function).parameters)


# SQLAlchemy knows of Decimal, too, where it says Float; ours are Python's float, always.
@overload
def column(type_: type[Float[Any]] | Float[Any], *items: Any, doc: str, **options: Any) -> MappedColumn[float]: ...


@overload
def column(type_: type[TypeEngine[T]] | TypeEngine[T], *items: Any, doc: str, **options: Any) -> MappedColumn[T]: ...


@overload
def column(type_: type[TypeDecorator[T]], *items: Any, doc: str, **options: Any) -> MappedColumn[T]: ...


def column(
    type_: Any,
    *items: Any,
    doc: str,
    unit: str | None = None,
    source: str | tuple[str, ...] | tuple[str, int] | None = None,
    given: str | None = None,
    default: Any = MISSING,
    derive: Callable[..., Any] | None = None,
    nan_zero: bool = False,
    choices: Collection[str] | None = None,
    header: str | None = None,
    numbered: bool = False,
    order: int = 0,
    **options: Any,
) -> MappedColumn[Any]:
    """Declare a column of a table.

    Parameters
    ----------
    type_ : sqlalchemy type
        Type in the database.
    *items
        Further items of `sqlalchemy.orm.mapped_column`, such as a foreign key.
    doc : str
        Description; it becomes the comment of the column, together with the unit.
    unit : str, optional
        Unit, written after the FITS standard.
    source : str, tuple of str, or (str, int), optional
        Name in the files; alternative names; or a vector and the element of it. By default the name in upper case.
        A column with `derive` is looked for in the file only if it has a `source`.
    given, default, derive, nan_zero, choices, header, numbered
        See `Source`.
    order : int
        Columns of a lower order come first in the table; mixins use it to place theirs.
    **options
        Options of `sqlalchemy.orm.mapped_column`.

    Returns
    -------
    sqlalchemy.orm.MappedColumn
    """
    element = None
    names: tuple[str, ...] | None
    if source is None:
        names = None if derive is None else ()
    elif isinstance(source, str):
        names = (source,)
    elif isinstance(source[1], int):
        names, element = (str(source[0]),), source[1]
    else:
        names = tuple(str(name) for name in source)
    return mapped_column(
        type_,
        *items,
        nullable=False,
        autoincrement=False,
        doc=doc,
        comment=f"{doc} [{unit}]" if unit else doc,
        sort_order=order,
        info={
            # None stands for "the name of the column in upper case", which is known only once the class is built.
            "source": Source(names or (), element, given, default, derive, nan_zero, choices, header, numbered),
            "same_name": names is None,
            "unit": unit,
        },
        **options,
    )


def source_of(item: Column[Any]) -> Source:
    """Where the values of a column come from, with its own name filled in where it declares none."""
    source: Source = item.info["source"]
    if item.info["same_name"]:
        return replace(source, names=(item.name.upper(),))
    return source


def table_of(cls: type[SchemaMixin]) -> Table:
    """Give the table of a class, as SQLAlchemy's schema sees it."""
    table = cls.__table__
    if not isinstance(table, Table):
        raise TypeError(f"{cls.__name__} is not mapped to a table")
    return table


class Base(DeclarativeBase):
    """Base of all tables. The names of keys and indexes are those that PostgreSQL itself would choose."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_name)s_key",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )


class SchemaMixin:
    """Gives a table its name, and leaves its schema open until a database is connected.

    The tables declare no schema: a `specprod.database.Database` translates "no schema" into its own, so that two
    databases with different schemas can be open at once.
    """

    __table__: ClassVar[FromClause]
    #: Columns of right ascension and declination that the sky index covers, or None.
    __sky__: ClassVar[tuple[str, str] | None] = None
    #: Whether the table is kept in the order of that index.
    __in_order__: ClassVar[bool] = True

    @declared_attr.directive
    def __tablename__(cls) -> str:  # noqa: N805
        """Name of the table: that of the class in lower case."""
        return cls.__name__.lower()  # type: ignore[attr-defined,no-any-return]

    @classmethod
    def objects(cls, data: TableLike, row_index: Rows = None, **given: Any) -> list[Self]:
        """Make objects of this table from data; the tables' ``convert()`` calls it with the arguments that it documents.

        Parameters
        ----------
        data : astropy.table.Table, numpy.ndarray or mapping
            Columns with the names that the files have. A table's ``meta`` counts as the header of a file does.
        row_index : sequence of int, optional
            Only these rows. All by default.
        **given
            Values for all rows, such as ``survey="main"``, that the data lack.

        Returns
        -------
        list
            Objects of this class, in the order of the rows, in no session yet.

        Raises
        ------
        MissingColumnError
            If a column is neither in `data` nor given. It is a `KeyError` too.
        ValueRejectedError
            If a value does not fit its column, or is not what an argument says. It is a `ValueError` too, and if a
            survey, program or group is unknown, a `KeyError`.
        """
        # The conversion is led by the declarations of this module, and so cannot be imported before it.
        from specprod.model.converting import Converter, column_names, number_of_rows, python_values

        converter = Converter(cls, column_names(data), given, header=getattr(data, "meta", None))
        numbers = np.arange(number_of_rows(data))
        if row_index is not None:
            index = np.asarray(row_index)
            # numpy takes an empty list for one of floating-point numbers.
            numbers = numbers[index if index.size else index.astype(np.int64)]
        rows = {name: data[name][numbers] for name in converter.needed} if converter.needed else numbers
        columns = converter.convert(rows, numbers)
        values = [python_values(array) for array in columns.values()]
        return [cls(**dict(zip(columns, row, strict=True))) for row in zip(*values, strict=True)]
