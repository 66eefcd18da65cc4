"""The survey's own catalogues: targets by program, and the Legacy Surveys' sources by brick."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.sample import columns as of
from specprod.sample.assignment import catalogue_paths, prefix, targeting
from specprod.sample.draw import Draw
from specprod.sample.observations import Tile
from specprod.sample.photometry import assemble, targeting_photometry, tractor
from specprod.sample.sky import (
    GAIA,
    NORTH,
    PRIMARY,
    SECONDARY,
    SECONDARY_MATCHED,
    TOO,
    Bricks,
    Sources,
    healpix,
    separation,
    sources_in_bricks,
)
from specprod.sample.tables import Tree

__all__ = ["NEAR_MISS", "NOT_PRIMARY", "Catalogues"]

Array = npt.NDArray[Any]
_CHUNK = 20000  # rows in memory at a time
# Numbers in their brick of sources that are there to be mistaken for others.
NOT_PRIMARY, NEAR_MISS = 30000, 40000

_BARE = of.parse(
    "RA f8 deg, DEC f8 deg, PMRA f4 mas yr^-1, PMDEC f4 mas yr^-1, REF_EPOCH f4 yr, OVERRIDE b1, TARGETID i8, "
    "DESI_TARGET i8, SCND_TARGET i8, PRIORITY_INIT i8, NUMOBS_INIT i8, SUBPRIORITY f8, OBSCONDITIONS i8, HPXPIXEL i8"
)


def _target_columns(survey: str) -> of.Columns:
    """Columns of a primary target catalogue: those of TARGETPHOT with the bits of the survey alone, and a few more."""
    kinds = ("DESI_TARGET", "BGS_TARGET", "MWS_TARGET", "SCND_TARGET")
    own = {f"{prefix(survey)}{kind}" for kind in kinds}
    bits = [name for name in of.TARGETPHOT.names if name.endswith("_TARGET") and name not in own]
    columns = of.TARGETPHOT.without("SURVEY", "PROGRAM", "TILEID", *bits)
    return columns.extended("URAT_ID i8, URAT_SEP f4 arcsec, BGS_SUBPRIORITY f8")


def _bare_columns(survey: str) -> of.Columns:
    """Columns of catalogues of secondary targets and of targets of opportunity."""
    names = tuple(f"{prefix(survey)}{n}" if n.endswith("_TARGET") else n for n in _BARE.names)
    return of.Columns(names, _BARE.types, _BARE.units)


class Catalogues:
    """Catalogues that are being written, cluster by cluster.

    Parameters
    ----------
    tree : Tree
    bricks : Bricks
    radius : float
        Radius of tiles in degrees.
    per_brick : int
        Sources in a brick of which targets are chosen.
    beyond : int
        Sources in a brick besides these.
    reach : float
        Radius, in radii of a tile, to which target catalogues are filled.
    centres : list of (float, float)
        A position in degrees in each cluster; a target belongs to the nearest one.
    seed : int
    adapt : callable
        What is to be done to columns of the data model.
    """

    def __init__(
        self,
        tree: Tree,
        bricks: Bricks,
        *,
        radius: float,
        per_brick: int,
        beyond: int,
        reach: float,
        centres: list[tuple[float, float]],
        seed: int,
        adapt: Callable[[of.Columns], of.Columns],
    ) -> None:
        self.tree = tree
        self.bricks = bricks
        self.radius = radius
        self.per_brick = per_brick
        self.beyond = beyond
        self.reach = reach
        self.centres = centres
        self.seed = seed
        self._adapt = adapt
        self._too: dict[Path, list[Array]] = {}

    def write_cluster(self, tiles: list[Tile]) -> None:
        """Write what neighbouring tiles need."""
        groups: dict[tuple[str, str], list[Tile]] = {}
        for tile in tiles:
            groups.setdefault((tile.survey, tile.program), []).append(tile)
        for group in groups.values():
            self._write_targets(group)
        self._write_tractor(tiles)

    def finish(self) -> None:
        """Write the targets of opportunity, which are one text file for each survey and program."""
        from astropy.table import Table

        for path, parts in self._too.items():
            text = StringIO()
            Table(np.concatenate(parts)).write(text, format="ascii.ecsv")
            self.tree.text(path, text.getvalue())

    def _around(self, tiles: list[Tile], radius: float) -> Sources:
        """All sources within `radius` degrees of the centre of any of these tiles."""
        found = [self.bricks.around(tile.ra, tile.dec, radius) for tile in tiles]
        sources = sources_in_bricks(self.bricks, np.unique(np.concatenate(found)), 0, self.per_brick, self.seed)
        near = np.zeros(sources.size, dtype=bool)
        for tile in tiles:
            near |= separation(sources.ra, sources.dec, tile.ra, tile.dec) < radius
        return sources.take(near)

    def _own(self, sources: Sources, tiles: list[Tile]) -> Sources:
        """Those sources that are nearer to the cluster of these tiles than to any other."""
        away = np.stack([separation(sources.ra, sources.dec, ra, dec) for ra, dec in self.centres])
        return sources.take(np.argmin(away, axis=0) == tiles[0].cluster)

    def _write_targets(self, tiles: list[Tile]) -> None:
        """Write the target catalogues of one survey and program."""
        tile = tiles[0]
        sources = self._around(tiles, self.radius * self.reach)
        if self.reach > 1:
            sources = self._own(sources, tiles)
        paths = catalogue_paths(tile)
        columns = self._adapt(_target_columns(tile.survey))
        for kind, key, nside in ((PRIMARY, "TARG", 8 if tile.survey == "main" else 16), (GAIA, "TARG2", 32)):
            chosen = sources.take(sources.kind == kind)
            pixel = healpix(chosen.ra, chosen.dec, nside)
            for value in np.unique(pixel).tolist():
                path = paths[key] / f"targets-{tile.program}-hp-{value}.fits"
                cards = [("FILENSID", nside), ("FILENEST", True), ("FILEHPX", value)]
                rows = np.flatnonzero(pixel == value)
                for start in range(0, rows.size, _CHUNK):
                    part = self._targets(chosen.take(rows[start : start + _CHUNK]), tile, columns)
                    self.tree.append(path, "TARGETS", part, columns, cards=cards, kind=f"catalogue {key}")
                self.tree.close(path)
        bare = _bare_columns(tile.survey)
        secondary = sources.take((sources.kind == SECONDARY) | (sources.kind == SECONDARY_MATCHED))
        path = paths["SCND"] / f"targets-{tile.program}-secondary.fits"
        self.tree.append(path, "TARGETS", self._targets(secondary, tile, bare), bare, kind="catalogue SCND")
        self.tree.close(path)
        opportunity = self._targets(sources.take(sources.kind == TOO), tile, bare)
        self._too.setdefault(paths["TOO"], []).append(opportunity)
        self.tree.count("catalogue TOO", opportunity.size)

    def _targets(self, sources: Sources, tile: Tile, columns: of.Columns) -> Array:
        photometry = targeting_photometry(sources, self.bricks, self.seed)
        values: dict[str, Any] = {name: photometry[name] for name in columns.names if name in of.TARGETPHOT.names}
        bits = targeting(sources, tile.survey, tile.program, self.seed)
        values |= bits | {"BGS_SUBPRIORITY": Draw(sources.key, self.seed).uniform("bgs_subpriority")}
        return assemble(columns, sources.size, values)

    def _write_tractor(self, tiles: list[Tile]) -> None:
        """Write the bricks in which targets of these tiles are; on the border of north and south, from both sides."""
        targets = self._around(tiles, self.radius)
        columns = self._adapt(of.TRACTORPHOT.without("LS_ID", "TARGETID"))
        for brickid in np.unique(targets.brickid).tolist():
            low = float(self.bricks.corner(brickid)[1])
            own = "north" if low >= NORTH else "south"
            sources = sources_in_bricks(self.bricks, np.array([brickid]), 0, self.per_brick + self.beyond, self.seed)
            rows = self._brick(sources, columns)
            self._write_brick(own, brickid, rows, columns)
            if abs(low + self.bricks.size / 2 - NORTH) < 1.2 * self.bricks.size:
                # The other survey saw the same sources with other numbers and fluxes.
                other = tractor(sources.take(sources.matched), self.bricks, self.seed + 7, columns)
                other["RELEASE"] = 9010 if own == "north" else 9011
                other["RA"] += 2e-5
                self._write_brick("south" if own == "north" else "north", brickid, other, columns)

    def _write_brick(self, hemisphere: str, brickid: int, rows: Array, columns: of.Columns) -> None:
        name = self.bricks.name(brickid)[0].decode()
        path = Path("external/legacysurvey/dr9") / hemisphere / "tractor" / name[:3] / f"tractor-{name}.fits"
        self.tree.append(path, "TRACTOR", rows, columns, cards=[("BRICKID", brickid), ("BRICKNAM", name)])
        self.tree.close(path)

    def _brick(self, sources: Sources, columns: of.Columns) -> Array:
        """Rows of a brick: its sources, doubles of some that are not primary, and some that are close to a target.

        The doubles lie where a target is that has to be matched by its position, closer than the primary source does;
        the others 1.5 arcsec from targets that have no source of theirs.
        """
        real = sources.take(sources.matched)
        doubled = real.take((real.kind == SECONDARY_MATCHED) | Draw(real.key, self.seed).chance("doubled", 0.05))
        lonely = sources.take(sources.kind == SECONDARY)
        lonely = lonely.take(Draw(lonely.key, self.seed).chance("near_miss", 0.5))
        double = Sources(doubled.brickid, doubled.objid + NOT_PRIMARY, doubled.ra, doubled.dec, doubled.kind * 0)
        miss = Sources(
            lonely.brickid, lonely.objid + NEAR_MISS, lonely.ra, lonely.dec + 1.5 / 3600, np.zeros(lonely.size, int)
        )
        parts = [tractor(part, self.bricks, self.seed, columns) for part in (real, double, miss)]
        parts[1]["BRICK_PRIMARY"] = False
        return np.concatenate(parts)
