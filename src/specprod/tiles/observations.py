"""Rows of the tiles and exposures files of a production that belong to single tiles."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from specprod.errors import InputError
from specprod.files.opening import open_table
from specprod.files.tables import Chunk
from specprod.model import Exposure, Frame, SchemaMixin, Tile
from specprod.model.converting import Columns
from specprod.production.parts import TILES_HDU
from specprod.tiles.rows import converted

if TYPE_CHECKING:
    from specprod.files.tree import ProductionTree

__all__ = ["Observations"]


class Observations:
    """The tiles and exposures files, each opened once.

    Parameters
    ----------
    tree : ProductionTree
    tiles, exposures : path, optional
        Files in the place of the production's own, such as patched ones.
    """

    def __init__(self, tree: ProductionTree, tiles: Path | None = None, exposures: Path | None = None) -> None:
        self.tiles_file = tiles or tree.tiles()
        self.exposures_file = exposures or tree.exposures()

    @cached_property
    def _tiles(self) -> Chunk:
        return _view(self.tiles_file, TILES_HDU, "TILEID")

    @cached_property
    def _exposures(self) -> Chunk:
        return _view(self.exposures_file, "EXPOSURES", "TILEID", "EFFTIME_SPEC")

    @cached_property
    def _frames(self) -> Chunk:
        return _view(self.exposures_file, "FRAMES", "EXPID")

    def _converted(self, cls: type[SchemaMixin], chunk: Chunk, rows: npt.NDArray[np.int64]) -> Columns:
        files: dict[type[SchemaMixin], tuple[Path, str]] = {
            Tile: (self.tiles_file, TILES_HDU[0]),
            Exposure: (self.exposures_file, "EXPOSURES"),
            Frame: (self.exposures_file, "FRAMES"),
        }
        file, hdu = files[cls]
        return converted(cls, chunk.take(rows), file=str(file), hdu=hdu, rows=rows)

    def tile(self, tileid: int) -> Columns:
        """Row of table tile.

        Raises
        ------
        InputError
            If the file does not have exactly one.
        """
        rows = np.flatnonzero(self._tiles["TILEID"] == tileid)
        if rows.size != 1:
            raise InputError(f"has {rows.size} rows of tile {tileid}, expected 1", file=self.tiles_file)
        return self._converted(Tile, self._tiles, rows)

    def all_tiles(self, tileids: npt.NDArray[np.int64]) -> Columns:
        """Rows of table tile of some tiles that the file has, in its order."""
        return self._converted(Tile, self._tiles, np.flatnonzero(np.isin(self._tiles["TILEID"], tileids)))

    def exposures(self, tileid: int) -> Columns:
        """Rows of table exposure: the exposures of a tile with EFFTIME_SPEC > 0.

        Raises
        ------
        InputError
            If there are none.
        """
        valid = np.ma.filled((self._exposures["TILEID"] == tileid) & (self._exposures["EFFTIME_SPEC"] > 0), False)
        if not valid.any():
            raise InputError(f"tile {tileid} has no exposure with EFFTIME_SPEC > 0", file=self.exposures_file)
        return self._converted(Exposure, self._exposures, np.flatnonzero(valid))

    def frames(self, expids: npt.NDArray[np.int32]) -> Columns:
        """Rows of table frame of some exposures."""
        return self._converted(Frame, self._frames, np.flatnonzero(np.isin(self._frames["EXPID"], expids)))


def _view(path: Path, hdu: str | tuple[str, ...], *names: str) -> Chunk:
    with open_table(path, hdu) as reader:
        reader.require(*names)
        return reader.view()
