"""The engine of all loads: a file in chunks, read and converted beside the write of the chunk before."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sqlalchemy import Connection

from specprod.configuration.defaults import CHUNKSIZE
from specprod.database.failures import Retries
from specprod.database.writing import Counts, Writer
from specprod.errors import (
    ChecksumError,
    ConfigurationError,
    ConstraintError,
    DatabaseError,
    FormatError,
    InputError,
)
from specprod.files.checksums import add
from specprod.files.opening import open_table
from specprod.files.tables import TableReader
from specprod.files.unpacking import Unpacker
from specprod.loading.ahead import prefetched
from specprod.loading.interfaces import Ledger, NoLedger, NoProgress, Progress
from specprod.loading.pieces import FileLoad, LearningFilter, Piece
from specprod.loading.rejects import RejectFile, existing_keys
from specprod.loading.rules import SLICE, KeysOfChunk, KeysOfTable, Known, Rules, slice_rows
from specprod.model import SchemaMixin, table_of
from specprod.survey.identifiers import comparable

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["Loader"]

logger = logging.getLogger(__name__)

#: A piece of a file or, after the last one, its reader.
_Item: TypeAlias = tuple[FileLoad, Piece | TableReader]


def _rows(item: _Item) -> int:
    """Rows of the file that a piece stands for."""
    piece = item[1]
    return piece.last - piece.first if isinstance(piece, Piece) else 0


class Loader:
    """Loads files into tables.

    Parameters
    ----------
    database : Database
    chunksize : int
        Rows that are committed at a time: of a large file, or all of some small ones.
    ledger : Ledger, optional
    rejects : RejectFile, optional
        Takes the rows that violate a rule; without it the first such row stops the load.
    retries : Retries, optional
    progress : Progress, optional
    slice_bytes : int
        Bytes of a file that are converted at a time.
    reload : bool
        Whether what came from files that have changed is replaced; else such a file stops the load.
    ahead : bool
        Whether files are read while others are written. A filter that asks the database sees what was read before it
        only if not.
    checksums : bool
        Whether a file that is not what its CHECKSUM or DATASUM says stops the load; else it is a warning.

    Raises
    ------
    ConfigurationError
        If chunks have no rows.
    """

    def __init__(
        self,
        database: Database,
        *,
        chunksize: int = CHUNKSIZE,
        ledger: Ledger | None = None,
        rejects: RejectFile | None = None,
        retries: Retries | None = None,
        progress: Progress | None = None,
        slice_bytes: int = SLICE,
        reload: bool = False,
        ahead: bool = True,
        checksums: bool = True,
    ) -> None:
        if chunksize < 1:
            raise ConfigurationError(f"chunks of {chunksize} rows cannot be loaded; expected 1 at least")
        self.database = database
        self.chunksize = chunksize
        self.slice_bytes = slice_bytes
        self.reload = reload
        self.ahead = ahead
        self.checksums = checksums
        # Of the rows so far, file by file.
        self._sums: dict[FileLoad, int] = {}
        self.ledger: Ledger = ledger or NoLedger()
        self.rejects = rejects
        self.retries = retries or Retries()
        self.progress: Progress = progress or NoProgress()
        self._stopped = threading.Event()
        self._writers: dict[type[SchemaMixin], Writer] = {}

    def stop(self) -> None:
        """Let all loads end after the chunk that they are at."""
        self._stopped.set()

    def load(self, load: FileLoad) -> Counts:
        """Load a file, from the first row on that the ledger does not have.

        Parameters
        ----------
        load : FileLoad

        Returns
        -------
        Counts
            Of the rows that this call wrote.

        Raises
        ------
        InputError, DatabaseError, LedgerError
            The chunks before the one that failed stay, with their entries in the ledger.
        """
        return self.load_all([load])[load]

    def load_all(self, loads: Iterable[FileLoad]) -> dict[FileLoad, Counts]:
        """Load files one after the other; while one chunk is written, the next is read and converted, across files.

        Parameters
        ----------
        loads : iterable of FileLoad

        Returns
        -------
        dict of FileLoad to Counts
        """
        totals: dict[FileLoad, Counts] = {}
        items = self._all_pieces(loads)
        one_by_one = ([item] for item in items)
        for batch in self._batches(prefetched(items, _rows, self.chunksize)) if self.ahead else one_by_one:
            if self._stopped.is_set():
                break
            pieces = [(load, item) for load, item in batch if isinstance(item, Piece)]
            for load, piece in pieces:
                if self.rejects is not None and piece.rejects.rows:
                    # Before the commit: after a crash a line may stand twice in the file, but none is lost.
                    self.rejects.add(load, piece.rejects.rows)
            for (load, piece), counts in zip(pieces, self._write(pieces), strict=True):
                totals[load] = totals.get(load, Counts()) + counts
                self.progress.advance(load, piece.last - piece.first)
            for load, item in batch:
                if isinstance(item, TableReader):
                    totals.setdefault(load, Counts())
        return totals

    def _batches(self, items: Iterator[_Item]) -> Iterator[list[_Item]]:
        """Put small files together: one transaction takes as many as have no more rows than a chunk."""
        batch: list[_Item] = []
        rows = 0
        try:
            for item in items:
                if rows and rows + _rows(item) > self.chunksize:
                    yield batch
                    batch, rows = [], 0
                batch.append(item)
                rows += _rows(item)
        except Exception:
            # What was read before stays.
            yield batch
            raise
        yield batch

    def _all_pieces(self, loads: Iterable[FileLoad]) -> Iterator[_Item]:
        """Yield the pieces of each file, and its reader at the end."""
        with Unpacker() as unpacker:
            for load in loads:
                if self.ledger.complete(load):
                    logger.info("%s: %s is loaded already", load.path, table_of(load.table).name)
                    continue
                start = time.monotonic()
                with open_table(load.path, load.hdu, unpacker=unpacker) as reader:
                    try:
                        yield from self._of_file(load, reader)
                    except InputError:
                        # What is wrong may be that somebody wrote it meanwhile.
                        self._check_unchanged(load, reader)
                        raise
                logger.info("%s: %s done in %.1f s", load.path, table_of(load.table).name, time.monotonic() - start)

    def _of_file(self, load: FileLoad, reader: TableReader) -> Iterator[_Item]:
        """Yield the pieces of a file that are not loaded yet, and its reader at the end."""
        self._check(reader.check_header)
        rules = Rules(load, reader)
        if reader.nrows == 0:
            raise FormatError("the table has no rows", file=load.path, hdu=reader.hdu)
        start = self._ask(load, "begin", partial(self.ledger.begin, load, reader))
        self._sums[load] = self.ledger.checksum(load)
        self.progress.start(load, reader.nrows - start)
        for piece in self._pieces(load, reader, rules, start):
            if piece.last == reader.nrows:
                # While the end of the file is not committed, it does not count as loaded.
                self._check_file(load, reader)
            yield load, piece
        rules.converter.report()
        yield load, reader

    def _check_file(self, load: FileLoad, reader: TableReader) -> None:
        """Make sure that a file is what it says itself, and that nobody changed it meanwhile."""
        if self.ledger.keeps_checksums and not reader.has_heap:
            self._check(partial(reader.check_data, self._sums[load]))
        self._check_unchanged(load, reader)

    @staticmethod
    def _check_unchanged(load: FileLoad, reader: TableReader) -> None:
        change = reader.changed()
        if change is not None:
            raise FormatError(f"{change}; give the command again when it is at rest", file=load.path, hdu=reader.hdu)

    def _check(self, check: Callable[[], None]) -> None:
        """Check a sum; where wrong ones are no reason to stop, they are told."""
        try:
            check()
        except ChecksumError as error:
            if self.checksums:
                raise
            logger.warning("%s", error)

    def _ask(self, load: FileLoad, what: str, question: Callable[[], Any]) -> Any:
        """Ask a question of the database, and again if it fails in a way that may pass."""
        return self.retries.run(question, f"{what} of {load.path.name}")

    def _pieces(self, load: FileLoad, reader: TableReader, rules: Rules, start: int) -> Iterator[Piece]:
        """Yield what is written in one transaction each; it is read and converted in slices that fit the caches."""
        writer = self._writer(load.table)
        size = slice_rows(reader, self.slice_bytes, self.chunksize)
        for first in range(start, reader.nrows, self.chunksize):
            last = min(first + self.chunksize, reader.nrows)
            piece = Piece(first, last)
            keys = KeysOfChunk(load.table)
            known: list[Known] = [keys]
            if self.rejects is not None and not load.only_new:
                known.append(KeysOfTable(self.database, load.table))
            for begin in range(first, last, size):
                chunk = reader.read(begin, min(begin + size, last))
                if self.ledger.keeps_checksums and reader.adds_checksums:
                    piece.checksum = add(piece.checksum, reader.checksum_of(chunk))
                part = rules.apply(
                    chunk, known, piece.rejects if self.rejects else None, partial(self._ask, load, "filter")
                )
                if part.rows.size:
                    piece.rows += part.rows.size
                    piece.places.append(part.rows)
                    piece.prepared.append(writer.prepare(part.columns))
            if self.ledger.keeps_checksums and not reader.adds_checksums:
                piece.checksum = reader.checksum(first, last)
            self._sums[load] = add(self._sums[load], piece.checksum)
            piece.keys = [values for values in keys.keys if values.size]
            yield piece

    def _write(self, pieces: list[tuple[FileLoad, Piece]]) -> list[Counts]:
        """Write pieces, together or, if one of them violates a key, each by itself: those before it stay."""
        try:
            return self._write_together(pieces) if pieces else []
        except DatabaseError as error:
            if error.column is None and not isinstance(error, ConstraintError):
                raise
            if len(pieces) == 1:
                raise self._named(*pieces[0], error) from error
        return [counts for piece in pieces for counts in self._write([piece])]

    def _write_together(self, pieces: list[tuple[FileLoad, Piece]]) -> list[Counts]:
        """Write pieces in one transaction, each with its entry in the ledger."""
        attempts = 0

        def transaction() -> list[Counts]:
            nonlocal attempts
            attempts += 1
            # A chunk that a crash could still lose must not be passed over.
            with self.database.begin(check_references=False, durable=True) as connection:
                return [self._write_piece(connection, *item, again=attempts > 1) for item in pieces]

        (first, start), (last, end) = pieces[0], pieces[-1]
        files = first.path.name if first.path == last.path else f"{first.path.name} … {last.path.name}"
        with self.database.turn:
            return self.retries.run(transaction, f"chunk of {files}, rows {start.first} to {end.last}")

    def _write_piece(self, connection: Connection, load: FileLoad, piece: Piece, *, again: bool) -> Counts:
        if again and self.ledger.has(connection, load, piece):
            return Counts(inserted=piece.rows)
        writer = self._writer(load.table)
        counts = Counts()
        certain = isinstance(load.row_filter, LearningFilter) and load.row_filter.certain
        if piece.rows and load.only_new and not certain:
            counts = writer.insert_new(connection, piece.prepared)
        elif piece.rows:
            counts = Counts(inserted=writer.append(connection, piece.prepared))
        self.ledger.record(connection, load, piece, counts)
        return counts

    def _writer(self, table: type[SchemaMixin]) -> Writer:
        if table not in self._writers:
            self._writers[table] = self.database.writer(table)
        return self._writers[table]

    def _named(self, load: FileLoad, piece: Piece, error: DatabaseError) -> DatabaseError:
        """Say which row of the file it is that the table has already, as far as that is what is wrong."""
        if error.column is not None:
            column = error.column.upper()
            return DatabaseError(error.message, file=load.path, hdu=load.hdu_name, column=column)
        keys = np.concatenate(piece.keys)
        with self.database.turn, self.database.connect() as connection:
            there = existing_keys(self.database, connection, load.table, keys)
        if not there.any():
            return ConstraintError(error.message, file=load.path, hdu=load.hdu_name)
        row = int(np.concatenate(piece.places)[there][0])
        key = int(comparable(keys[there])[0])
        message = f"table {table_of(load.table).name} has a row with the key {key} already"
        return ConstraintError(message, file=load.path, hdu=load.hdu_name, row=row)
