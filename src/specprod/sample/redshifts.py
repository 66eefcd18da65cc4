"""Redshifts of the objects that a tile observed, by tile and by HEALPix pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.sample.columns import ZTILE, Columns
from specprod.sample.draw import Draw
from specprod.sample.observations import Tile
from specprod.sample.photometry import assemble
from specprod.sample.sky import healpix
from specprod.survey.identifiers import desiname, is_sky

__all__ = ["SNR_KINDS", "absent_petals", "by_pixel", "by_tile", "mark_primary"]

Array = npt.NDArray[Any]
SNR_KINDS = ("GPBDARK", "ELG", "GPBBRIGHT", "LYA", "BGS", "GPBBACKUP", "QSO", "LRG")
_SPECTYPES = np.array([b"GALAXY", b"QSO", b"STAR"])
_SUBTYPES = np.array([b"A", b"B", b"CV", b"F", b"G", b"K", b"M", b"WD"])
_MEANS = ("DELTA_X", "DELTA_Y")


def absent_petals(tile: Tile) -> tuple[int, ...]:
    """Petals of a tile that have no spectra."""
    return (3, 9) if tile.index % 6 == 1 else ()


def _fits(draw: Draw, sky: Array) -> dict[str, Array]:
    """Columns of the redshift fit. CHI2, COEFF and ZERR are such that float32 holds them too, as newer files do."""

    def single(values: Array) -> Array:
        return values.astype(np.float32).astype(np.float64)

    kind = draw.choice("spectype", np.arange(3), [0.7, 0.15, 0.15])
    redshift = np.choose(kind, [draw.uniform("z", 0.01, 1.6), draw.uniform("z", 0.3, 4.5), draw.normal("z", 0, 5e-4)])
    count = np.array([10, 4, 5])[kind]
    coeff = draw.normal("coeff", 0, 200, width=10)
    coeff[np.arange(10)[None, :] >= count[:, None]] = 0
    return {
        "Z": redshift,
        "ZERR": single(draw.lognormal("zerr", 4e-5, 0.8)),
        "ZWARN": np.where(sky, 4, draw.choice("zwarn", [0, 4, 5, 1 << 11], [0.86, 0.1, 0.02, 0.02])),
        "CHI2": single(draw.lognormal("chi2", 9000, 0.3)),
        "COEFF": single(coeff),
        "NPIXELS": draw.integers("npixels", 7400, 7929),
        "SPECTYPE": _SPECTYPES[kind],
        "SUBTYPE": np.where(kind == 2, draw.choice("subtype", _SUBTYPES), b""),
        "NCOEFF": count,
        "DELTACHI2": draw.lognormal("deltachi2", 300, 1.8),
    }


def _signal(draw: Draw, effective: Array) -> dict[str, Array]:
    """TSNR2 by kind and arm, in proportion to the effective exposure time in seconds."""
    values: dict[str, Array] = {}
    for kind in SNR_KINDS:
        total = np.zeros(draw.size, dtype=np.float32)
        for arm in "BRZ":
            value = (effective * draw.lognormal(f"{kind}_{arm}", 0.04, 0.25)).astype(np.float32)
            values[f"TSNR2_{kind}_{arm}"] = value
            total += value
        values[f"TSNR2_{kind}"] = total
    return values


def by_tile(tile: Tile, fibers: Array, exposures: Array, seed: int) -> Array:
    """Rows of the redshift catalogue of a tile, in the order of fibers; sky and unassigned fibers are there too.

    Parameters
    ----------
    tile : Tile
    fibers : numpy structured array
        Its rows of FIBERASSIGN.
    exposures : numpy structured array
        Its valid exposures.
    seed : int

    Returns
    -------
    numpy structured array with the columns of ZTILE and those that only redrock's FIBERMAP has
    """
    fibers = fibers[~np.isin(fibers["PETAL_LOC"], absent_petals(tile))]
    fibers = fibers[np.argsort(fibers["FIBER"], kind="stable")]
    targetid = fibers["TARGETID"].astype(np.int64)
    draw = Draw(targetid ^ (tile.tileid << 40), seed)
    values: dict[str, Any] = {name: fibers[name] for name in fibers.dtype.names or ()}
    values |= _fits(draw, is_sky(targetid)) | _signal(draw, exposures["EFFTIME_SPEC"].sum()) | _pointing(draw, fibers)
    values |= {
        "SURVEY": tile.survey.encode(),
        "PROGRAM": tile.program.encode(),
        "TILEID": tile.tileid,
        "FIRSTNIGHT": exposures["NIGHT"].min(),
        "LASTNIGHT": exposures["NIGHT"].max(),
        "SPGRPVAL": exposures["NIGHT"].max(),
        "COADD_FIBERSTATUS": fibers["FIBERSTATUS"],
        "COADD_NUMEXP": exposures.size,
        "COADD_EXPTIME": exposures["EXPTIME"].sum(),
        "COADD_NUMNIGHT": np.unique(exposures["NIGHT"]).size,
        "COADD_NUMTILE": 1,
        "MIN_MJD": exposures["MJD"].min(),
        "MEAN_MJD": exposures["MJD"].mean(),
        "MAX_MJD": exposures["MJD"].max(),
        "DESINAME": desiname(fibers["TARGET_RA"], fibers["TARGET_DEC"]),
    }
    return assemble(_with_extension(ZTILE, tile), targetid.size, values)


def _with_extension(columns: Columns, tile: Tile) -> Columns:
    return columns.retyped(PROGRAM="S8") if tile.program.endswith("1b") else columns


def _pointing(draw: Draw, fibers: Array) -> dict[str, Array]:
    """Offsets of fibers from their targets, over the exposures."""
    unknown = draw.chance("no_fiber_position", 0.01)
    values: dict[str, Array] = {
        "PLATE_RA": fibers["TARGET_RA"],
        "PLATE_DEC": fibers["TARGET_DEC"],
        "MEAN_FIBER_RA": fibers["TARGET_RA"] + draw.normal("fiber_ra", 0, 1e-5),
        "MEAN_FIBER_DEC": fibers["TARGET_DEC"] + draw.normal("fiber_dec", 0, 1e-5),
        "STD_FIBER_RA": np.where(unknown, np.nan, draw.lognormal("std_ra", 0.1, 0.4)),
        "STD_FIBER_DEC": np.where(unknown, np.nan, draw.lognormal("std_dec", 0.1, 0.4)),
        "MEAN_FIBER_X": fibers["FIBERASSIGN_X"] + draw.normal("fiber_x", 0, 0.01),
        "MEAN_FIBER_Y": fibers["FIBERASSIGN_Y"] + draw.normal("fiber_y", 0, 0.01),
        "MEAN_PSF_TO_FIBER_SPECFLUX": np.where(unknown, np.nan, draw.uniform("psf_to_fiber", 0.7, 0.8)),
    }
    for name in _MEANS:
        values[f"MEAN_{name}"] = np.where(unknown, np.nan, draw.normal(f"mean_{name}", 0, 0.003))
        values[f"RMS_{name}"] = np.where(unknown, np.nan, draw.lognormal(f"rms_{name}", 0.004, 0.5))
    return values


def by_pixel(spectra: Array, columns: Columns, seed: int) -> Array:
    """Rows of the HEALPix redshift catalogue of one survey and program: its tiles' spectra of an object added up.

    Parameters
    ----------
    spectra : numpy structured array
        Rows of the tiles of this survey and program, as `by_tile` gives them.
    columns : Columns
        Columns to write; those of ZPIX, with PROGRAM wide enough.
    seed : int

    Returns
    -------
    numpy structured array
        One row for each TARGETID. Unassigned fibers, whose TARGETID is negative, stand in two pixels at times.
    """
    order = np.argsort(spectra["TARGETID"], kind="stable")
    spectra = spectra[order]
    targetid, first, number = np.unique(spectra["TARGETID"], return_index=True, return_counts=True)
    draw = Draw(targetid.astype(np.int64) ^ (1 << 61), seed)
    row = spectra[first]
    values: dict[str, Any] = {name: row[name] for name in columns.names if name in (spectra.dtype.names or ())}

    def total(name: str) -> Array:
        return np.asarray(np.add.reduceat(spectra[name].astype(np.float64), first)) if first.size else row[name]

    values |= _fits(draw, is_sky(targetid))
    values |= {name: total(name) for name in columns.names if name.startswith("TSNR2_")}
    values |= {name: total(name) for name in ("COADD_NUMEXP", "COADD_EXPTIME", "COADD_NUMNIGHT")}
    pixel = healpix(row["TARGET_RA"], row["TARGET_DEC"])
    values |= {
        "COADD_NUMTILE": number,
        "HEALPIX": pixel,
        "SPGRPVAL": pixel,
        "MIN_MJD": np.minimum.reduceat(spectra["MIN_MJD"], first) if first.size else row["MIN_MJD"],
        "MAX_MJD": np.maximum.reduceat(spectra["MAX_MJD"], first) if first.size else row["MAX_MJD"],
        "MEAN_MJD": total("MEAN_MJD") / number,
    }
    table = assemble(columns, targetid.size, values)
    again = table[(table["TARGETID"] < 0) & draw.chance("two_pixels", 0.5)]
    again["HEALPIX"] += 1
    again["SPGRPVAL"] += 1
    return np.concatenate([table, again])


def mark_primary(table: Array) -> None:
    """Fill in the numbers of spectra and the primary ones: over all rows, those of sv1, sv2, sv3, and those of main.

    Of the rows of a TARGETID the primary one has ZWARN 0 if any has, and then the highest TSNR2_LRG. Rows of other
    surveys have 0 and False. `table` must hold all rows of each TARGETID.
    """
    survey = table["SURVEY"]
    groups = {
        "ZCAT": np.ones(table.size, dtype=bool),
        "SV": np.char.startswith(survey, b"sv"),
        "MAIN": survey == b"main",
    }
    for name, member in groups.items():
        rows = np.flatnonzero(member)
        order = np.lexsort((-table["TSNR2_LRG"][rows], table["ZWARN"][rows] != 0, table["TARGETID"][rows]))
        rows = rows[order]
        _, first, inverse, number = np.unique(
            table["TARGETID"][rows], return_index=True, return_inverse=True, return_counts=True
        )
        table[f"{name}_NSPEC"][rows] = number[inverse.ravel()]
        table[f"{name}_PRIMARY"][rows[first]] = True
