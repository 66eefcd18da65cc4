"""Reading of tiles: from their files to the rows that the database takes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from specprod.database.failures import Retries
from specprod.database.lookups import unknown_targetids
from specprod.errors import InputError, MissingColumnError
from specprod.model import Exposure, Fiberassign, Frame, Photometry, Potential, SchemaMixin, Target, Tile, Ztile
from specprod.model.converting import Columns
from specprod.tiles.design import TileDesign, read_design
from specprod.tiles.observations import Observations
from specprod.tiles.rows import TileRows, converted, joined
from specprod.tiles.sources import PhotometrySource, Wanted
from specprod.tiles.spectra import read_spectra

if TYPE_CHECKING:
    from astropy.table import Table

    from specprod.database.connection import Database
    from specprod.files.tree import ProductionTree

__all__ = ["BATCH", "TilePreparation", "photometry_columns"]

logger = logging.getLogger(__name__)

#: Tiles that are read together, so that a catalogue is read once for all of them. Each takes some 50 MB of memory.
BATCH = 24


def photometry_columns(tractor: Table, targeting: Table | None, what: str) -> Columns:
    """Make rows of table photometry: those of Tractor, and of targeting for the TARGETIDs that it does not have.

    Parameters
    ----------
    tractor : astropy.table.Table
        Perhaps without rows, and then perhaps without columns.
    targeting : astropy.table.Table or None
    what : str
        What this is, for messages.
    """
    parts = [converted(Photometry, tractor, file=f"Tractor photometry of {what}")] if len(tractor) else []
    if targeting is not None:
        matched = np.asarray(tractor["TARGETID"]) if len(tractor) else np.zeros(0, dtype=np.int64)
        rest = targeting[~np.isin(np.asarray(targeting["TARGETID"]), matched)]
        parts += [converted(Photometry, rest, file=f"targeting photometry of {what}")] if len(rest) else []
    return joined(*parts) if parts else {}


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
        retries: Retries,
    ) -> None:
        self.database = database
        self.tree = tree
        self.observations = observations
        self.source = source
        self.update = update
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
                    self._add_design(rows, designs[rows.tileid], *photometry)
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
        tile = self.observations.tile(tileid)
        exposures = self.observations.exposures(tileid)
        lastnight = int(tile["lastnight"][0])
        files = self.tree.spectra(tileid, lastnight)
        spectra = read_spectra(files, lastnight)
        given = {"survey": _text(tile["survey"]), "program": _text(tile["program"]), "tileid": tileid}
        what = f"redshifts of tile {tileid}"
        tables: dict[type[SchemaMixin], Columns] = {
            Tile: tile,
            Exposure: exposures,
            Frame: self.observations.frames(exposures["expid"]),
            Ztile: converted(Ztile, spectra, given | {"spgrp": "cumulative"}, file=what),
        }
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
        wanted = [
            Wanted(
                rows.tileid,
                _text(rows.tables[Tile]["survey"]),
                _text(rows.tables[Tile]["program"]),
                design.header,
                design.targets,
            )
            for rows, design in tiles
        ]
        targeting = self.source.targeting(wanted) if wanted else {}
        new, targets = self._new_targets([item.targets for item in wanted])
        return targeting, self.source.tractor(targets) if new.size else targets[:0], new

    def _new_targets(self, tables: Sequence[Table]) -> tuple[npt.NDArray[np.int64], Table]:
        """Find the targets of some tiles of which the database has no photometry."""
        from astropy.table import Table

        columns = {name: [np.asarray(table[name]) for table in tables] for name in ("TARGETID", "RA", "DEC")}
        if not tables:
            return np.zeros(0, dtype=np.int64), Table()
        arrays = {name: np.concatenate(values) for name, values in columns.items()}
        targetid, first = np.unique(arrays["TARGETID"], return_index=True)

        def ask() -> npt.NDArray[np.int64]:
            with self.database.connect() as connection:
                return unknown_targetids(self.database, connection, targetid)

        new = np.sort(self.retries.run(ask, "targets without photometry"))
        first = first[np.isin(targetid, new)]
        return new, Table({name: values[first] for name, values in arrays.items()}, copy=False)

    def _add_design(
        self,
        rows: TileRows,
        design: TileDesign,
        targeting: dict[int, Table],
        tractor: Table,
        new: npt.NDArray[np.int64],
    ) -> None:
        """Add photometry, targets and assignments to the rows of a tile."""
        what = f"tile {rows.tileid}"
        rows.files.append(design.path)
        targetid = np.asarray(design.targets["TARGETID"])
        table = targeting.get(rows.tileid)
        missing = targetid if table is None else np.setdiff1d(targetid, np.asarray(table["TARGETID"]))
        if table is None or missing.size:
            raise InputError(
                f"{missing.size} of {targetid.size} targets are in no catalogue of targets that there is, for example "
                f"TARGETID {int(missing[0]) if missing.size else 0}",
                file=design.path,
            )
        mine = np.intersect1d(targetid, new)
        matched = tractor[np.isin(np.asarray(tractor["TARGETID"]), mine)] if len(tractor) else tractor
        fresh = table[np.isin(np.asarray(table["TARGETID"]), mine)]
        rows.tables[Photometry] = photometry_columns(matched, fresh, what)
        survey = _text(rows.tables[Tile]["survey"])
        given = {"tileid": rows.tileid}
        rows.tables[Target] = converted(Target, table, given | {"survey": survey}, file=f"targets of {what}")
        for cls, chunk, hdu in (
            (Fiberassign, design.fiberassign, "FIBERASSIGN"),
            (Potential, design.potential, "POTENTIAL_ASSIGNMENTS"),
        ):
            rows.tables[cls] = converted(cls, chunk, given, file=str(design.path), hdu=hdu, rows=chunk.rows)


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
