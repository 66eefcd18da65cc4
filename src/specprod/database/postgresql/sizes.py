"""What rows take in PostgreSQL."""

from __future__ import annotations

from typing import Final

from specprod.database.sizes import Sizes

__all__ = ["SIZES"]

#: Of a sample of 20 tiles and 370,000 rows: sizes by ``pg_table_size`` and ``pg_indexes_size`` of PostgreSQL 15, 6.6 s
#: on two cores with the server on the same machine. Of tile, exposure and frame, which are small, without the rest of
#: their last pages.
SIZES: Final = Sizes(
    row_bytes={
        "tile": 390,
        "exposure": 400,
        "frame": 125,
        "photometry": 455,
        "target": 265,
        "ztile": 550,
        "zpix": 680,
        "fiberassign": 166,
        "potential": 76,
    },
    index_bytes={
        "tile": 50,
        "exposure": 80,
        "frame": 45,
        "photometry": 68,
        "target": 128,
        "ztile": 278,
        "zpix": 228,
        "fiberassign": 144,
        "potential": 116,
    },
    rate=55_000,
)
