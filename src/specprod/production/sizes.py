"""What rows take: bytes in a database, and time; measured, as each says."""

from __future__ import annotations

from typing import Final

__all__ = ["INDEX_BYTES", "RATES", "ROW_BYTES", "memory"]

#: Bytes a row in the table itself, by kind of database: of a sample of 20 tiles and 370,000 rows, sizes by
#: ``pg_table_size`` of PostgreSQL 15 and by ``dbstat`` of SQLite (which keeps a REAL in 8 bytes). Of the first three
#: tables, which are small, without the rest of their last pages.
ROW_BYTES: Final = {
    "postgresql": {
        "tile": 390, "exposure": 400, "frame": 125, "photometry": 455, "target": 265, "ztile": 550, "zpix": 680,
        "fiberassign": 166, "potential": 76,
    },
    "sqlite": {
        "tile": 500, "exposure": 500, "frame": 166, "photometry": 815, "target": 127, "ztile": 756, "zpix": 733,
        "fiberassign": 179, "potential": 66,
    },
}  # fmt: skip

#: Bytes a row in its keys and indexes: the same load, by ``pg_indexes_size`` and ``dbstat``.
INDEX_BYTES: Final = {
    "postgresql": {
        "tile": 50, "exposure": 80, "frame": 45, "photometry": 68, "target": 128, "ztile": 278, "zpix": 228,
        "fiberassign": 144, "potential": 116,
    },
    "sqlite": {
        "tile": 25, "exposure": 60, "frame": 45, "photometry": 54, "target": 141, "ztile": 313, "zpix": 248,
        "fiberassign": 140, "potential": 111,
    },
}  # fmt: skip

#: Rows a second from the first row to the last index, where nothing is known of a machine: the same load on two cores,
#: with the server on the same machine, took 6.6 s in PostgreSQL and 8.1 s in SQLite.
RATES: Final = {"postgresql": 55_000, "sqlite": 45_000}

#: Peak memory of a process that loads, measured with one worker, and what each further worker takes.
_MEMORY, _OF_WORKER = 160_000_000, 15_000_000
#: Up to so many TARGETIDs are held; they are sorted, so that they are there twice for a moment.
_TARGETS = 2_000_000


def memory(workers: int, targets: int) -> int:
    """Estimate the peak memory of a load in bytes; beyond two million targets it depends on no size of a file."""
    return _MEMORY + workers * _OF_WORKER + 16 * min(targets, _TARGETS)
