"""Files that changed after they were loaded: the table is brought to what its files say now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from specprod.database.keys import build_key
from specprod.database.writing import Counts
from specprod.errors import ConstraintError
from specprod.files.opening import open_table
from specprod.loading.constraints import fill_keys
from specprod.loading.interfaces import FileLoad, Ledger, Piece
from specprod.loading.rereading import rows_of_files
from specprod.model import SchemaMixin, table_of
from specprod.model.converting import database_dtype
from specprod.survey.identifiers import INT128, comparable

if TYPE_CHECKING:
    from specprod.database.connection import Database
    from specprod.database.failures import Retries

__all__ = ["reload_table"]

logger = logging.getLogger(__name__)


def reload_table(
    database: Database, cls: type[SchemaMixin], loads: Sequence[FileLoad], ledger: Ledger, retries: Retries
) -> int:
    """Replace what came from files that have changed, in one transaction.

    All files of the table are read: a row that is no longer in one file may be in another. Rows that are as they should
    be are not written.

    Parameters
    ----------
    database : Database
    cls : class
    loads : sequence of FileLoad
        All files of the table, in the order in which they are loaded.
    ledger : Ledger
    retries : Retries

    Returns
    -------
    int
        Number of rows that were inserted, updated or removed; 0 if no file has changed.

    Raises
    ------
    ConstraintError
        If rows that are gone from the files are still referred to; their tables are to be reloaded first.
    """
    changed = [load for load in loads if ledger.changed(load)]
    if not changed:
        return 0
    known = [load for load in loads if ledger.ranges(load)]
    build_key(database, cls, retries)
    logger.info("%s: %d files have changed", table_of(cls).name, len(changed))

    def transaction() -> int:
        return _synchronize(database, cls, known, changed, ledger)

    try:
        return retries.run(transaction, f"reload of {table_of(cls).name}")
    except ConstraintError as error:
        raise ConstraintError(
            f"{error.message}; rows that are gone from the file are still referred to", file=changed[0].path
        ) from error


def _synchronize(
    database: Database,
    cls: type[SchemaMixin],
    known: Sequence[FileLoad],
    changed: Sequence[FileLoad],
    ledger: Ledger,
) -> int:
    writer = database.writer(cls)
    (key,) = (item.name for item in table_of(cls).primary_key.columns)
    sizes = {}
    for load in known:
        with open_table(load.path, load.hdu) as reader:
            sizes[load] = reader.nrows if load in changed else ledger.ranges(load)[-1][1]
            # Outside of the transaction: SQLite has one writer.
            ledger.announce(load, reader.nrows)
    written: dict[FileLoad, int] = dict.fromkeys(known, 0)
    total = Counts()
    with database.begin(check_references=True) as connection:
        fill_keys(
            database,
            connection,
            np.empty(0, dtype="S39" if database_dtype(table_of(cls).c[key]) == INT128 else np.int64),
        )
        for piece in rows_of_files(sizes.items()):
            total += writer.upsert(connection, [writer.prepare(piece.columns)])
            written[piece.load] += int(piece.rows.size)
            fill_keys(database, connection, comparable(piece.columns[key]))
        removed = connection.exec_driver_sql(
            f"DELETE FROM {database.name(cls)} WHERE NOT EXISTS (SELECT 1 FROM specprod_keys AS k "
            f"WHERE k.value = {database.name(cls)}.{database.quote(key)})"
        ).rowcount
        connection.exec_driver_sql("DROP TABLE specprod_keys")
        for load in changed:
            ledger.forget(connection, load, 0)
            with open_table(load.path, load.hdu) as reader:
                piece_of_all = Piece(0, reader.nrows, written[load], checksum=reader.checksum(0, reader.nrows))
            ledger.record(connection, load, piece_of_all, Counts(inserted=written[load]))
    return total.inserted + total.updated + int(removed)
