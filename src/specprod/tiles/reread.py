"""Tiles that were loaded one by one, read once more: the rows that they gave, for comparing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from specprod.database.failures import Retries
from specprod.loading.filters import TargetSet
from specprod.loading.pieces import FileLoad
from specprod.loading.rules import Slice
from specprod.loading.tile_records import TileRecord
from specprod.model import Photometry, SchemaMixin, table_of
from specprod.model.converting import Columns
from specprod.tiles.choice import photometry_source
from specprod.tiles.observations import Observations
from specprod.tiles.preparing import TilePreparation
from specprod.tiles.rows import TileRows

if TYPE_CHECKING:
    from specprod.database.interface import Database
    from specprod.files.tree import ProductionTree

__all__ = ["RereadTiles"]


class _Preparation(TilePreparation):
    """Reads tiles as they were loaded, asking the files before them what the load asked of the database."""

    def __init__(self, *arguments: Any, known: TargetSet) -> None:
        super().__init__(*arguments, update=False, retries=Retries())
        self._known = known

    def unknown(self, targetid: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Find which of some TARGETIDs no file before has."""
        return targetid[~self._known.have(targetid)]


class RereadTiles:
    """The rows that tiles gave, in the order in which they were loaded.

    Each tile is read once, and its rows are kept in temporary files, which have room for them.

    Parameters
    ----------
    database : Database
    tree : ProductionTree
    records : sequence of TileRecord
        Of the ledger.
    known : TargetSet
        TARGETIDs of photometry that was there before the first of them; those of the tiles are added.

    Attributes
    ----------
    failures : dict of int to str
        Why tiles cannot be read any more.
    """

    def __init__(
        self, database: Database, tree: ProductionTree, records: Sequence[TileRecord], known: TargetSet
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="specprod-")
        self._files: dict[type[SchemaMixin], list[tuple[FileLoad, Path]]] = {}
        self.failures: dict[int, str] = {}
        loaded = [record for record in records if record.tables]
        self._tileids = np.unique(np.array([record.tileid for record in loaded], dtype=np.int64))
        try:
            # Tiles whose loads had the same arguments are read together: a catalogue is read once for all of them.
            for options, group in groupby(loaded, key=lambda record: record.facts.get("options") or {}):
                self._read(database, tree, options, [record.tileid for record in group], known)
        except BaseException:
            self._directory.cleanup()
            raise

    def _read(
        self, database: Database, tree: ProductionTree, options: dict[str, Any], tileids: list[int], known: TargetSet
    ) -> None:
        files = [None if (name := options.get(key)) is None else Path(name) for key in ("tiles_file", "exposures_file")]
        source = photometry_source(tree, options.get("source"), missing_bricks=options.get("missing_bricks") or "fail")
        preparation = _Preparation(database, tree, Observations(tree, *files), source, known=known)
        for tileid, rows in preparation.read_all(tileids):
            if isinstance(rows, TileRows):
                self._keep(rows, known)
            else:
                self.failures[tileid] = str(rows)

    def _keep(self, rows: TileRows, known: TargetSet) -> None:
        """Write the rows of a tile to temporary files."""
        for cls, columns in rows.tables.items():
            if not columns:
                continue
            kept = columns
            if cls is Photometry:
                # Tiles that were read together have targets in common: the first of them brought the row.
                new = ~known.have(columns["targetid"])
                kept = {name: values[new] for name, values in columns.items()}
                known.add(kept["targetid"])
            path = Path(self._directory.name) / f"{table_of(cls).name}-{rows.tileid}.npz"
            np.savez(path, allow_pickle=False, **kept)
            load = FileLoad(Path(f"tile {rows.tileid}"), table_of(cls).name, cls, stage="tile")
            self._files.setdefault(cls, []).append((load, path))

    def slices(self, cls: type[SchemaMixin]) -> Iterator[Slice]:
        """Yield the rows of a table; the number of a row is that in its tile."""
        for load, path in self._files.get(cls, ()):
            with np.load(path) as stored:
                columns: Columns = {name: stored[name] for name in stored.files}
            rows = np.arange(len(next(iter(columns.values()))))
            if rows.size:
                yield Slice(load, rows, columns)

    def count(self, cls: type[SchemaMixin]) -> int:
        """Count the tiles that gave rows of a table."""
        return len(self._files.get(cls, ()))

    def stay(self, part: Slice) -> Slice:
        """Leave out the rows of a production's files in whose place those of a tile are."""
        if not self._tileids.size or "tileid" not in part.columns:
            return part
        good = ~np.isin(part.columns["tileid"].astype(np.int64), self._tileids)
        if good.all():
            return part
        return Slice(part.load, part.rows[good], {name: values[good] for name, values in part.columns.items()})

    def close(self) -> None:
        """Remove the temporary files."""
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
