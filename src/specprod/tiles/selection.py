"""The tiles of a tiles file that are loaded."""

from __future__ import annotations

from pathlib import Path

from specprod.errors import InputError, MissingColumnError
from specprod.survey.constants import FIRST_NIGHT

__all__ = ["select_tiles"]


def select_tiles(path: Path) -> list[tuple[int, int]]:
    """Choose the tiles to load.

    Parameters
    ----------
    path : pathlib.Path
        A tiles file, FITS (its first table) or CSV.

    Returns
    -------
    list of tuple
        TILEID and LASTNIGHT of each tile with LASTNIGHT >= 20201214 and EFFTIME_SPEC > 0, in the order of the file.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, names a tile twice, or holds no such tile.
    """
    import numpy as np

    from specprod.files import open_table

    with open_table(path) as table:
        for column in ("TILEID", "LASTNIGHT", "EFFTIME_SPEC"):
            if column not in table.names:
                raise MissingColumnError("required for the choice of tiles", file=path, column=column)
        chosen = []
        for chunk in table.chunks(100_000):
            night, time = chunk["LASTNIGHT"], chunk["EFFTIME_SPEC"]
            # An empty cell of a CSV is masked; a comparison with it is neither true nor false.
            good = np.ma.filled((night >= FIRST_NIGHT) & (time > 0), False)
            chosen += [
                (int(tileid), int(last)) for tileid, last in zip(chunk["TILEID"][good], night[good], strict=True)
            ]
    if not chosen:
        raise InputError(f"no tile with LASTNIGHT >= {FIRST_NIGHT} and EFFTIME_SPEC > 0", file=path)
    ids, counts = np.unique([tileid for tileid, _ in chosen], return_counts=True)
    if (counts > 1).any():
        twice = ", ".join(str(tileid) for tileid in ids[counts > 1][:5])
        raise InputError(f"a tile must stand there once, but more than once: {twice}", file=path, column="TILEID")
    return chosen
