"""Files read once more, as a load reads them: for comparing, and for finding the rows that are at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from specprod.files.opening import open_table
from specprod.files.tables import TableReader
from specprod.loading.filters import FilesTargets
from specprod.loading.pieces import FileLoad, RowFilter
from specprod.loading.rules import KeysOfChunk, Known, Rules, Slice, slice_rows
from specprod.model import Photometry
from specprod.model.converting import Rejects

__all__ = ["RejectsOf", "slices_of_files"]


class RejectsOf(Protocol):
    """Gives what takes the rows of a file that violate a rule, None if such a row is an error."""

    def __call__(self, load: FileLoad) -> Rejects | None:
        """Give it for a file that is begun."""


def slices_of_files(
    items: Iterable[tuple[FileLoad, Sequence[tuple[int, int]]]],
    rejects_of: RejectsOf,
    known: Sequence[Known] = (),
    done: Callable[[FileLoad, TableReader], None] = lambda load, reader: None,
) -> Iterator[Slice]:
    """Yield the rows that files gave, or should have given, in the order of the load.

    Parameters
    ----------
    items : iterable of (FileLoad, sequence of (int, int))
        All files of a table, and the ranges of their rows that were loaded, each in one transaction: a row that repeats
        a key is found by the load itself only within these.
    rejects_of : callable
    known : sequence of Known
        What is known of rows of other slices, of the database, or of other tables.
    done : callable
        Called at the end of each file, which is still open.

    Yields
    ------
    Slice

    Raises
    ------
    InputError, ConstraintError
    """
    targets = FilesTargets()
    for load, ranges in items:
        with open_table(load.path, load.hdu) as reader:
            rules = Rules(load, reader, _filter(load, targets))
            rejects = rejects_of(load)
            size = slice_rows(reader)
            for start, end in ranges:
                keys = KeysOfChunk(load.table)
                for first in range(start, end, size):
                    chunk = reader.read(first, min(first + size, end))
                    piece = rules.apply(chunk, [keys, *known], rejects)
                    if load.table is Photometry and not load.only_new:
                        # Those that are only wanted for new targets come after these.
                        targets.accept(piece.columns)
                    if piece.rows.size:
                        yield piece
            done(load, reader)


def _filter(load: FileLoad, targets: FilesTargets) -> RowFilter | None:
    """Give the filter of a load; what it asks of the database is asked of the files here."""
    return targets if load.only_new else load.row_filter
