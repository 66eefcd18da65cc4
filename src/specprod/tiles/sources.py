"""Where the photometry of a tile's targets comes from: one interface, and the choice between its kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from astropy.table import Table

    from specprod.files.tree import ProductionTree

__all__ = ["PhotometrySource", "Wanted", "labelled"]


@dataclass(frozen=True, eq=False)
class Wanted:
    """The targets of a tile for which photometry is wanted.

    Attributes
    ----------
    tileid : int
    survey, program : str
        Those of the tile.
    header : mapping
        Keywords of the fiberassign file, which name the target catalogues.
    targets : astropy.table.Table
        TARGETID, RA, DEC; each TARGETID once.
    """

    tileid: int
    survey: str
    program: str
    header: Mapping[str, Any]
    targets: Table


def labelled(table: Table, wanted: Wanted) -> Table:
    """Give the rows of a tile its TILEID, SURVEY and PROGRAM, which files of single surveys and programs do not repeat.

    Parameters
    ----------
    table : astropy.table.Table
        Is changed.
    wanted : Wanted
    """
    for name, value in (("TILEID", wanted.tileid), ("SURVEY", wanted.survey), ("PROGRAM", wanted.program)):
        # A new column: in one that is there, text would be cut to its width.
        table.remove_columns([name] if name in table.colnames else [])
        table[name] = np.full(len(table), value)
    return table


class PhotometrySource(ABC):
    """A source of photometry. Each file is read once a call, however many tiles want rows of it.

    Parameters
    ----------
    tree : ProductionTree
    """

    def __init__(self, tree: ProductionTree) -> None:
        self.tree = tree

    @abstractmethod
    def targeting(self, wanted: Sequence[Wanted]) -> dict[int, Table]:
        """Find the rows of target selection.

        Parameters
        ----------
        wanted : sequence of Wanted
            One for each tile.

        Returns
        -------
        dict of int to astropy.table.Table
            By TILEID; each TARGETID at most once. Targets that are not found are left out.

        Raises
        ------
        InputError
        """

    @abstractmethod
    def tractor(self, targets: Table) -> Table:
        """Find the rows of the Tractor catalogues.

        Parameters
        ----------
        targets : astropy.table.Table
            TARGETID, RA, DEC (degrees, ICRS); each TARGETID once.

        Returns
        -------
        astropy.table.Table
            Each TARGETID at most once. Targets without a source are left out.

        Raises
        ------
        InputError
        """

    def absent_bricks(self, targets: Table) -> list[Path]:
        """List the catalogues of bricks that TARGETIDs name and that are absent, if this source goes on without them.

        Parameters
        ----------
        targets : astropy.table.Table
            TARGETID.

        Returns
        -------
        list of pathlib.Path
            None of a source that has no bricks.
        """
        return []
