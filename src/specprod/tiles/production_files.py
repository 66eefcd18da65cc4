"""Photometry from the production's own files, which hold that of millions of targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specprod.files.opening import open_table
from specprod.files.tables import Chunk
from specprod.model import Photometry, Target
from specprod.tiles.merging import merged
from specprod.tiles.sources import PhotometrySource, Wanted

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["ProductionFiles"]

#: Rows whose numbers are looked at together; a column of a file that does not fit the memory is never whole in it.
_BLOCK = 1 << 20


def _chosen(
    path: Path, hdu: str, name: str, choose: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]
) -> Iterator[Chunk]:
    """Yield the rows of a file that are chosen by the values of one column."""
    with open_table(path, hdu) as reader:
        reader.require("TARGETID", name)
        for start in range(0, reader.nrows, _BLOCK):
            chunk = reader.view(start, start + _BLOCK)
            rows = np.flatnonzero(choose(chunk.integers(name)))
            if rows.size:
                yield chunk.take(rows)


class ProductionFiles(PhotometrySource):
    """Reads files ``targetphot…`` and ``tractorphot…``: one column of each in whole, then the rows that are wanted."""

    def targeting(self, wanted: Sequence[Wanted]) -> dict[int, Table]:
        """Find the rows of these tiles; see `PhotometrySource`."""
        tileids = np.array([item.tileid for item in wanted])
        found: dict[int, list[Chunk]] = {item.tileid: [] for item in wanted}
        for path in self.tree.targetphot():
            for chunk in _chosen(path, "TARGETPHOT", "TILEID", lambda values: np.isin(values, tileids)):
                tileid = chunk.integers("TILEID")
                for number in np.unique(tileid).tolist():
                    found[number].append(chunk.take(np.flatnonzero(tileid == number)))
        tables = {}
        for item in wanted:
            if found[item.tileid]:
                targetid = np.concatenate([chunk.integers("TARGETID") for chunk in found[item.tileid]])
                table = merged(found[item.tileid], Photometry, Target)
                tables[item.tileid] = table[_first(targetid, np.asarray(item.targets["TARGETID"]))]
        return tables

    def tractor(self, targets: Table) -> Table:
        """Find the rows of these TARGETIDs; see `PhotometrySource`."""
        wanted = np.sort(np.asarray(targets["TARGETID"]))
        found: list[Chunk] = []
        for path in self.tree.tractorphot() if wanted.size else ():
            found += _chosen(path, "TRACTORPHOT", "TARGETID", lambda values: _within(values, wanted))
        table = merged(found, Photometry)
        return table[_first(np.asarray(table["TARGETID"]), wanted)] if found else table


def _within(values: npt.NDArray[np.int64], ordered: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Find which values are among some that are sorted; a search for each is faster than sorting millions."""
    place = np.minimum(np.searchsorted(ordered, values), ordered.size - 1)
    return np.asarray(ordered[place] == values)


def _first(targetid: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Give the first row of each TARGETID that is wanted, in the order of the rows."""
    distinct, first = np.unique(targetid, return_index=True)
    return np.sort(first[np.isin(distinct, wanted)]).astype(np.int64)
