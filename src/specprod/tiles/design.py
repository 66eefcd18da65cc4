"""The design of a tile: its targets, and which of them got a fiber or could have got one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specprod.errors import InputError, MissingColumnError
from specprod.files.fits import read_header
from specprod.files.tables import Chunk
from specprod.files.unpacking import Unpacker
from specprod.model import Photometry, Target
from specprod.tiles.merging import file_columns, merged
from specprod.tiles.sky import pixels, without_sky
from specprod.tiles.sources import Wanted, labelled

if TYPE_CHECKING:
    from astropy.table import Table

    from specprod.files.tree import ProductionTree

__all__ = ["TileDesign", "completed", "read_design"]

_POSITIONS = (("RA", "DEC"), ("TARGET_RA", "TARGET_DEC"))
#: Resolution of table target's pixels.
_NSIDE = 64

logger = logging.getLogger(__name__)


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
    fiberassign, potential, listed : Chunk
        Rows of HDUs FIBERASSIGN, POTENTIAL_ASSIGNMENTS and TARGETS that are not sky.
    """

    tileid: int
    path: Path
    header: Mapping[str, Any]
    targets: Table
    fiberassign: Chunk
    potential: Chunk
    listed: Chunk

    def wanted(self, survey: str, program: str) -> Wanted:
        """Name its targets to a source of photometry.

        Parameters
        ----------
        survey, program : str
            Those of the tile.
        """
        return Wanted(self.tileid, survey, program, self.header, self.targets)


def read_design(tree: ProductionTree, tileid: int) -> TileDesign:
    """Read the fiberassign file of a tile; one that is compressed is unpacked once.

    Raises
    ------
    InputError
        If there is no such file, or it is not what it should be.
    """
    path = tree.fiberassign(tileid)
    with Unpacker() as unpacker:
        header = read_header(path, unpacker=unpacker)
        assigned, reached, targets = (
            without_sky(path, hdu, unpacker, checksums=tree.checksums)
            for hdu in ("FIBERASSIGN", "POTENTIAL_ASSIGNMENTS", "TARGETS")
        )
    return TileDesign(tileid, path, header, _positions([targets, assigned]), assigned, reached, targets)


def _positions(chunks: Sequence[Chunk]) -> Table:
    """Collect targets and their positions; the first of several rows of a target counts."""
    from astropy.table import Table

    columns: dict[str, list[Any]] = {"TARGETID": [], "RA": [], "DEC": []}
    for chunk in chunks:
        for name, wanted in zip(columns, ("TARGETID", *_position(chunk)), strict=True):
            columns[name].append(chunk[wanted])
    arrays = {name: np.concatenate(values) for name, values in columns.items()}
    _, first = np.unique(arrays["TARGETID"].astype(np.int64), return_index=True)
    native = {"TARGETID": np.int64, "RA": np.float64, "DEC": np.float64}
    return Table({name: values[first].astype(native[name]) for name, values in arrays.items()}, copy=False)


def _position(chunk: Chunk) -> tuple[str, str]:
    """Names of the columns of positions."""
    pair = next((pair for pair in _POSITIONS if pair[0] in chunk), None)
    if pair is None:
        raise MissingColumnError("expected positions of the targets", column="RA")
    return pair


def completed(table: Table | None, design: TileDesign, wanted: Wanted, *, strict: bool = False) -> tuple[Table, int]:
    """Add the targets of a tile that are in no catalogue, with what the fiberassign file itself says of them.

    Parameters
    ----------
    table : astropy.table.Table or None
        What a source of photometry has found.
    design : TileDesign
    wanted : Wanted
        The targets; perhaps not all of the design.
    strict : bool
        Whether such a target is an error.

    Returns
    -------
    table : astropy.table.Table
        All targets that are wanted. Where no file has a column, it is 0 or blank.
    uncatalogued : int
        Number of targets that were added.

    Raises
    ------
    InputError
        If there are no targets, or one is in no catalogue and `strict` is set.
    """
    targetid = np.asarray(wanted.targets["TARGETID"])
    if not targetid.size:
        raise InputError("has no targets but sky", file=design.path)
    left = targetid if table is None else np.setdiff1d(targetid, np.asarray(table["TARGETID"]))
    if table is not None and not left.size:
        return table, 0
    if strict and left.size:
        raise InputError(
            f"{left.size} of {targetid.size} targets are in no catalogue of targets that there is, for example "
            f"TARGETID {int(left[0])}",
            file=design.path,
        )
    logger.warning(
        "tile %d: %d of %d targets are in no catalogue of targets; they have what the fiberassign file says of them",
        design.tileid,
        left.size,
        targetid.size,
    )
    parts: list[Mapping[str, Any]] = [] if table is None else [{name: table[name].data for name in table.colnames}]
    uncatalogued = left.size
    # FIBERASSIGN says more of a target than TARGETS does.
    for chunk in (design.fiberassign, design.listed):
        distinct, first = np.unique(chunk.integers("TARGETID"), return_index=True)
        chosen = np.isin(distinct, left)
        if chosen.any():
            parts.append(_own_columns(chunk.take(np.sort(first[chosen]))))
            left = np.setdiff1d(left, distinct[chosen])
    return labelled(merged(parts, Photometry, Target, fill=True), wanted), uncatalogued


def _own_columns(chunk: Chunk) -> dict[str, Any]:
    """Columns of a fiberassign file that tables photometry and target take."""
    wanted = {name for names, *_ in file_columns(Photometry, Target) for name in names}
    columns = {name: chunk[name] for name in wanted if name in chunk}
    ra, dec = (chunk[name] for name in _position(chunk))
    return columns | {"RA": ra, "DEC": dec, "HPXPIXEL": pixels(ra, dec, _NSIDE)}
