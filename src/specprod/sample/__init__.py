"""Synthetic productions: trees of files like those of a survey, of any size, the same for the same seed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from specprod.errors import ConfigurationError, SpecprodError
from specprod.sample.faults import BLOCK, write_pair
from specprod.sample.layout import LAYOUTS, Layout
from specprod.sample.production import Production, Settings
from specprod.sample.tables import Tree, make_room

__all__ = ["LAYOUTS", "Layout", "SampleSummary", "write_sample"]

# With faults, the production that is to be patched, and the one to patch it from.
SOURCE, DESTINATION = "jura", "daily"


@dataclass(frozen=True)
class SampleSummary:
    """What `write_sample` wrote.

    Attributes
    ----------
    root : pathlib.Path
        The directory.
    files : tuple of pathlib.Path
        Files, relative to `root`.
    rows : dict
        Number of rows by kind of table.
    bytes : int
        Size of all files.
    """

    root: Path
    files: tuple[Path, ...]
    rows: dict[str, int]
    bytes: int


def write_sample(
    root: str | Path,
    *,
    specprod: str | Layout = "sample",
    tiles: int = 3,
    targets_per_tile: int = 200,
    potentials_per_tile: int = 500,
    sky_fibers: int | None = None,
    sky_targets: int | None = None,
    radius: float | None = None,
    seed: int = 1,
    compressed: bool = True,
    split: bool = False,
    extension: bool = False,
    compact: bool = False,
    tile_inputs: bool = False,
    brick_sources: int = 20,
    catalogue_reach: float = 1.0,
    faults: bool = False,
    fault_tiles: int = BLOCK,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SampleSummary:
    """Write a synthetic production.

    Parameters
    ----------
    root : path
        Directory to write into; it is made. What a survey calls DESI_ROOT.
    specprod : str or Layout, optional
        Name of the production: a known one has its own layout, any other name that of "sample"; or the layout itself.
    tiles : int, optional
        Tiles with redshifts. One tile more is in the list of tiles, without a valid exposure and smaller.
    targets_per_tile : int, optional
        Targets of a tile that get a fiber, not counting sky.
    potentials_per_tile : int, optional
        Targets of a tile that a fiber reaches, not counting sky.
    sky_fibers, sky_targets : int, optional
        Fibers on sky, and sky positions that a fiber reaches; a fifth of the numbers of targets by default.
    radius : float, optional
        Radius of a tile in degrees; by default that of the survey, 1.6, for 5000 potential targets and more, and less
        for fewer.
    seed : int, optional
        Other seeds give other targets. The same arguments give the same bytes.
    compressed : bool, optional
        Whether every second fiberassign file is compressed.
    split : bool, optional
        Write redshift catalogues for each survey and program instead of one for all; their primary columns do not
        count.
    extension : bool, optional
        Have tiles of the programs dark1b and bright1b too.
    compact : bool, optional
        Leave out light curves and aperture fluxes, which are most of the volume and which no table holds.
    tile_inputs : bool, optional
        Write what loads of single tiles read, too: redrock files, target catalogues, the Legacy Surveys' catalogues.
        Always so for "daily".
    brick_sources : int, optional
        Sources of the Legacy Surveys in a brick besides those of which targets are chosen.
    catalogue_reach : float, optional
        Radius around the centre of a tile to which target catalogues are filled, in radii of the tile, 1 or more.
    faults : bool, optional
        Write the tiles and exposures files of productions "jura" and "daily" too, the latter with faults that patching
        from the former mends, and a list of them, faults.json. If the production is "daily", its own tiles are among
        them, without fault.
    fault_tiles : int, optional
        Number of tiles with faults, rounded up to a multiple of 128.
    overwrite : bool, optional
        Replace a sample that is there already. Only files that this function wrote are removed.
    progress : callable, optional
        Called with the number of tiles written and the number of all tiles.

    Returns
    -------
    SampleSummary

    Raises
    ------
    ConfigurationError
        If the name of the production cannot be part of a path, the numbers do not fit each other, the directory is not
        empty, or it is to be overwritten and does not hold a sample.
    SpecprodError
        If the directory cannot be written.
    """
    if isinstance(specprod, str) and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", specprod):
        raise ConfigurationError(f"{specprod!r} is no name of a production: letters, digits, . _ - are expected")
    layout = specprod if isinstance(specprod, Layout) else LAYOUTS.get(specprod, LAYOUTS["sample"].named(specprod))
    root = Path(root)
    if sky_fibers is None:
        sky_fibers = targets_per_tile // 5
    settings = Settings(
        layout=layout,
        tiles=tiles,
        targets=potentials_per_tile,
        assigned=targets_per_tile,
        sky_targets=max(potentials_per_tile // 5, sky_fibers) if sky_targets is None else sky_targets,
        sky_fibers=sky_fibers,
        radius=max(0.2, min(1.0, potentials_per_tile / 5000) ** 0.5 * 1.6) if radius is None else radius,
        seed=seed,
        compressed=compressed,
        split=split,
        extension=extension,
        compact=compact,
        tile_inputs=tile_inputs or layout.redshift == "daily",
        brick_sources=brick_sources,
        catalogue_reach=catalogue_reach,
    )
    if faults and layout.specprod == SOURCE:
        raise ConfigurationError(f"with faults there is a production {SOURCE} already; give this one another name")
    make_room(root, overwrite)
    try:
        with Tree(root) as tree:
            production = Production(settings, tree)
            if faults:
                mine = layout.specprod == DESTINATION
                write_pair(
                    tree,
                    source=SOURCE,
                    destination=DESTINATION,
                    tiles=fault_tiles,
                    seed=seed,
                    loadable=production.plan if mine else (),
                    observed=production.exposures if mine else None,
                    adapt=production.columns,
                )
            if not faults or layout.specprod != DESTINATION:
                production.write_observations()
            done = 0
            for cluster in production.clusters():
                production.write_cluster(cluster)
                done += len(cluster)
                if progress is not None:
                    progress(done, len(production.plan))
            production.finish()
    except OSError as error:
        raise SpecprodError(f"the sample cannot be written: {error}", file=root) from error
    size = sum((root / path).stat().st_size for path in tree.files)
    return SampleSummary(root, tuple(tree.files), dict(tree.rows), size)
