"""Reading of tiles: from their files to the rows that the database takes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from specprod.database.failures import Retries
from specprod.database.lookups import unknown_targetids
from specprod.errors import InputError, MissingColumnError
from specprod.model import Fiberassign, Photometry, SchemaMixin, Target, Tile, Ztile
from specprod.model.converting import Columns
from specprod.tiles.columns import assignment_columns, photometry_columns, redshift_columns, target_columns
from specprod.tiles.design import TileDesign, completed, read_design
from specprod.tiles.observations import Observations
from specprod.tiles.rows import TileRows
from specprod.tiles.sources import PhotometrySource, Wanted
from specprod.tiles.spectra import read_spectra

if TYPE_CHECKING:
    from astropy.table import Table

    from specprod.database.connection import Database
    from specprod.files.tree import ProductionTree

__all__ = ["BATCH", "TilePreparation"]

logger = logging.getLogger(__name__)

#: Tiles that are read together, so that a catalogue is read once for all of them. Each takes some 50 MB of memory.
BATCH = 24


class TilePreparation:
    """Reads tiles of a production.

    Parameters
    ----------
    database : Database
        Asked for what it has already.
    tree : ProductionTree
    observations : Observations
    source : PhotometrySource
    update : bool
        Whether tiles whose targets are in the database bring only their observations and spectra.
    strict : bool
        Whether a target that is in no catalogue is an error.
    retries : Retries
    """

    def __init__(
        self,
        database: Database,
        tree: ProductionTree,
        observations: Observations,
        source: PhotometrySource,
        *,
        update: bool,
        strict: bool = False,
        retries: Retries,
    ) -> None:
        self.database = database
        self.tree = tree
        self.observations = observations
        self.source = source
        self.update = update
        self.strict = strict
        self.retries = retries

    def read_all(self, tileids: Sequence[int]) -> Iterator[tuple[int, TileRows | InputError]]:
        """Yield the rows of each tile, or why it cannot be loaded."""
        for start in range(0, len(tileids), BATCH):
            yield from self._read_batch(tileids[start : start + BATCH])

    def _read_batch(self, tileids: Sequence[int]) -> Iterator[tuple[int, TileRows | InputError]]:
        observed: list[TileRows] = []
        designs: dict[int, TileDesign] = {}
        for tileid in tileids:
            try:
                rows = self.observed(tileid)
                if rows.complete:
                    designs[tileid] = read_design(self.tree, tileid)
                observed.append(rows)
            except InputError as error:
                yield tileid, error
        try:
            photometry = self._photometry([(rows, designs[rows.tileid]) for rows in observed if rows.complete])
        except InputError as error:
            if len(observed) == 1:
                yield observed[0].tileid, error
            else:
                # A file that only one of the tiles needs must not keep the others out.
                for rows in observed:
                    yield from self._read_batch([rows.tileid])
            return
        for rows in observed:
            try:
                if rows.complete:
                    yield rows.tileid, self._with_design(rows, designs[rows.tileid], *photometry)
                else:
                    yield rows.tileid, rows
            except InputError as error:
                yield rows.tileid, error

    # ---- observations and spectra

    def observed(self, tileid: int) -> TileRows:
        """Read the observations and spectra of a tile, and decide whether its targets are to be read.

        Raises
        ------
        InputError
        """
        tables = self.observations.tables(tileid)
        tile = tables[Tile]
        lastnight = int(tile["lastnight"][0])
        files = self.tree.spectra(tileid, lastnight)
        spectra = read_spectra(files, lastnight, checksums=self.tree.checksums)
        tables[Ztile] = redshift_columns(
            spectra, tileid=tileid, survey=_text(tile["survey"]), program=_text(tile["program"])
        )
        complete, redesigned = True, False
        if self.update:
            assigned = self.assigned(tileid)
            # A tile that was designed anew has other targets on its fibers.
            redesigned = bool(assigned) and not _pairs(spectra) <= assigned
            complete = not assigned or redesigned
            if redesigned:
                logger.warning("tile %d: was designed anew since it was loaded; its targets are read again", tileid)
        return TileRows(tileid, tables, complete, redesigned, list(files.values()))

    def assigned(self, tileid: int) -> set[tuple[int, int]]:
        """Ask the database for the assignments of a tile: TARGETID and location."""
        query = sa.select(Fiberassign.targetid, Fiberassign.location).where(Fiberassign.tileid == tileid)

        def ask() -> set[tuple[int, int]]:
            with self.database.connect() as connection:
                return {(targetid, location) for targetid, location in connection.execute(query)}

        return self.retries.run(ask, f"assignments of tile {tileid}")

    # ---- targets and assignments

    def _photometry(self, tiles: Sequence[tuple[TileRows, TileDesign]]) -> tuple[dict[int, Table], Table, Any]:
        """Read the photometry of some tiles: by targeting, by Tractor, and which TARGETIDs are new."""
        wanted = [_wanted(rows, design) for rows, design in tiles]
        targeting = self.source.targeting(wanted) if wanted else {}
        new, targets = self._new_targets([item.targets for item in wanted])
        return targeting, self.source.tractor(targets) if new.size else targets[:0], new

    def unknown(self, targetid: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Find which of some TARGETIDs have no photometry yet."""

        def ask() -> npt.NDArray[np.int64]:
            with self.database.connect() as connection:
                return unknown_targetids(self.database, connection, targetid)

        return self.retries.run(ask, "targets without photometry")

    def _new_targets(self, tables: Sequence[Table]) -> tuple[npt.NDArray[np.int64], Table]:
        """Find the targets of some tiles of which the database has no photometry."""
        from astropy.table import Table

        columns = {name: [np.asarray(table[name]) for table in tables] for name in ("TARGETID", "RA", "DEC")}
        if not tables:
            return np.zeros(0, dtype=np.int64), Table()
        arrays = {name: np.concatenate(values) for name, values in columns.items()}
        targetid, first = np.unique(arrays["TARGETID"], return_index=True)
        new = np.sort(self.unknown(targetid))
        first = first[np.isin(targetid, new)]
        return new, Table({name: values[first] for name, values in arrays.items()}, copy=False)

    def _with_design(
        self,
        rows: TileRows,
        design: TileDesign,
        targeting: dict[int, Table],
        tractor: Table,
        new: npt.NDArray[np.int64],
    ) -> TileRows:
        """Add photometry, targets and assignments to the rows of a tile."""
        what = f"tile {rows.tileid}"
        wanted = _wanted(rows, design)
        table, uncatalogued = completed(targeting.get(rows.tileid), design, wanted, strict=self.strict)
        mine = np.intersect1d(np.asarray(design.targets["TARGETID"]), new)
        matched = tractor[np.isin(np.asarray(tractor["TARGETID"]), mine)] if len(tractor) else tractor
        fresh = table[np.isin(np.asarray(table["TARGETID"]), mine)]
        absent = self.source.absent_bricks(design.targets[np.isin(np.asarray(design.targets["TARGETID"]), mine)])
        for path in absent:
            logger.warning("%s: %s goes on without this catalogue, which is not there", path, what)
        tables: dict[type[SchemaMixin], Columns] = {
            Photometry: photometry_columns(matched, fresh, what),
            Target: target_columns(table, what, survey=wanted.survey, tileid=rows.tileid),
            **assignment_columns(design),
        }
        return replace(
            rows,
            tables=rows.tables | tables,
            files=[*rows.files, design.path],
            uncatalogued=uncatalogued,
            missing_bricks=len(absent),
        )


def _wanted(rows: TileRows, design: TileDesign) -> Wanted:
    """Name the targets of a tile to a source of photometry."""
    return design.wanted(_text(rows.tables[Tile]["survey"]), _text(rows.tables[Tile]["program"]))


def _text(values: npt.NDArray[np.bytes_]) -> str:
    return bytes(values[0]).decode("utf-8")


def _pairs(spectra: Table) -> set[tuple[int, int]]:
    """TARGETID and location of each spectrum.

    Raises
    ------
    MissingColumnError
    """
    if "LOCATION" not in spectra.colnames:
        raise MissingColumnError("an update of a tile needs the locations of its spectra", column="LOCATION")
    return set(zip(np.asarray(spectra["TARGETID"]).tolist(), np.asarray(spectra["LOCATION"]).tolist(), strict=True))
