"""Rows that were loaded, as a sequence of objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

from specprod.model import Base
from specprod.model.converting import Columns, python_values

__all__ = ["Loaded"]

T = TypeVar("T", bound=Base)


class Loaded(Sequence[T]):
    """Rows that were loaded, as objects of their table; an object is made when it is asked for.

    Parameters
    ----------
    cls : class
    columns : dict of str to numpy.ndarray

    Attributes
    ----------
    columns : dict of str to numpy.ndarray
        The same rows as columns.
    """

    def __init__(self, cls: type[T], columns: Columns) -> None:
        self._cls = cls
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Loaded[T]: ...

    def __getitem__(self, index: int | slice) -> T | Loaded[T]:
        if isinstance(index, slice):
            return Loaded(self._cls, {name: values[index] for name, values in self.columns.items()})
        place = range(len(self))[index]
        return next(iter(Loaded(self._cls, {name: values[[place]] for name, values in self.columns.items()})))

    def __iter__(self) -> Iterator[T]:
        names = list(self.columns)
        for row in zip(*(python_values(values) for values in self.columns.values()), strict=True):
            yield self._cls(**dict(zip(names, row, strict=True)))
