"""Rows of several files as one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specprod.model import SchemaMixin, table_of
from specprod.model.base import source_of
from specprod.model.converting import database_dtype

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["file_columns", "merged"]


def file_columns(*classes: type[SchemaMixin]) -> Iterator[tuple[tuple[str, ...], bool, np.dtype[Any], int | None]]:
    """Yield what tables take from files.

    Yields
    ------
    names : tuple of str
        Names of a column, the first that a file has counts.
    required : bool
        Whether there is no other way to fill the column.
    dtype : numpy.dtype
        Type in the database.
    length : int or None
        Least length of vectors.
    """
    found: dict[tuple[str, ...], tuple[bool, np.dtype[Any], int | None]] = {}
    for item in (item for cls in classes for item in table_of(cls).columns):
        source = source_of(item)
        if source.names:
            length = None if source.element is None else source.element + 1
            before = found.get(source.names)
            longest = length if before is None else max(length or 0, before[2] or 0) or None
            required = not source.has_default and source.derive is None and source.given is None
            found[source.names] = (required, database_dtype(item), longest)
    for names, (required, dtype, length) in found.items():
        yield names, required, dtype, length


def merged(
    parts: Sequence[Mapping[str, npt.NDArray[Any]]],
    *classes: type[SchemaMixin],
    fill: bool = False,
    extra: Sequence[str] = (),
) -> Table:
    """Put rows of several files together, as far as some tables need their columns.

    Parameters
    ----------
    parts : sequence of mapping
        Columns by name, such as chunks. They may differ in their columns and in the types of these.
    *classes : class
        Tables that are to be filled.
    fill : bool
        Whether a column that the tables need and a part lacks becomes 0 or blank. Otherwise a column that is not in all
        parts is left out, and whoever needs it will say so.
    extra : sequence of str
        Other columns that are wanted.

    Returns
    -------
    astropy.table.Table
        Columns have the first of their names.
    """
    from astropy.table import Table

    columns = {}
    wanted = [*file_columns(*classes), *(((name,), False, np.dtype(np.int64), None) for name in extra)]
    for names, required, dtype, length in wanted:
        found = [next((part[name] for name in names if name in part), None) for part in parts]
        if all(values is None for values in found) and not (fill and required):
            continue
        if any(values is None for values in found):
            if not fill:
                continue
            blank = next((values for values in found if values is not None), None)
            shape = (() if length is None else (length,)) if blank is None else blank.shape[1:]
            kind = (np.dtype("S1") if dtype.kind == "S" else dtype) if blank is None else blank.dtype
            sizes = [_rows(part) for part in parts]
            found = [
                np.zeros((size, *shape), dtype=kind) if values is None else values
                for size, values in zip(sizes, found, strict=True)
            ]
        arrays = [values for values in found if values is not None]
        if len(arrays) == 1:
            columns[names[0]] = arrays[0]
        else:
            join = np.ma.concatenate if any(np.ma.isMaskedArray(values) for values in arrays) else np.concatenate
            columns[names[0]] = join(arrays)
    return Table(columns, copy=False)


def _rows(part: Mapping[str, npt.NDArray[Any]]) -> int:
    """Count the rows of a part; all have TARGETIDs."""
    return len(part["TARGETID"])
