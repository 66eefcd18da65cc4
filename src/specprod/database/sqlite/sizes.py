"""What rows take in SQLite."""

from __future__ import annotations

from typing import Final

from specprod.database.sizes import Sizes

__all__ = ["SIZES"]

#: Of a sample of 20 tiles and 370,000 rows: sizes by ``dbstat`` (a REAL is kept in 8 bytes), 8.1 s on two cores. Of
#: tile, exposure and frame, which are small, without the rest of their last pages.
SIZES: Final = Sizes(
    row_bytes={
        "tile": 500,
        "exposure": 500,
        "frame": 166,
        "photometry": 815,
        "target": 127,
        "ztile": 756,
        "zpix": 733,
        "fiberassign": 179,
        "potential": 66,
    },
    index_bytes={
        "tile": 25,
        "exposure": 60,
        "frame": 45,
        "photometry": 54,
        "target": 141,
        "ztile": 313,
        "zpix": 248,
        "fiberassign": 140,
        "potential": 111,
    },
    rate=45_000,
)
