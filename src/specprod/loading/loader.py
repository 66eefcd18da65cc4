"""The engine of all loads: a file in chunks, read and converted beside the write of the chunk before."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from specprod.configuration.defaults import CHUNKSIZE
from specprod.database.failures import Retries
from specprod.database.keys import missing_key
from specprod.database.writing import Counts, Writer
from specprod.errors import ConstraintError, FormatError
from specprod.files.checksums import add
from specprod.files.opening import open_table
from specprod.files.tables import TableReader
from specprod.files.unpacking import Unpacker
from specprod.loading.interfaces import FileLoad, Ledger, NoLedger, NoProgress, Piece, Progress
from specprod.loading.rejects import RejectFile, existing_keys, name_row, repeated
from specprod.model import SchemaMixin, table_of
from specprod.model.converting import Columns, Converter
from specprod.survey.identifiers import comparable

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["SLICE", "FileLoad", "Ledger", "Loader", "NoLedger", "NoProgress", "Piece", "Progress", "prefetched"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Bytes of a file that are converted at a time.
SLICE = 3 << 20


def prefetched(items: Iterator[T], size: Callable[[T], int] = lambda _: 1, most: int = 1) -> Iterator[T]:
    """Run an iterator in a thread of its own, some items before the consumer.

    Memory is bounded by this: the thread goes on as long as the items that it has made, and that the consumer has not
    taken yet, have less than a certain size. An exception of the iterator is raised here; when the consumer leaves, the
    thread ends.

    Parameters
    ----------
    items : iterator
    size : callable
        Size of an item; by default each counts 1.
    most : int
        Total size from which on the thread waits.
    """
    ready: deque[tuple[T | None, BaseException | None]] = deque()
    changed = threading.Condition()
    sizes = 0
    stopped = False

    def produce() -> None:
        nonlocal sizes
        failure = None
        try:
            for item in items:
                with changed:
                    ready.append((item, None))
                    sizes += size(item)
                    changed.notify()
                    del item
                    while sizes >= most and not stopped:
                        changed.wait()
                    if stopped:
                        return
        except BaseException as error:
            failure = error
        with changed:
            ready.append((None, failure))
            changed.notify()

    thread = threading.Thread(target=produce, name="reader", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                while not ready:
                    changed.wait()
                item, error = ready.popleft()
                if item is not None:
                    sizes -= size(item)
                changed.notify()
            if item is not None:
                yield item
                del item
            elif error is not None:
                raise error
            else:
                return
    finally:
        with changed:
            stopped = True
            changed.notify()
        thread.join()


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
    ) -> None:
        self.database = database
        self.chunksize = chunksize
        self.slice_bytes = slice_bytes
        self.reload = reload
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
        for batch in self._batches(prefetched(self._all_pieces(loads), _rows, self.chunksize)):
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
                    self.ledger.finish(load, item)
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
                    yield from self._of_file(load, reader)
                logger.info("%s: %s done in %.1f s", load.path, table_of(load.table).name, time.monotonic() - start)

    def _of_file(self, load: FileLoad, reader: TableReader) -> Iterator[_Item]:
        """Yield the pieces of a file that are not loaded yet, and its reader at the end."""
        converter = Converter(
            load.table, reader.names, load.given, file=str(load.path), hdu=reader.hdu, nan_zero=load.nan_zero
        )
        writer = self._writer(load.table)
        if reader.nrows == 0:
            raise FormatError("the table has no rows", file=load.path, hdu=reader.hdu)
        start = self.retries.run(partial(self.ledger.begin, load, reader), f"begin of {load.path.name}")
        self.progress.start(load, reader.nrows - start)
        for piece in self._pieces(load, reader, converter, writer, start):
            yield load, piece
        converter.report()
        yield load, reader

    def _pieces(
        self, load: FileLoad, reader: TableReader, converter: Converter, writer: Writer, start: int
    ) -> Iterator[Piece]:
        """Yield what is written in one transaction each; it is read and converted in slices that fit the caches."""
        slice_rows = max(1, min(self.chunksize, self.slice_bytes // max(reader.row_bytes, 1)))
        for first in range(start, reader.nrows, self.chunksize):
            last = min(first + self.chunksize, reader.nrows)
            piece = Piece(first, last)
            for begin in range(first, last, slice_rows):
                chunk = reader.read(begin, min(begin + slice_rows, last))
                if self.ledger.keeps_checksums and reader.adds_checksums:
                    piece.checksum = add(piece.checksum, reader.checksum_of(chunk))
                kept = chunk
                if load.row_filter is not None:
                    kept = chunk.take(self.retries.run(partial(load.row_filter, chunk), f"filter of {load.path.name}"))
                columns, places = converter.convert_rows(kept, kept.rows, piece.rejects if self.rejects else None)
                columns = self._without_repeated(load, reader, columns, places, piece)
                rows = len(next(iter(columns.values())))
                if rows:
                    piece.rows += rows
                    piece.prepared.append(writer.prepare(columns))
            if self.ledger.keeps_checksums and not reader.adds_checksums:
                piece.checksum = reader.checksum(first, last)
            yield piece

    def _without_repeated(
        self, load: FileLoad, reader: TableReader, columns: Columns, places: npt.NDArray[np.int64], piece: Piece
    ) -> Columns:
        """Leave out the rows whose key occurs earlier in the chunk or, if rows are rejected, in the table."""
        (key,) = (item.name for item in table_of(load.table).primary_key.columns)
        bad = repeated(columns[key], piece.keys)
        there = np.zeros(bad.size, dtype=np.bool_)
        if self.rejects is not None and not load.only_new and bad.size:
            with self.database.turn, self.database.connect() as connection:
                if not missing_key(self.database, connection, load.table):
                    there = existing_keys(self.database, connection, load.table, columns[key])
        for mask, reason in (
            (bad, "repeats the key of an earlier row"),
            (there, "has a key that is in the table already"),
        ):
            # Where only new rows are wanted, the first of each key is, and the others are no fault.
            if load.only_new:
                continue
            if mask.any() and self.rejects is None:
                row = int(places[mask][0])
                raise ConstraintError(
                    f"{reason}: {name_row(load.table, columns, mask)}", file=load.path, hdu=reader.hdu, row=row
                )
            piece.rejects.add(places[mask], key.upper(), reason)
        good = ~(bad | there)
        kept = columns if good.all() else {name: values[good] for name, values in columns.items()}
        piece.keys.append(kept[key])
        piece.places.append(places[good])
        return kept

    def _write(self, pieces: list[tuple[FileLoad, Piece]]) -> list[Counts]:
        """Write pieces, together or, if one of them violates a key, each by itself: those before it stay."""
        try:
            return self._write_together(pieces) if pieces else []
        except ConstraintError as error:
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
        if piece.rows and load.only_new and not getattr(load.row_filter, "certain", False):
            counts = writer.insert_new(connection, piece.prepared)
        elif piece.rows:
            counts = Counts(inserted=writer.append(connection, piece.prepared))
        self.ledger.record(connection, load, piece, counts)
        return counts

    def _writer(self, table: type[SchemaMixin]) -> Writer:
        if table not in self._writers:
            self._writers[table] = self.database.writer(table)
        return self._writers[table]

    def _named(self, load: FileLoad, piece: Piece, error: ConstraintError) -> ConstraintError:
        """Say which row of the file it is that the table has already, as far as that is what is wrong."""
        hdu = load.hdu if isinstance(load.hdu, str | int) else None
        keys = np.concatenate(piece.keys)
        with self.database.turn, self.database.connect() as connection:
            there = existing_keys(self.database, connection, load.table, keys)
        if not there.any():
            return ConstraintError(error.message, file=load.path, hdu=hdu)
        row = int(np.concatenate(piece.places)[there][0])
        key = int(comparable(keys[there])[0])
        message = f"table {table_of(load.table).name} has a row with the key {key} already"
        return ConstraintError(message, file=load.path, hdu=hdu, row=row)
