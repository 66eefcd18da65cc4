"""Redshift files of the petals of a tile, as a tile load reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.sample import columns as of
from specprod.sample.draw import Draw
from specprod.sample.layout import Layout
from specprod.sample.observations import Tile
from specprod.sample.photometry import assemble
from specprod.sample.tables import Tree

__all__ = ["exposure_fibermap", "is_old", "write_redrock"]

Array = npt.NDArray[Any]


def is_old(tile: Tile) -> bool:
    """Whether the files of a tile are of the first years: named zbest, HDU ZBEST, no dates in the fibermap."""
    return tile.index % 8 == 1


def is_new(tile: Tile) -> bool:
    """Whether they are of the last years: narrower types, DESINAME, TSNR2 in alphabetic order."""
    return tile.index % 4 == 2


def _columns(tile: Tile) -> dict[str, of.Columns]:
    """Columns of the four tables; target bits are those of the tile's survey alone."""
    own = f"{tile.survey.upper()}_"
    bits = [name for name in of.FIBERMAP.names if name.startswith(("CMX_", "SV1_", "SV2_", "SV3_"))]
    fibermap = of.FIBERMAP.without(*(name for name in bits if not name.startswith(own)))
    redshifts, tsnr2, exposures = of.REDSHIFTS, of.TSNR2, of.EXP_FIBERMAP
    if is_old(tile):
        fibermap = fibermap.without("MEAN_MJD", "MIN_MJD", "MAX_MJD", "FIRSTNIGHT", "LASTNIGHT")
        exposures = exposures.without("IN_COADD_B", "IN_COADD_R", "IN_COADD_Z")
    if is_new(tile):
        redshifts = redshifts.retyped(ZWARN="i4", CHI2="f4", COEFF="10f4", ZERR="f4", NCOEFF="i2")
        fibermap = fibermap.extended("DESINAME S22")
        tsnr2 = tsnr2.reordered(["TARGETID", *sorted(tsnr2.names[1:])])
    return {"REDSHIFTS": redshifts, "FIBERMAP": fibermap, "EXP_FIBERMAP": exposures, "TSNR2": tsnr2}


def exposure_fibermap(spectra: Array, exposures: Array, columns: of.Columns, seed: int) -> Array:
    """Rows of EXP_FIBERMAP: each fiber in each exposure, exposure by exposure.

    Parameters
    ----------
    spectra : numpy structured array
        Rows of the redshift catalogue of one tile.
    exposures : numpy structured array
        Its valid exposures.
    columns : Columns
    seed : int
    """
    row = np.tile(np.arange(spectra.size), exposures.size)
    exposure = np.repeat(np.arange(exposures.size), spectra.size)
    fibers, parents = spectra[row], exposures[exposure]
    draw = Draw(fibers["TARGETID"].astype(np.int64) ^ (parents["EXPID"].astype(np.int64) << 33), seed)
    values: dict[str, Any] = {name: fibers[name] for name in columns.names if name in (spectra.dtype.names or ())}
    values |= {name: parents[name] for name in ("NIGHT", "EXPID", "MJD", "EXPTIME")}
    delta_x, delta_y = draw.normal("delta_x", 0, 0.005), draw.normal("delta_y", 0, 0.005)
    values |= {
        "FIBERSTATUS": fibers["COADD_FIBERSTATUS"],
        "NUM_ITER": 2,
        "DELTA_X": delta_x,
        "DELTA_Y": delta_y,
        "FIBER_X": fibers["FIBERASSIGN_X"] + delta_x,
        "FIBER_Y": fibers["FIBERASSIGN_Y"] + delta_y,
        "FIBER_RA": fibers["TARGET_RA"] + delta_x / 254,
        "FIBER_DEC": fibers["TARGET_DEC"] + delta_y / 254,
        "PSF_TO_FIBER_SPECFLUX": np.where(draw.chance("no_psf", 0.01), np.nan, draw.uniform("psf", 0.7, 0.8)),
        **{f"IN_COADD_{arm}": np.ones(row.size, dtype=bool) for arm in "BRZ"},
    }
    return assemble(columns, row.size, values)


def write_redrock(tree: Tree, layout: Layout, tile: Tile, spectra: Array, exposures: Array, seed: int) -> None:
    """Write the redshift files of a tile, one for each petal that has spectra.

    Parameters
    ----------
    tree : Tree
    layout : Layout
    tile : Tile
    spectra : numpy structured array
        Rows of the redshift catalogue of the tile.
    exposures : numpy structured array
        Its valid exposures.
    seed : int
    """
    columns = _columns(tile)
    night = int(exposures["NIGHT"].max())
    old = is_old(tile)
    for petal in np.unique(spectra["PETAL_LOC"]).tolist():
        rows = spectra[spectra["PETAL_LOC"] == petal]
        tables = {
            name: assemble(columns[name], rows.size, {n: rows[n] for n in columns[name].names})
            for name in ("REDSHIFTS", "FIBERMAP", "TSNR2")
        }
        tables["EXP_FIBERMAP"] = exposure_fibermap(rows, exposures, columns["EXP_FIBERMAP"], seed)
        path = layout.redrock(tile.tileid, night, petal, "zbest" if old else "redrock")
        cards = [("SPGRP", "cumulative"), ("SPGRPVAL", night), ("TILEID", tile.tileid), ("PETAL", petal)]
        for name in ("REDSHIFTS", "FIBERMAP", "EXP_FIBERMAP", "TSNR2"):
            hdu = "ZBEST" if old and name == "REDSHIFTS" else name
            tree.append(path, hdu, tables[name], columns[name], primary=cards, kind=f"redrock {name}")
        tree.close(path)
