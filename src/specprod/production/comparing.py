"""Whether a table has exactly the rows that files give: one pass over both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from specprod.database.misfits import Misfits
from specprod.loading.ahead import prefetched
from specprod.loading.rules import Slice
from specprod.model import SchemaMixin, table_of
from specprod.production.hashing import Digest

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["Agreement", "Compared", "agreement"]

#: Pieces that are read while others are compared.
_AHEAD = 4


@dataclass(frozen=True)
class Compared:
    """A table, and what it is compared with.

    Attributes
    ----------
    database : Database
    table : class
    names : sequence of str
        The columns.
    slices : callable
        Gives the rows that it should have; it may be called again.
    """

    database: Database
    table: type[SchemaMixin]
    names: Sequence[str]
    slices: Callable[[], Iterator[Slice]]

    @property
    def key(self) -> str:
        """Name of the column of the key."""
        (key,) = table_of(self.table).primary_key.columns
        return key.name

    def values(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Choose the columns that are compared."""
        return {name: columns[name] for name in self.names}


@dataclass(frozen=True)
class Agreement:
    """Whether rows agree.

    Attributes
    ----------
    expected, found : int
        Rows of the files, and of the table.
    equal : bool
    """

    expected: int
    found: int
    equal: bool


def agreement(compared: Compared) -> Agreement:
    """Compare all rows, without regard to their order and without holding any of them.

    Where the database compares rows itself, it is given them; else both sides are summed up at the same time.

    Raises
    ------
    InputError, DatabaseError
    """
    if compared.key in compared.names:
        with compared.database.connect() as connection:
            matcher = compared.database.matcher(connection, compared.table, compared.names)
            if matcher is not None:
                expected = matched = 0
                pieces = ((item.rows.size, matcher.prepare(item.columns)) for item in compared.slices())
                for rows, prepared in prefetched(pieces, most=_AHEAD):
                    expected += rows
                    matched += matcher.add(prepared)
                equal = matched == expected and matcher.complete()
                return Agreement(expected, matcher.table_rows(), equal)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_of_files, compared)
        found = _of_database(compared)
        expected_digest = reading.result()
    return Agreement(expected_digest.rows, found.rows, expected_digest == found)


def _of_files(compared: Compared) -> Digest:
    digest = Digest()
    for item in compared.slices():
        digest.add(compared.values(item.columns))
    return digest


def _of_database(compared: Compared) -> Digest:
    digest, misfits = Digest(), Misfits(0)
    with compared.database.connect() as connection:
        for columns in compared.database.fetch(connection, compared.table, names=compared.names, misfits=misfits):
            digest.add(compared.values(columns))
    # Rows that cannot be held as columns are no rows of a file, but they are rows.
    digest.rows += misfits.rows
    return digest
