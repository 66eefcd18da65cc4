"""Write a production: tiles, exposures, photometry, fiber assignments, redshifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import ConfigurationError
from specprod.sample import columns as of
from specprod.sample.assignment import Assignment, assign, fiberassign_tables, header, targeting
from specprod.sample.catalogues import Catalogues
from specprod.sample.layout import Layout
from specprod.sample.observations import CLUSTER, Tile, exposures_of, frames_of, plan, tiles_of
from specprod.sample.photometry import assemble, targeting_photometry, tractorphot
from specprod.sample.redrock import exposure_fibermap, write_redrock
from specprod.sample.redshifts import by_pixel, by_tile, mark_primary
from specprod.sample.sky import Bricks, Sources, healpix, sources_of_tile
from specprod.sample.tables import Tree, csv_text

__all__ = ["Production", "Settings", "TileData"]

Array = npt.NDArray[Any]
_CHUNK = 20000  # rows of photometry in memory at a time

# Columns that vary between the files of real productions, and how they do here.
_ALPHABETIC = ("special", "sv1")  # surveys whose split files have the TSNR2 columns in alphabetic order
_BIT_KINDS = ("DESI", "BGS", "MWS", "SCND")


@dataclass(frozen=True)
class Settings:
    """What to write; see `specprod.sample.write_sample`."""

    layout: Layout
    tiles: int
    targets: int
    assigned: int
    sky_targets: int
    sky_fibers: int
    radius: float
    seed: int
    compressed: bool
    split: bool
    extension: bool
    compact: bool
    tile_inputs: bool
    brick_sources: int
    catalogue_reach: float

    def __post_init__(self) -> None:
        wrong = [
            (self.tiles < 1, "at least one tile is needed"),
            (self.assigned < 4, "at least four targets a tile must be assigned"),
            (self.targets < self.assigned, "a tile cannot have fewer potential targets than assigned ones"),
            (self.sky_targets < self.sky_fibers, "a tile cannot have fewer sky positions than sky fibers"),
            (self.assigned + self.sky_fibers > 5000, "a tile has 5000 fibers, for targets and sky together"),
            (min(self.sky_fibers, self.seed, self.brick_sources) < 0, "numbers must not be negative"),
            (not 1 <= self.catalogue_reach <= 4, "target catalogues reach 1 to 4 radii of a tile"),
            (not 0.1 <= self.radius <= 1.7, "the radius of a tile must be between 0.1 and 1.7 degrees"),
        ]
        for failed, message in wrong:
            if failed:
                raise ConfigurationError(message)

    @property
    def per_brick(self) -> int:
        """Sources in a brick, about twice as many as there are targets, so that all tiles find theirs."""
        density = self.targets / (np.pi * self.radius**2)
        return int(np.ceil(2 * density * Bricks.size**2)) + 12


@dataclass(frozen=True)
class TileData:
    """What is known of a tile while its cluster is being written."""

    tile: Tile
    assignment: Assignment
    fibers: Array
    spectra: Array | None
    exposures: Array

    @property
    def sources(self) -> Sources:
        """Targets of the tile that are not sky."""
        return self.assignment.sources


class Production:
    """A production that is being written, cluster by cluster of neighbouring tiles.

    Attributes
    ----------
    settings : Settings
    bricks : Bricks
    plan : list of Tile
    exposures : numpy structured array
        All exposures.
    """

    def __init__(self, settings: Settings, tree: Tree) -> None:
        s = self.settings = settings
        self.tree = tree
        self.bricks = Bricks()
        self.plan = plan(
            s.tiles,
            s.radius,
            targets=s.targets,
            assigned=s.assigned,
            sky_targets=s.sky_targets,
            sky_fibers=s.sky_fibers,
            extension=s.extension,
        )
        self.exposures = exposures_of(self.plan, s.seed, self.columns(of.EXPOSURES))
        self.catalogues = Catalogues(
            tree,
            self.bricks,
            radius=s.radius,
            per_brick=s.per_brick,
            beyond=s.brick_sources,
            reach=s.catalogue_reach,
            centres=[(cluster[0].ra, cluster[0].dec) for cluster in self.clusters()],
            seed=s.seed,
            adapt=self.columns,
        )

    def columns(self, columns: of.Columns) -> of.Columns:
        """Adapt the data model: wide enough for the extension programs, and without vectors if compact."""
        if self.settings.extension:
            columns = columns.retyped(PROGRAM="S8")
        if self.settings.compact:
            columns = columns.without(*(n for n in columns.names if n.startswith(("LC_", "APFLUX", "NEA", "BLOB_NEA"))))
        return columns

    def write_observations(self) -> None:
        """Write the tiles file, as FITS and CSV, and the exposures file."""
        layout = self.settings.layout
        columns = self.columns(of.TILES)
        tiles = tiles_of(self.plan, self.exposures, columns)
        hdu = "TILES" if layout.specprod == "daily" else "TILE_COMPLETENESS"
        name = layout.redux / f"tiles-{layout.specprod}.fits"
        self.tree.append(name, hdu, tiles, columns)
        self.tree.close(name)
        self.tree.text(name.with_suffix(".csv"), csv_text(tiles))
        name = layout.redux / f"exposures-{layout.specprod}.fits"
        self.tree.append(name, "EXPOSURES", self.exposures, self.columns(of.EXPOSURES))
        columns = self.columns(of.FRAMES)
        self.tree.append(name, "FRAMES", frames_of(self.exposures, self.settings.seed, columns), columns)
        self.tree.close(name)

    def clusters(self) -> list[list[Tile]]:
        """Tiles that may share targets, together."""
        return [self.plan[first : first + CLUSTER] for first in range(0, len(self.plan), CLUSTER)]

    def write_cluster(self, tiles: list[Tile]) -> list[TileData]:
        """Write what belongs to a cluster: fiber assignments, photometry, redshifts."""
        data = [self._write_tile(tile) for tile in tiles]
        if self.settings.layout.photometry != "computed":
            self._write_tractorphot(data)
        if self.settings.layout.redshift != "daily":
            self._write_redshifts([item for item in data if item.spectra is not None])
        if self.settings.tile_inputs:
            self.catalogues.write_cluster(tiles)
            for item in data:
                if item.spectra is not None:
                    write_redrock(
                        self.tree, self.settings.layout, item.tile, item.spectra, item.exposures, self.settings.seed
                    )
        return data

    def finish(self) -> None:
        """Write what could not be written before all clusters are."""
        self.catalogues.finish()

    def _write_tile(self, tile: Tile) -> TileData:
        s = self.settings
        sources = sources_of_tile(
            self.bricks, tile.ra, tile.dec, s.radius, per_brick=s.per_brick, targets=tile.targets, seed=s.seed
        )
        columns = self.columns(of.TARGETPHOT)
        photometry = targeting_photometry(sources, self.bricks, s.seed, columns)
        bits = targeting(sources, tile.survey, tile.program, s.seed)
        assignment = assign(tile, sources, self.bricks, s.radius, s.seed)
        tables = fiberassign_tables(tile, assignment, photometry, bits, s.seed)
        path = s.layout.fiberassign(tile.tileid)
        for hdu, (rows, table_columns) in tables.items():
            self.tree.append(path, hdu, rows, table_columns, primary=header(tile, s.layout))
        self.tree.close(path, compressed=s.compressed and tile.index % 2 == 1)
        if s.layout.photometry != "computed":
            self._write_targetphot(tile, photometry, bits, columns)
        valid = self.exposures[(self.exposures["TILEID"] == tile.tileid) & (self.exposures["EFFTIME_SPEC"] > 0)]
        fibers = tables["FIBERASSIGN"][0]
        spectra = by_tile(tile, fibers, valid, s.seed) if tile.observed else None
        return TileData(tile, assignment, fibers, spectra, valid)

    def _write_targetphot(self, tile: Tile, photometry: Array, bits: dict[str, Array], columns: of.Columns) -> None:
        for name, values in bits.items():
            photometry[name] = values
        photometry["SURVEY"], photometry["PROGRAM"] = tile.survey.encode(), tile.program.encode()
        photometry["TILEID"] = tile.tileid
        layout = self.settings.layout
        if not layout.target_summary:
            columns = varied_targetphot(columns, tile.program)
            photometry = assemble(columns, photometry.size, {name: photometry[name] for name in columns.names})
        self.tree.append(layout.targetphot(tile.survey, tile.program), "TARGETPHOT", photometry, columns)

    def _write_tractorphot(self, data: list[TileData]) -> None:
        """Write each source of the cluster once, into the file of its pixel."""
        layout, seed = self.settings.layout, self.settings.seed
        columns = self.columns(of.TRACTORPHOT)
        key = np.concatenate([item.sources.key for item in data])
        _, first = np.unique(key, return_index=True)
        parts = [item.sources for item in data]
        sources = Sources(
            *(np.concatenate([getattr(p, n) for p in parts])[first] for n in ("brickid", "objid", "ra", "dec", "kind"))
        )
        sources = sources.take(sources.matched)
        pixel = healpix(sources.ra, sources.dec, nside=2)
        for value in np.unique(pixel).tolist():
            chosen = np.flatnonzero(pixel == value)
            for start in range(0, chosen.size, _CHUNK):
                rows = tractorphot(sources.take(chosen[start : start + _CHUNK]), self.bricks, seed, columns)
                self.tree.append(layout.tractorphot(value), "TRACTORPHOT", rows, columns)

    def _write_redshifts(self, data: list[TileData]) -> None:
        """Write the redshift catalogues; a TARGETID is within one cluster, so the primary columns are complete."""
        if not data:
            return
        seed, zpix = self.settings.seed, self.columns(of.ZPIX)
        ztile = self.columns(of.ZTILE)
        groups: dict[tuple[str, str], list[Array]] = {}
        for item in data:
            rows = item.spectra
            if rows is not None:
                rows = assemble(ztile, rows.size, {name: rows[name] for name in ztile.names})
                groups.setdefault((item.tile.survey, item.tile.program), []).append(rows)
        merged = {group: np.concatenate(parts) for group, parts in groups.items()}
        pixels = {group: by_pixel(rows, zpix, seed) for group, rows in merged.items()}
        if not self.settings.split:
            self._write_zall("tilecumulative", merged, ztile)
            self._write_zall("pix", pixels, zpix)
            return
        fibermaps: dict[tuple[str, str], list[Array]] = {}
        for item in data:
            if item.spectra is not None:
                rows = exposure_fibermap(item.spectra, item.exposures, of.EXP_FIBERMAP, seed)
                fibermaps.setdefault((item.tile.survey, item.tile.program), []).append(rows)
        exposures = {group: np.concatenate(parts) for group, parts in fibermaps.items()}
        self._write_split("tilecumulative", merged, exposures, ztile)
        self._write_split("pix", pixels, exposures, zpix)

    def _write_zall(self, kind: str, groups: dict[tuple[str, str], Array], columns: of.Columns) -> None:
        table = np.concatenate(list(groups.values()))
        mark_primary(table)
        if kind == "pix":
            columns = columns.without("CMX_TARGET", *(f"SV2_{bits}_TARGET" for bits in _BIT_KINDS))
        rows = assemble(columns, table.size, {name: table[name] for name in columns.names})
        self.tree.append(self.settings.layout.zall(kind), "ZCATALOG", rows, columns, kind=f"ZCATALOG {kind}")

    def _write_split(
        self,
        kind: str,
        groups: dict[tuple[str, str], Array],
        fibermaps: dict[tuple[str, str], Array],
        columns: of.Columns,
    ) -> None:
        for (survey, program), table in groups.items():
            stem = f"zpix-{survey}-{program}" if kind == "pix" else f"ztile-{survey}-{program}-cumulative"
            varied = varied_zcatalog(columns, survey, program)
            # Within one file each spectrum seems to be the only one of its target.
            table["ZCAT_NSPEC"], table["ZCAT_PRIMARY"] = 1, True
            rows = assemble(varied, table.size, {name: table[name] for name in varied.names})
            cards = [("SURVEY", survey), ("PROGRAM", program)]
            path = self.settings.layout.zcatalog / f"{stem}.fits"
            self.tree.append(path, "ZCATALOG", rows, varied, cards=cards, kind=f"ZCATALOG {kind}")
            self.tree.append(path, "EXP_FIBERMAP", fibermaps[survey, program], of.EXP_FIBERMAP)


def varied_targetphot(columns: of.Columns, program: str) -> of.Columns:
    """Columns of the targetphot file of a program: those of bright ones have another order and a wider integer."""
    if not program.startswith("bright"):
        return columns
    keys = ["TARGETID", "TILEID", "SURVEY", "PROGRAM"]
    columns = columns.reordered(keys + [name for name in columns.names if name not in keys])
    return columns.retyped(GAIA_ASTROMETRIC_PARAMS_SOLVED="i2")


def varied_zcatalog(columns: of.Columns, survey: str, program: str) -> of.Columns:
    """Columns of the split redshift catalogue of a survey and program.

    Bits of other surveys are absent, and so are the primary columns that concern them; the files of bright programs
    lack SURVEY and PROGRAM, which their headers have, and hold some columns in narrower types.
    """
    own = survey.upper() if survey.startswith("sv") else "none"
    others = [name for name in ("SV1", "SV2", "SV3") if name != own]
    absent = ["CMX_TARGET", *(f"{name}_{bits}_TARGET" for name in others for bits in _BIT_KINDS)]
    absent += ["SV_NSPEC", "SV_PRIMARY", "MAIN_NSPEC", "MAIN_PRIMARY"]
    if program.startswith("bright"):
        absent += ["SURVEY", "PROGRAM"]
        columns = columns.retyped(ZWARN="i4", CHI2="f4", NCOEFF="i2", ZERR="f4", COEFF="10f4")
    columns = columns.without(*absent)
    if survey in _ALPHABETIC:
        signal = sorted(name for name in columns.names if name.startswith("TSNR2_"))
        columns = columns.reordered([n for n in columns.names if not n.startswith("TSNR2_")] + signal)
    return columns
