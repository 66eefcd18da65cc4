"""The design of a tile: its targets, and which of them got a fiber or could have got one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specprod.errors import InputError, MissingColumnError
from specprod.files.fits import read_header
from specprod.files.tables import Chunk
from specprod.files.unpacking import unpacked
from specprod.tiles.sky import without_sky

if TYPE_CHECKING:
    from astropy.table import Table

    from specprod.files.tree import ProductionTree

__all__ = ["TileDesign", "read_design"]

_POSITIONS = (("RA", "DEC"), ("TARGET_RA", "TARGET_DEC"))


@dataclass(frozen=True, eq=False)
class TileDesign:
    """What the fiberassign file of a tile says.

    Attributes
    ----------
    tileid : int
    path : pathlib.Path
    header : mapping
        Keywords of the primary HDU.
    targets : astropy.table.Table
        TARGETID, RA, DEC (degrees) of the targets that are not sky, sorted by TARGETID, each once.
    fiberassign, potential : Chunk
        Rows of HDUs FIBERASSIGN and POTENTIAL_ASSIGNMENTS that are not sky.
    """

    tileid: int
    path: Path
    header: Mapping[str, Any]
    targets: Table
    fiberassign: Chunk
    potential: Chunk


def read_design(tree: ProductionTree, tileid: int) -> TileDesign:
    """Read the fiberassign file of a tile; one that is compressed is unpacked once.

    Raises
    ------
    InputError
        If there is no such file, or it is not what it should be.
    """
    path = tree.fiberassign(tileid)
    with unpacked(path) as plain:
        try:
            header = read_header(plain)
            assigned, reached, targets = (
                without_sky(plain, hdu) for hdu in ("FIBERASSIGN", "POTENTIAL_ASSIGNMENTS", "TARGETS")
            )
            return TileDesign(tileid, path, header, _positions([targets, assigned]), assigned, reached)
        except InputError as error:
            error.file = str(path)
            raise


def _positions(chunks: Sequence[Chunk]) -> Table:
    """Collect targets and their positions; the first of several rows of a target counts."""
    from astropy.table import Table

    columns: dict[str, list[Any]] = {"TARGETID": [], "RA": [], "DEC": []}
    for chunk in chunks:
        pair = next((pair for pair in _POSITIONS if pair[0] in chunk.names), None)
        if pair is None:
            raise MissingColumnError("expected positions of the targets", column="RA")
        for name, wanted in zip(columns, ("TARGETID", *pair), strict=True):
            columns[name].append(chunk[wanted])
    arrays = {name: np.concatenate(values) for name, values in columns.items()}
    _, first = np.unique(arrays["TARGETID"].astype(np.int64), return_index=True)
    native = {"TARGETID": np.int64, "RA": np.float64, "DEC": np.float64}
    return Table({name: values[first].astype(native[name]) for name, values in arrays.items()}, copy=False)
