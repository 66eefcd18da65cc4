"""Photometry of sources, as the Legacy Surveys' catalogues and the targeting catalogues have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.sample.columns import TARGETPHOT, TRACTORPHOT, Columns
from specprod.sample.draw import Draw
from specprod.sample.sky import GAIA, PRIMARY, SECONDARY_MATCHED, Bricks, Sources

__all__ = ["assemble", "source_position", "targeting_photometry", "tractor", "tractorphot"]

Array = npt.NDArray[Any]
_TYPES = np.array([b"PSF", b"REX", b"DEV", b"EXP", b"SER"])
_BANDS = ("G", "R", "Z", "W1", "W2", "W3", "W4")
# Colours relative to R in magnitudes, and the depth in nanomaggies^-2, of the order of DR9's.
_COLOURS = {"G": 0.8, "R": 0.0, "Z": -0.6, "W1": -0.9, "W2": -0.6, "W3": -1.5, "W4": -2.5}
_DEPTHS = {"G": 700.0, "R": 250.0, "Z": 80.0, "W1": 4.0, "W2": 1.0, "W3": 1.1e-3, "W4": 1.3e-5}
_EXTINCTION = {"G": 3.214, "R": 2.165, "Z": 1.211, "W1": 0.184, "W2": 0.113, "W3": 0.0241, "W4": 0.00910}


def assemble(columns: Columns, size: int, values: Mapping[str, Any]) -> Array:
    """Make a table of `size` rows: columns that `values` lacks are 0, False or blank."""
    table = np.zeros(size, dtype=columns.dtype)
    for name in columns.names:
        if name in values:
            table[name] = values[name]
    return table


def _gaia(draw: Draw, known: Array) -> dict[str, Array]:
    """Columns of Gaia for the sources that it knows; 0 and blank for the others."""

    def where(value: Any) -> Array:
        return np.where(known, value, 0)

    values: dict[str, Array] = {
        "REF_CAT": np.where(known, draw.choice("ref_cat", [b"G2", b"T2", b"L3"], [0.97, 0.02, 0.01]), b""),
        "REF_ID": where(draw.integers("ref_id", 10**17, 6 * 10**18)),
        "REF_EPOCH": where(2015.5),
        "PMRA": where(draw.normal("pmra", 0, 8)),
        "PMDEC": where(draw.normal("pmdec", -3, 8)),
        "PARALLAX": where(draw.normal("parallax", 0.7, 0.8)),
        "GAIA_PHOT_VARIABLE_FLAG": known & draw.chance("variable", 0.05),
        "GAIA_DUPLICATED_SOURCE": known & draw.chance("duplicated", 0.1),
        "GAIA_ASTROMETRIC_EXCESS_NOISE": where(draw.lognormal("excess_noise", 0.5, 0.8)),
        "GAIA_ASTROMETRIC_EXCESS_NOISE_SIG": where(draw.lognormal("excess_noise_sig", 1.0, 0.8)),
        "GAIA_ASTROMETRIC_N_OBS_AL": where(draw.integers("n_obs_al", 60, 400)),
        "GAIA_ASTROMETRIC_N_GOOD_OBS_AL": where(draw.integers("n_good_obs_al", 60, 400)),
        "GAIA_ASTROMETRIC_WEIGHT_AL": where(draw.lognormal("weight_al", 1.0, 1.0)),
        "GAIA_ASTROMETRIC_PARAMS_SOLVED": where(draw.choice("params_solved", [31, 3, 95], [0.9, 0.08, 0.02])),
        "GAIA_PHOT_BP_RP_EXCESS_FACTOR": where(draw.lognormal("excess_factor", 1.3, 0.1)),
        "GAIA_A_G_VAL": where(draw.lognormal("a_g", 0.5, 0.5)),
        "GAIA_E_BP_MIN_RP_VAL": where(draw.lognormal("e_bp_rp", 0.25, 0.5)),
        # The survey's files hold NaN here for sources without a five-parameter solution.
        "GAIA_ASTROMETRIC_SIGMA5D_MAX": np.where(
            draw.chance("sigma5d_missing", 0.01), np.nan, where(draw.lognormal("sigma5d", 0.8, 0.6))
        ),
    }
    for name in ("PMRA", "PMDEC", "PARALLAX"):
        values[f"{name}_IVAR"] = where(draw.lognormal(f"{name}_ivar", 4.0, 1.0))
    magnitude = draw.uniform("gaia_g", 14, 20.7)
    for band, colour in (("G", 0.0), ("BP", 0.4), ("RP", -0.6)):
        values[f"GAIA_PHOT_{band}_MEAN_MAG"] = where(magnitude + colour)
        values[f"GAIA_PHOT_{band}_MEAN_FLUX_OVER_ERROR"] = where(draw.lognormal(f"gaia_{band}_snr", 400, 0.8))
        values[f"GAIA_PHOT_{band}_N_OBS"] = where(draw.integers(f"gaia_{band}_n_obs", 10, 300))
    return values


def _shape(draw: Draw) -> dict[str, Array]:
    """Morphology: type, radius, ellipticity, Sérsic index, and the improvement of chi-squared of each model."""
    index = draw.choice("type", np.arange(5), [0.4, 0.2, 0.15, 0.15, 0.1])
    extended, elliptical, sersic = index > 0, index > 1, index == 4
    improvement = draw.lognormal("dchisq", 300.0, 1.5, width=5)
    return {
        "TYPE": _TYPES[index],
        "SHAPE_R": np.where(extended, draw.lognormal("shape_r", 0.6, 0.5), 0),
        "SHAPE_R_IVAR": np.where(extended, draw.lognormal("shape_r_ivar", 2000, 1.5), 0),
        "SHAPE_E1": np.where(elliptical, draw.normal("shape_e1", 0, 0.2), 0),
        "SHAPE_E2": np.where(elliptical, draw.normal("shape_e2", 0, 0.2), 0),
        "SHAPE_E1_IVAR": np.where(elliptical, draw.lognormal("shape_e1_ivar", 500, 1.5), 0),
        "SHAPE_E2_IVAR": np.where(elliptical, draw.lognormal("shape_e2_ivar", 500, 1.5), 0),
        "SERSIC": np.where(sersic, draw.uniform("sersic", 0.5, 6), np.array([0, 1, 4, 1, 0])[index]),
        "SERSIC_IVAR": np.where(sersic, draw.lognormal("sersic_ivar", 30, 1.0), 0),
        "DCHISQ": np.cumsum(improvement, axis=1),
    }


def _bands(draw: Draw) -> dict[str, Array]:
    """Fluxes in nanomaggies, their inverse variances, and the quality of the images, band by band."""
    ebv = draw.lognormal("ebv", 0.04, 0.6)
    magnitude = 24 - 8 * draw.uniform("magnitude") ** 2
    scatter = draw.normal("colour", 1, 0.3)
    values: dict[str, Array] = {"EBV": ebv}
    for band in _BANDS:
        depth = draw.lognormal(f"{band}_depth", _DEPTHS[band], 0.4)
        noise = draw.normal(f"{band}_noise") / np.sqrt(depth)
        flux = 10 ** (0.4 * (22.5 - magnitude - _COLOURS[band] * scatter)) + noise
        values |= {
            f"FLUX_{band}": flux,
            f"FLUX_IVAR_{band}": depth * draw.uniform(f"{band}_ivar", 0.4, 1.0),
            f"MW_TRANSMISSION_{band}": 10 ** (-0.4 * _EXTINCTION[band] * ebv),
            f"PSFDEPTH_{band}": depth,
            f"FRACFLUX_{band}": np.maximum(draw.normal(f"{band}_fracflux", -0.02, 0.1), 0),
            f"RCHISQ_{band}": draw.lognormal(f"{band}_rchisq", 1.0, 0.15),
            f"NOBS_{band}": draw.integers(f"{band}_nobs", 1, 8 if len(band) == 1 else 240),
        }
        if len(band) == 1:
            fiber = draw.uniform(f"{band}_fiber", 0.3, 0.8)
            bad = draw.choice(f"{band}_mask", [0, 2, 128, 8192], [0.97, 0.01, 0.01, 0.01])
            values |= {
                f"FIBERFLUX_{band}": flux * fiber,
                f"FIBERTOTFLUX_{band}": flux * fiber * draw.uniform(f"{band}_fibertot", 1.0, 1.1),
                f"GALDEPTH_{band}": depth * draw.uniform(f"{band}_galdepth", 0.5, 0.9),
                f"FRACMASKED_{band}": draw.uniform(f"{band}_fracmasked", 0, 0.05),
                f"FRACIN_{band}": draw.uniform(f"{band}_fracin", 0.7, 1.0),
                f"ALLMASK_{band}": bad,
                f"ANYMASK_{band}": bad | draw.choice(f"{band}_anymask", [0, 2], [0.9, 0.1]),
                f"PSFSIZE_{band}": draw.lognormal(f"{band}_psfsize", 1.3, 0.2),
                f"NEA_{band}": draw.lognormal(f"{band}_nea", 8.0, 0.4),
                f"BLOB_NEA_{band}": draw.lognormal(f"{band}_blob_nea", 8.5, 0.4),
            }
    # An inverse variance that overflowed.
    values["FLUX_IVAR_W1"] = np.where(draw.chance("w1_overflow", 0.004), np.inf, values["FLUX_IVAR_W1"])
    for band in ("W1", "W2"):
        values[f"WISEMASK_{band}"] = draw.choice(f"{band}_wisemask", [0, 1, 4, 128, 255], [0.9, 0.03, 0.03, 0.03, 0.01])
    values["MASKBITS"] = draw.choice("maskbits", [0, 2, 2**10, 2**12, 2**14 - 1], [0.9, 0.04, 0.03, 0.02, 0.01])
    return values


def _light_curves(draw: Draw) -> dict[str, Array]:
    values: dict[str, Array] = {}
    for band in ("W1", "W2"):
        values |= {
            f"LC_FLUX_{band}": draw.lognormal(f"lc_flux_{band}", 5, 0.5, width=15),
            f"LC_FLUX_IVAR_{band}": draw.lognormal(f"lc_flux_ivar_{band}", 0.3, 0.3, width=15),
            f"LC_NOBS_{band}": draw.integers(f"lc_nobs_{band}", 8, 30, width=15),
            f"LC_MJD_{band}": 55280.0 + np.sort(draw.uniform("lc_mjd", 0, 3500, width=15), axis=1),
        }
    return values


def _apertures(draw: Draw) -> dict[str, Array]:
    """Aperture fluxes and what only the Legacy Surveys' light curves have."""
    values: dict[str, Array] = {}
    for band in _BANDS:
        width = 8 if len(band) == 1 else 5
        name = band.lower()
        flux = draw.lognormal(f"ap_{name}", 0.6, 0.6, width=width)
        values |= {
            f"APFLUX_{band}": np.cumsum(flux, axis=1),
            f"APFLUX_RESID_{band}": draw.normal(f"ap_resid_{name}", 0, 0.1, width=width),
            f"APFLUX_IVAR_{band}": draw.lognormal(f"ap_ivar_{name}", 500, 1, width=width),
        }
        if width == 8:
            values[f"APFLUX_BLOBRESID_{band}"] = values[f"APFLUX_RESID_{band}"] * 0.99
            values[f"APFLUX_MASKED_{band}"] = draw.uniform(f"ap_masked_{name}", 0, 0.01, width=width)
    for band in ("W1", "W2"):
        values |= {
            f"LC_FRACFLUX_{band}": draw.uniform(f"lc_fracflux_{band}", 0, 0.1, width=15),
            f"LC_RCHISQ_{band}": draw.lognormal(f"lc_rchisq_{band}", 0.9, 0.3, width=15),
            f"LC_EPOCH_INDEX_{band}": np.broadcast_to(np.arange(15), (draw.size, 15)),
        }
    return values


def _common(sources: Sources, draw: Draw, bricks: Bricks) -> dict[str, Array]:
    """Columns that the Legacy Surveys and the targeting catalogues share."""
    values = _bands(draw) | _shape(draw) | _gaia(draw, draw.chance("gaia", 0.15) | (sources.kind == GAIA))
    values |= {
        "RELEASE": sources.release,
        "BRICKID": sources.brickid,
        "BRICKNAME": bricks.name(sources.brickid),
        "RA": sources.ra,
        "DEC": sources.dec,
        "RA_IVAR": draw.lognormal("ra_ivar", 1e14, 1.5),
        "DEC_IVAR": draw.lognormal("dec_ivar", 1e14, 1.5),
    }
    return values


def source_position(sources: Sources, seed: int) -> tuple[Array, Array]:
    """Give the position in degrees of the Legacy Surveys' source: 0.2 to 0.8 arcsec from a secondary target."""
    draw = Draw(sources.key, seed)
    distance = np.where(sources.kind == SECONDARY_MATCHED, draw.uniform("offset", 0.2, 0.8) / 3600, 0)
    angle = draw.uniform("offset_angle", 0, 2 * np.pi)
    dec = sources.dec + distance * np.sin(angle)
    return sources.ra + distance * np.cos(angle) / np.cos(np.radians(dec)), dec


def tractor(sources: Sources, bricks: Bricks, seed: int, columns: Columns = TRACTORPHOT) -> Array:
    """Rows of the Legacy Surveys' catalogues.

    Parameters
    ----------
    sources : Sources
        Those that the Legacy Surveys have.
    bricks : Bricks
    seed : int
    columns : Columns
        Which columns, of those of TRACTORPHOT.

    Returns
    -------
    numpy structured array, shape (sources.size,)
    """
    draw = Draw(sources.key, seed)
    values = _common(sources, draw, bricks)
    if "APFLUX_G" in columns.names:
        values |= _light_curves(draw) | _apertures(draw)
    mjd = draw.uniform("mjd_min", 56600, 58000)
    ra, dec = source_position(sources, seed)
    values |= {
        "RA": ra,
        "DEC": dec,
        "OBJID": sources.objid,
        "BRICK_PRIMARY": np.ones(sources.size, dtype=bool),
        "FITBITS": draw.choice("fitbits", [0, 32, 2**13], [0.9, 0.09, 0.01]),
        "BX": draw.uniform("bx", 0, 3600),
        "BY": draw.uniform("by", 0, 3600),
        "MJD_MIN": mjd,
        "MJD_MAX": mjd + draw.uniform("mjd_span", 0, 900),
        "WISE_COADD_ID": values["BRICKNAME"],
        "WISE_X": draw.uniform("wise_x", 0, 2048),
        "WISE_Y": draw.uniform("wise_y", 0, 2048),
        "LS_ID": sources.ls_id,
        "TARGETID": sources.targetid,
    }
    return assemble(columns, sources.size, values)


def tractorphot(sources: Sources, bricks: Bricks, seed: int, columns: Columns = TRACTORPHOT) -> Array:
    """Rows of TRACTORPHOT of the `sources` that the Legacy Surveys have; as `tractor`."""
    return tractor(sources.take(sources.matched), bricks, seed, columns)


def targeting_photometry(sources: Sources, bricks: Bricks, seed: int, columns: Columns = TARGETPHOT) -> Array:
    """Rows of TARGETPHOT but for the columns of targeting.

    Targets of Gaia have its columns alone, RELEASE 0 and no BRICKNAME; secondary targets and targets of opportunity
    only a position and, at times, a proper motion. These may be NaN.
    """
    draw = Draw(sources.key, seed)
    values = _common(sources, draw, bricks)
    if "LC_FLUX_W1" in columns.names:
        values |= _light_curves(draw)
    values |= {
        "BRICK_OBJID": sources.objid,
        "MORPHTYPE": values["TYPE"],
        "PHOTSYS": np.where(sources.release == 9011, b"N", b"S"),
    }
    table = assemble(columns, sources.size, values)
    table["TARGETID"] = sources.targetid
    _blank(table, np.flatnonzero(sources.kind == GAIA), keep=("GAIA", "REF", "PM", "PARALLAX", "RA", "DEC", "BRICK"))
    gaia = np.flatnonzero(sources.kind == GAIA)
    for name, value in (("BRICKNAME", b""), ("MORPHTYPE", b"GPSF"), ("PHOTSYS", b"G")):
        table[name][gaia] = value
    bare = np.flatnonzero((sources.kind != GAIA) & (sources.kind != PRIMARY))
    _blank(table, bare, keep=("RA", "DEC"), drop=("_IVAR",))
    motion = np.where(draw.chance("pm_missing", 0.3), np.nan, draw.normal("pm", 0, 5))[bare]
    table["PMRA"][bare], table["PMDEC"][bare] = motion, -motion
    table["REF_EPOCH"][bare] = 2015.5
    return table


def _blank(table: Array, rows: Array, keep: tuple[str, ...], drop: tuple[str, ...] = ()) -> None:
    """Set to 0, False or blank all columns of these rows but TARGETID and those whose names start as `keep` says."""
    for name in table.dtype.names or ():
        if name == "TARGETID" or (name.startswith(keep) and not name.endswith(drop)):
            continue
        table[name][rows] = np.zeros((), dtype=table.dtype[name])
