"""Files that changed after they were loaded: their tables are brought to what their files say now.

All of it is one transaction. Tables are filled first, each before those that refer to it, and then rows that are gone
from the files are removed, in the other order.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection

from specprod.configuration.defaults import CHUNKSIZE
from specprod.database.keys import build_key, orphans
from specprod.database.writing import Counts
from specprod.errors import ConstraintError, FormatError, LedgerError, MissingFileError
from specprod.files.opening import open_table
from specprod.files.tables import TableReader
from specprod.files.unpacking import Fingerprint
from specprod.loading.again import slices_of_files
from specprod.loading.interfaces import Ledger
from specprod.loading.known import Parents, keys_of_files
from specprod.loading.pieces import FileLoad, Piece
from specprod.loading.rejects import RejectFile
from specprod.loading.rules import Known
from specprod.model import TABLES, SchemaMixin, table_of
from specprod.model.converting import Rejects

if TYPE_CHECKING:
    from specprod.database.failures import Retries
    from specprod.database.interface import Database

__all__ = ["reload_tables"]

logger = logging.getLogger(__name__)


def reload_tables(
    database: Database,
    tables: Mapping[type[SchemaMixin], Sequence[FileLoad]],
    ledger: Ledger,
    rejects: RejectFile | None,
    retries: Retries,
) -> dict[type[SchemaMixin], int]:
    """Replace what came from files that have changed, in one transaction.

    Of a table with a file that changed, all files are read: a row that is no longer in one may be in another. The rules
    are those of a load: of the rows of a key the first counts, and rows that violate a rule are an error, or are
    rejected. Rows that are as they should be are not written.

    Parameters
    ----------
    database : Database
    tables : mapping of class to sequence of FileLoad
        All files of each table, in the order in which they are loaded.
    ledger : Ledger
    rejects : RejectFile or None
        Takes the rows that violate a rule; without it the first one is an error, and nothing is changed.
    retries : Retries

    Returns
    -------
    dict of class to int
        Number of rows that were inserted, updated or removed, of each table with a file that changed.

    Raises
    ------
    MissingFileError
        If a file is gone from which such a table was loaded.
    ConstraintError
        If rows that are gone from the files are still referred to by rows of tables whose files still have them.
    InputError, LedgerError
    """
    work = [
        item for item in (_Table(database, cls, tables[cls], ledger) for cls in TABLES if cls in tables) if item.changed
    ]
    for item in work:
        item.prepare(retries)

    def transaction() -> dict[type[SchemaMixin], int]:
        with database.begin(check_references=False, durable=True) as connection, contextlib.ExitStack() as stack:
            for item in work:
                stack.enter_context(item.filled(connection, rejects))
            for item in reversed(work):
                item.remove_gone(connection)
            for item in work:
                item.check_references(connection)
                item.record(connection)
        return {item.cls: item.changes for item in work}

    return retries.run(transaction, "reload") if work else {}


class _Table:
    """A table that is brought to what its files say."""

    def __init__(self, database: Database, cls: type[SchemaMixin], loads: Sequence[FileLoad], ledger: Ledger) -> None:
        self.cls = cls
        self.changes = 0
        self._database = database
        self._ledger = ledger
        self._table = table_of(cls)
        (key,) = self._table.primary_key.columns
        self._key = key.name
        self._loads = [load for load in loads if ledger.ranges(load)]
        self._all = loads
        self.changed = [load for load in self._loads if ledger.changed(load)]
        self._sizes: dict[FileLoad, int] = {}
        self._pieces: dict[FileLoad, Piece] = {}
        self._fingerprints: dict[FileLoad, Fingerprint] = {}
        self._keys = ""

    def prepare(self, retries: Retries) -> None:
        """Make sure that all files are there, and that the table has its key."""
        absent = self._ledger.absent(self._table.name, self._all)
        if absent:
            raise MissingFileError(
                f"{self._table.name} was loaded from {', '.join(absent)} too; a reload needs all files of a table",
                file=absent[0],
            )
        try:
            build_key(self._database, self.cls, retries)
        except ConstraintError as error:
            raise LedgerError(
                f"table {self._table.name} holds a key twice, from a load that did not end, and its files have changed "
                f"since ({error}); load it anew with --overwrite"
            ) from error
        for load in self._loads:
            with open_table(load.path, load.hdu) as reader:
                self._sizes[load] = reader.nrows if load in self.changed else self._ledger.ranges(load)[-1][1]
                # Outside of the transaction: there may be one writer.
                self._ledger.announce(load, reader)
                self._fingerprints[load] = reader.fingerprint
                if load in self.changed:
                    reader.check_header()
        logger.info("%s: reloaded, %d files are read", self._table.name, len(self._sizes))

    @contextlib.contextmanager
    def filled(self, connection: Connection, rejects: RejectFile | None) -> Iterator[None]:
        """Insert and update rows; until the end of the block their keys are kept."""
        writer = self._database.writer(self.cls)
        with keys_of_files(self._database, connection, self.cls, list(self._sizes)) as keys:
            self._keys = keys.table
            known: list[Known] = [keys, Parents(self._database, connection, self.cls)]
            total = Counts()
            self._pieces = {load: Piece(0, size) for load, size in self._sizes.items()}
            items = [(load, _chunks(size)) for load, size in self._sizes.items()]
            for part in slices_of_files(items, lambda load: self._rejects(load, rejects), known, self._sum):
                total += writer.upsert(connection, [writer.prepare(part.columns)])
                self._pieces[part.load].rows += int(part.rows.size)
            if rejects is not None:
                for load, piece in self._pieces.items():
                    rejects.add(load, piece.rejects.rows)
            self.changes = total.inserted + total.updated
            yield

    def _rejects(self, load: FileLoad, rejects: RejectFile | None) -> Rejects | None:
        return None if rejects is None else self._pieces[load].rejects

    def _sum(self, load: FileLoad, reader: TableReader) -> None:
        """Compute the checksum of a file while it is open, and make sure that it is what it says, and what it was."""
        piece = self._pieces[load]
        piece.checksum = reader.checksum(piece.first, piece.last)
        if load in self.changed and not reader.has_heap:
            reader.check_data(piece.checksum)
        if reader.changed() is not None or reader.fingerprint != self._fingerprints[load]:
            raise FormatError("was changed while it was read", file=load.path, hdu=reader.hdu)

    def remove_gone(self, connection: Connection) -> None:
        """Remove the rows that no file has."""
        database, table = self._database, self._table
        key = f"{database.name(self.cls)}.{database.quote(self._key)}"
        gone = f"NOT EXISTS (SELECT 1 FROM {self._keys} AS k WHERE k.value = {key})"
        there = sa.inspect(connection).get_table_names(schema=database.schema)
        for child, column in _children(table):
            if child not in there:
                continue
            count, example = connection.exec_driver_sql(
                f"SELECT count(*), min(c.{database.quote(column)}) FROM {database.name(child)} AS c WHERE "
                f"c.{database.quote(column)} IN (SELECT {key} FROM {database.name(self.cls)} WHERE {gone})"
            ).one()
            if count:
                raise ConstraintError(
                    f"{count} rows of {child} refer to {table.name}.{self._key} {int(example)}, which is gone from "
                    f"the files of {table.name}; their own files still have them",
                    file=self._loads[0].path,
                )
        statement = f"DELETE FROM {database.name(self.cls)} WHERE {gone}"
        self.changes += int(connection.exec_driver_sql(statement).rowcount)

    def check_references(self, connection: Connection) -> None:
        """Make sure that no row refers to one that is not there."""
        for message in orphans(self._database, connection, self.cls):
            raise ConstraintError(message, file=self._loads[0].path)

    def record(self, connection: Connection) -> None:
        """Record the files that changed."""
        for load in self.changed:
            piece = self._pieces[load]
            self._ledger.forget(connection, load, 0)
            self._ledger.record(connection, load, piece, Counts(inserted=piece.rows))


def _chunks(rows: int) -> list[tuple[int, int]]:
    """Divide the rows of a file as a load does."""
    return [(first, min(first + CHUNKSIZE, rows)) for first in range(0, rows, CHUNKSIZE)]


def _children(table: sa.Table) -> Iterator[tuple[str, str]]:
    """Yield the tables that refer to the key of a table, each with its column."""
    for cls in TABLES:
        for key in table_of(cls).foreign_key_constraints:
            (element,) = key.elements
            if element.column.table is table:
                yield table_of(cls).name, next(iter(key.columns)).name
