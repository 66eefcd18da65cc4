"""Targeting of sources by a tile, and the assignment of its fibers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.sample import columns as of
from specprod.sample.draw import Draw
from specprod.sample.layout import Layout
from specprod.sample.observations import Tile
from specprod.sample.photometry import assemble
from specprod.sample.sky import GAIA, NORTH, PRIMARY, Bricks, Sources, healpix, separation
from specprod.sample.tables import Card
from specprod.survey.identifiers import encode_targetid

__all__ = [
    "Assignment",
    "assign",
    "catalogue_paths",
    "fiberassign_columns",
    "fiberassign_tables",
    "prefix",
    "targeting",
]

Array = npt.NDArray[Any]
FIBERS = 5000
# Share of targets that a second positioner reaches, as on tile 3867 of the main survey.
_SECOND_REACH = 0.11375
_PLATE_SCALE = 254.0  # mm a degree, about
_OBSCONDITIONS = {"dark": 1, "bright": 4, "backup": 24, "other": 1, "dark1b": 1, "bright1b": 4}
# Bits of DESI_TARGET and its like: LRG, ELG, QSO, standard star, BGS_ANY, MWS_ANY, SCND_ANY.
_LRG, _ELG, _QSO, _STD, _BGS, _MWS, _SCND = (1 << bit for bit in (0, 1, 2, 33, 60, 61, 62))


def prefix(survey: str) -> str:
    """Prefix of the target bit columns of a survey: SV1_ for sv1, none for main and special."""
    return f"{survey.upper()}_" if survey.startswith("sv") else ""


def targeting(sources: Sources, survey: str, program: str, seed: int) -> dict[str, Array]:
    """Columns of targeting: bits, priorities, pixel.

    The bits are those of the survey; the columns of the others are left to be 0. They depend on the source, the survey
    and whether the program is a dark one, so they agree on all tiles.
    """
    bright = program.startswith(("bright", "backup"))
    draw = Draw(sources.key, seed + (1 if bright else 0))
    primary, gaia = sources.kind == PRIMARY, sources.kind == GAIA
    classes = np.array([_BGS, _MWS] if bright else [_LRG, _ELG, _QSO, _ELG | _STD])
    index = draw.choice(f"class_{survey}", np.arange(classes.size), [0.7, 0.3] if bright else [0.3, 0.5, 0.18, 0.02])
    desi = np.where(primary, classes[index], np.where(gaia, _MWS, _SCND))
    name = prefix(survey)
    return {
        f"{name}DESI_TARGET": desi,
        f"{name}BGS_TARGET": np.where(desi & _BGS != 0, 1 << draw.integers("bgs_bit", 0, 3), 0),
        f"{name}MWS_TARGET": np.where(desi & _MWS != 0, 1 << draw.integers("mws_bit", 0, 12), 0),
        f"{name}SCND_TARGET": np.where(desi & _SCND != 0, 1 << draw.integers("scnd_bit", 0, 63), 0),
        "PRIORITY_INIT": np.where(primary, np.array([2100, 1500] if bright else [3200, 3000, 3400, 3000])[index], 1400),
        "NUMOBS_INIT": np.where(primary & ~bright, np.array([1, 1] if bright else [2, 2, 4, 2])[index], 1),
        "SUBPRIORITY": draw.uniform(f"subpriority_{survey}"),
        "OBSCONDITIONS": np.full(sources.size, _OBSCONDITIONS[program]),
        "HPXPIXEL": healpix(sources.ra, sources.dec),
    }


def catalogue_paths(tile: Tile) -> dict[str, Path]:
    """Target catalogues of a tile by key of the fiberassign header, below the root: directories, and a file for ToO."""
    dr9 = Path(f"target/catalogs/dr9/1.1.1/targets/{tile.survey}")
    return {
        "TARG": dr9 / "resolve" / tile.program,
        "TARG2": Path(f"target/catalogs/gaiadr2/1.1.1/targets/{tile.survey}/resolve/{tile.program}"),
        "SCND": dr9 / "secondary" / tile.program,
        "TOO": Path(f"survey/ops/surveyops/trunk/mtl/{tile.survey}/ToO/{tile.program}/ToO.ecsv"),
    }


@dataclass(frozen=True)
class Assignment:
    """Which positioners of a tile reach which objects, and which object each fiber gets.

    Attributes
    ----------
    sources : Sources
        Targets of the tile that are not sky.
    targetid, ra, dec : numpy.ndarray
        Those of `sources`, then those of the sky positions.
    reach_object, reach_slot : numpy.ndarray of int64
        Pairs of an object (index into `targetid`) and a positioner that reaches it.
    fiber_object, fiber_slot : numpy.ndarray of int64
        Pairs of an object and the positioner that is assigned to it, in the order of positioners.
    stuck : numpy.ndarray of bool
        Whether that fiber is stuck; some stuck fibers are on no known sky position, and get a negative TARGETID.
    """

    sources: Sources
    targetid: npt.NDArray[np.int64]
    ra: npt.NDArray[np.float64]
    dec: npt.NDArray[np.float64]
    reach_object: npt.NDArray[np.int64]
    reach_slot: npt.NDArray[np.int64]
    fiber_object: npt.NDArray[np.int64]
    fiber_slot: npt.NDArray[np.int64]
    stuck: npt.NDArray[np.bool_]


def _devices() -> Array:
    """DEVICE_LOC of the 500 fibers of a petal: the places 0 to 541 but those of other devices."""
    return np.asarray(np.delete(np.arange(542), np.arange(42) * 12 + 30))


def fiber(slot: Array) -> Array:
    """FIBER of a positioner: within a petal fibers are not in the order of locations."""
    return np.asarray(slot // 500 * 500 + slot % 500 * 77 % 500)


def location(slot: Array) -> Array:
    """LOCATION of a positioner, 1000 petal + device."""
    return np.asarray(slot // 500 * 1000 + _devices()[slot % 500])


def _sky_positions(tile: Tile, bricks: Bricks, radius: float, seed: int) -> tuple[Array, Array, Array]:
    """TARGETID and position of the sky positions of a tile."""
    running = tile.index * tile.sky_targets + np.arange(tile.sky_targets)
    draw = Draw(running, seed)
    distance = radius * np.sqrt(draw.uniform("sky_radius"))
    angle = draw.uniform("sky_angle", 0, 2 * np.pi)
    dec = tile.dec + distance * np.sin(angle)
    ra = (tile.ra + distance * np.cos(angle) / np.cos(np.radians(dec))) % 360
    targetid = encode_targetid(
        objid=running % (1 << 22), brickid=bricks.number(ra, dec), release=np.where(dec >= NORTH, 9011, 9010), sky=1
    )
    return targetid, ra, dec


def assign(tile: Tile, sources: Sources, bricks: Bricks, radius: float, seed: int) -> Assignment:
    """Assign fibers to targets and sky positions: to those that come first by lot, by position angle over the petals.

    Parameters
    ----------
    tile : Tile
    sources : Sources
        Targets of the tile.
    bricks : Bricks
    radius : float
        Radius of the tile in degrees.
    seed : int
    """
    sky_id, sky_ra, sky_dec = _sky_positions(tile, bricks, radius, seed)
    targetid = np.concatenate([sources.targetid, sky_id])
    ra, dec = np.concatenate([sources.ra, sky_ra]), np.concatenate([sources.dec, sky_dec])
    draw = Draw(targetid ^ (tile.tileid << 32), seed)
    lot = draw.uniform("lot")
    chosen = np.concatenate(
        [
            np.argsort(lot[: sources.size], kind="stable")[: tile.assigned],
            sources.size + np.argsort(lot[sources.size :], kind="stable")[: tile.sky_fibers],
        ]
    )
    east = (ra - tile.ra + 180) % 360 - 180
    angle = np.arctan2(dec - tile.dec, east)
    chosen = chosen[np.argsort(angle[chosen], kind="stable")]
    slot = np.arange(chosen.size) * FIBERS // max(chosen.size, 1)
    # Whatever has no fiber is reached by the positioner of a neighbour, and that of few by another one as well.
    first = np.interp(angle, angle[chosen], slot, period=2 * np.pi).astype(np.int64) % FIBERS
    first[chosen] = slot
    second = np.argsort(lot, kind="stable")[: round(_SECOND_REACH * targetid.size)]
    reach_object = np.concatenate([np.arange(targetid.size), second])
    reach_slot = np.concatenate([first, (first[second] + 1 + draw.integers("step", 0, 40)[second]) % FIBERS])
    order = np.lexsort((reach_object, reach_slot))
    stuck = draw.chance("stuck", 0.15)[chosen] & (chosen >= sources.size)
    return Assignment(sources, targetid, ra, dec, reach_object[order], reach_slot[order], chosen, slot, stuck)


def header(tile: Tile, layout: Layout) -> list[Card]:
    """Cards of the primary header of a fiberassign file; catalogues have the literal prefix DESIROOT."""
    catalogues = {name: f"DESIROOT/{path}" for name, path in catalogue_paths(tile).items()}
    return [
        ("TILEID", tile.tileid),
        ("TILERA", tile.ra),
        ("TILEDEC", tile.dec),
        ("FIELDROT", 0.0),
        ("SURVEY", tile.survey),
        ("FAPRGRM", tile.faprgrm),
        ("FAFLAVOR", tile.faflavor),
        ("OBSCON", tile.program.upper()),
        ("GOALTIME", tile.goaltime),
        ("GOALTYPE", tile.goaltype),
        *catalogues.items(),
        ("SCND2", "-"),
        ("SKY", "DESIROOT/target/catalogs/dr9/1.1.1/skies"),
        ("FA_VER", layout.tiles),
    ]


def fiberassign_columns(survey: str) -> of.Columns:
    """Columns of HDU FIBERASSIGN: in sv1 and its like also the survey's bits, in sv3 no PLATE_RA, PLATE_DEC."""
    name = prefix(survey)
    if not name:
        return of.FIBERASSIGN
    bits = ", ".join(f"{name}{kind}_TARGET i8" for kind in ("DESI", "BGS", "MWS", "SCND"))
    columns = of.FIBERASSIGN.extended(bits)
    return columns.without("PLATE_RA", "PLATE_DEC") if survey == "sv3" else columns


def fiberassign_tables(
    tile: Tile, assignment: Assignment, photometry: Array, bits: dict[str, Array], seed: int
) -> dict[str, tuple[Array, of.Columns]]:
    """Tables of a fiberassign file by HDU, with their columns.

    Parameters
    ----------
    tile : Tile
    assignment : Assignment
    photometry : numpy structured array
        Targeting photometry of the sources of the assignment.
    bits : dict
        Their columns of targeting.
    seed : int
    """
    a = assignment
    fibers = _fibers(tile, a, photometry, bits, seed)
    columns = fiberassign_columns(tile.survey)
    bits_column = bits[f"{prefix(tile.survey)}DESI_TARGET"]
    sky = a.targetid.size - a.sources.size
    padded = {name: np.concatenate([bits[name], np.zeros(sky, dtype=np.int64)]) for name in _integers(bits)}
    targets: dict[str, Any] = padded | {
        "TARGETID": a.targetid,
        "RA": a.ra,
        "DEC": a.dec,
        "FA_TARGET": np.concatenate([bits_column, np.full(sky, 1 << 32)]),
        "FA_TYPE": np.concatenate([np.where(bits_column & _STD, 3, 1), np.full(sky, 4)]),
        "PRIORITY": np.concatenate([bits["PRIORITY_INIT"], np.zeros(sky, dtype=np.int64)]),
        "SUBPRIORITY": np.concatenate([bits["SUBPRIORITY"], Draw(a.targetid[a.sources.size :], seed).uniform("sub")]),
    }
    reach = {
        "TARGETID": a.targetid[a.reach_object],
        "FIBER": fiber(a.reach_slot),
        "LOCATION": location(a.reach_slot),
    }
    monitors = fibers[np.flatnonzero(fibers["FA_TYPE"] == 4)[:20]]
    guides = fibers[np.flatnonzero(fibers["OBJTYPE"] == b"TGT")[:30]]
    monitor_values = {name: monitors[name] for name in of.SKY_MONITOR.names}
    guide_values = {name: guides[name] for name in of.GFA_TARGETS.names if name in columns.names}
    return {
        "FIBERASSIGN": (fibers, columns),
        "SKY_MONITOR": (assemble(of.SKY_MONITOR, monitors.size, monitor_values), of.SKY_MONITOR),
        "GFA_TARGETS": (assemble(of.GFA_TARGETS, guides.size, guide_values), of.GFA_TARGETS),
        "TARGETS": (assemble(of.TARGETS, a.targetid.size, targets), of.TARGETS),
        "POTENTIAL_ASSIGNMENTS": (
            assemble(of.POTENTIAL_ASSIGNMENTS, a.reach_object.size, reach),
            of.POTENTIAL_ASSIGNMENTS,
        ),
    }


def _integers(bits: dict[str, Array]) -> list[str]:
    return [name for name, values in bits.items() if values.dtype.kind in "iu"]


def _fibers(tile: Tile, a: Assignment, photometry: Array, bits: dict[str, Array], seed: int) -> Array:
    """Rows of FIBERASSIGN."""
    row = a.fiber_object
    on_target = row < a.sources.size
    source = np.where(on_target, row, 0)
    columns = fiberassign_columns(tile.survey)

    def of_target(values: Array) -> Array:
        return np.where(on_target, values[source], np.zeros((), dtype=values.dtype))

    values: dict[str, Any] = {
        name: of_target(photometry[name]) for name in columns.names if name in (photometry.dtype.names or ())
    }
    values |= {name: of_target(bits[name]) for name in columns.names if name in bits}
    desi = of_target(bits[f"{prefix(tile.survey)}DESI_TARGET"])
    nowhere = a.stuck & (Draw(a.targetid[row], seed).uniform("nowhere") < 0.5)
    distance = separation(a.ra[row], a.dec[row], tile.ra, tile.dec) * _PLATE_SCALE
    angle = np.arctan2(a.dec[row] - tile.dec, (a.ra[row] - tile.ra + 180) % 360 - 180)
    draw = Draw(a.targetid[row], seed)
    # Targets without a proper motion have NaN on some tiles.
    still = on_target & (values["REF_ID"] == 0) & draw.chance("motion_unknown", 0.05)
    values |= {
        # An unassigned fiber has the number that fiberassign makes of tile and fiber.
        "TARGETID": np.where(nowhere, -(tile.tileid * 10000 + fiber(a.fiber_slot)), a.targetid[row]),
        "PETAL_LOC": a.fiber_slot // 500,
        "DEVICE_LOC": location(a.fiber_slot) % 1000,
        "LOCATION": location(a.fiber_slot),
        "FIBER": fiber(a.fiber_slot),
        "FIBERSTATUS": np.where(a.stuck, 2, np.where(draw.chance("restricted", 0.01), 1 << 9, 0)),
        "TARGET_RA": a.ra[row],
        "TARGET_DEC": a.dec[row],
        "PLATE_RA": a.ra[row],
        "PLATE_DEC": a.dec[row],
        "PMRA": np.where(still, np.nan, values["PMRA"]),
        "PMDEC": np.where(still, np.nan, values["PMDEC"]),
        "LAMBDA_REF": 5400.0,
        "FA_TARGET": np.where(on_target, desi, 1 << 32),
        "FA_TYPE": np.where(nowhere, 0, np.where(on_target, np.where(desi & _STD, 3, 1), 4)),
        "OBJTYPE": np.where(nowhere, b"", np.where(on_target, b"TGT", b"SKY")),
        "FIBERASSIGN_X": distance * np.cos(angle),
        "FIBERASSIGN_Y": distance * np.sin(angle),
        "PRIORITY": of_target(bits["PRIORITY_INIT"]),
    }
    return assemble(columns, row.size, values)
