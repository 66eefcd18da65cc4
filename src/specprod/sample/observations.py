"""Tiles, exposures and frames of the sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import ConfigurationError
from specprod.sample.columns import EXPOSURES, FRAMES, TILES, Columns
from specprod.sample.draw import Draw
from specprod.sample.photometry import assemble
from specprod.sample.sky import NORTH, separation

__all__ = ["CAMERAS", "CLUSTER", "PROGRAMS", "Tile", "exposures_of", "frames_of", "plan", "tiles_of"]

Array = npt.NDArray[Any]

# Neighbouring tiles come in clusters of so many; clusters are far from each other.
CLUSTER = 4
CAMERAS = np.array([f"{band}{number}".encode() for band in "brz" for number in range(10)])

# Survey, program, FAPRGRM, FAFLAVOR, goal in seconds, first TILEID, first night as MJD, in the order in which tiles
# take them. The first TILEIDs are multiples of 60, so that those of 10 or 12 programs never meet.
PROGRAMS: tuple[tuple[str, str, str, str, float, int, int], ...] = (
    ("main", "dark", "dark", "maindark", 1000.0, 1200, 59350),
    ("main", "bright", "bright", "mainbright", 180.0, 21000, 59352),
    ("sv3", "dark", "dark", "sv3dark", 1200.0, 600, 59315),
    ("main", "dark", "dark", "maindark", 1000.0, 1200, 59350),
    ("sv1", "other", "dc3r2", "sv1dc3r2", 1000.0, 80700, 59220),
    ("main", "backup", "backup", "mainbackup", 60.0, 42000, 59400),
    ("main", "bright", "bright", "mainbright", 180.0, 21000, 59352),
    ("special", "other", "tertiary42", "specialtertiary42", 1000.0, 82020, 59800),
    ("sv3", "bright", "bright", "sv3bright", 220.0, 480, 59316),
    ("main", "dark", "dark", "maindark", 1000.0, 1200, 59350),
)
_EXTENSION: tuple[tuple[str, str, str, str, float, int, int], ...] = (
    ("main", "dark1b", "dark1b", "maindark1b", 1000.0, 51000, 60500),
    ("main", "bright1b", "bright1b", "mainbright1b", 180.0, 60000, 60500),
)
_SNR = ("BGS", "ELG", "GPBBACKUP", "GPBBRIGHT", "GPBDARK", "LRG", "LYA", "QSO")


@dataclass(frozen=True)
class Tile:
    """A tile of the plan.

    Attributes
    ----------
    index, cluster : int
        Number of the tile and of its cluster.
    tileid, survey, program, faprgrm, faflavor, goaltime
        As in the tiles file; goal in seconds.
    ra, dec : float
        Centre in degrees.
    first_night : int
        MJD of the first night.
    targets, assigned, sky_targets, sky_fibers : int
        Targets that are not sky, and how many of them get a fiber; sky positions, and how many of them do.
    observed : bool
        False for a tile that stands in the list of tiles and has no valid exposure.
    """

    index: int
    cluster: int
    tileid: int
    survey: str
    program: str
    faprgrm: str
    faflavor: str
    goaltime: float
    ra: float
    dec: float
    first_night: int
    targets: int
    assigned: int
    sky_targets: int
    sky_fibers: int
    observed: bool = True

    @property
    def goaltype(self) -> str:
        """GOALTYPE; that of an extension program is that of the program that it extends."""
        return self.program.removesuffix("1b")


def _centres(count: int, radius: float) -> Array:
    """Centres of clusters, shape (count, 2): the first two are chosen, the others spread evenly and apart."""
    # The first lies on the border of northern and southern photometry, and of two HEALPix pixels of nside 2;
    # the second on the meridian and the equator.
    centres = np.array([(143.82, NORTH), (0.0, 0.0)])
    number = 0
    while len(centres) < count:
        number += 1
        if number > 100 * count:
            raise ConfigurationError(f"the sky has no room for {count} clusters of tiles of {radius} degrees")
        candidate = (number * 137.50776405) % 360, np.degrees(np.arcsin(-0.25 + 1.1 * ((number * 0.618034) % 1)))
        if separation(centres[:, 0], centres[:, 1], *candidate).min() > 3.8 * radius + 0.5:
            centres = np.vstack([centres, candidate])
    return centres[:count]


def plan(
    count: int, radius: float, *, targets: int, assigned: int, sky_targets: int, sky_fibers: int, extension: bool
) -> list[Tile]:
    """Plan `count` observed tiles and one, smaller, that has not been observed, last.

    Parameters
    ----------
    count : int
    radius : float
        Radius of a tile in degrees.
    targets, assigned, sky_targets, sky_fibers : int
        Numbers a tile.
    extension : bool
        Whether to have tiles of the extension programs.
    """
    programs = PROGRAMS[:2] + (_EXTENSION if extension else ()) + PROGRAMS[2:]
    centres = _centres(count // CLUSTER + 1, radius)
    tiles = []
    for index in range(count + 1):
        survey, program, faprgrm, faflavor, goaltime, first, night = programs[index % len(programs)]
        cluster, place = divmod(index, CLUSTER)
        ra, dec = centres[cluster]
        if place:
            angle = np.radians(120 * place + 30)
            dec = dec + 0.9 * radius * np.sin(angle)
            ra = (ra + 0.9 * radius * np.cos(angle) / np.cos(np.radians(dec))) % 360
        tiles.append(
            Tile(
                index, cluster, first + index, survey, program, faprgrm, faflavor, goaltime,
                round(float(ra), 3) % 360, round(float(dec), 3), night + 7 * (index // len(programs)),
                targets, assigned, sky_targets, sky_fibers,
            )
        )  # fmt: skip
    last = tiles[-1]
    tenth = max(4, assigned // 10)
    tiles[-1] = replace(
        last,
        observed=False,
        assigned=tenth,
        targets=max(tenth, targets // 10),
        sky_targets=sky_targets // 10,
        sky_fibers=min(sky_fibers // 10, sky_targets // 10),
    )
    return tiles


def _night(mjd: Array) -> Array:
    """YYYYMMDD of days counted as MJD."""
    text = np.datetime_as_string(np.datetime64("1858-11-17") + mjd.astype("timedelta64[D]"), unit="D")
    return np.array([int(day.replace("-", "")) for day in text.tolist()], dtype=np.int64)


def exposures_of(tiles: list[Tile], seed: int, columns: Columns = EXPOSURES) -> Array:
    """Rows of EXPOSURES, in order of time.

    A tile has one to three exposures in one or two nights, and at times one more whose EFFTIME_SPEC is 0. Exposures
    of the guide cameras are missing for some: NaN in the columns named GFA and ETC.
    """
    observed = [tile for tile in tiles if tile.observed]
    index = np.array([tile.index for tile in observed])
    draw = Draw(index, seed)
    valid = draw.integers("nexp", 1, 4)
    number = valid + draw.chance("invalid_exposure", 0.3)
    tile = np.repeat(np.arange(index.size), number)
    turn = np.arange(tile.size) - np.repeat(np.cumsum(number) - number, number)
    draw = Draw(index[tile] * 16 + turn, seed)
    start = np.array([t.first_night for t in observed])[tile] + np.where(turn >= 2, 3, 0)
    order = np.lexsort((turn, tile, start))
    tile, turn, start, draw = tile[order], turn[order], start[order], Draw(draw.key[order], seed)
    good = turn < valid[tile]

    def of(name: str) -> Array:
        return np.array([getattr(t, name) for t in observed])[tile]

    goal = of("goaltime")
    exptime = np.round(goal * draw.uniform("exptime", 0.5, 1.3), 4)
    effective = np.where(good, goal * draw.uniform("efftime", 0.3, 0.6), 0)
    values: dict[str, Any] = {
        "NIGHT": _night(start),
        "EXPID": 67000 + 3 * np.arange(tile.size),
        "MJD": start + 1 + 0.1 + 0.03 * turn + draw.uniform("time", 0, 0.02),
        "EXPTIME": exptime,
        "EFFTIME_SPEC": effective,
        "MINTFRAC": np.where(of("survey") == "sv3", 0.9, 0.85),
        "AIRMASS": draw.uniform("airmass", 1.0, 1.8),
        "EBV": draw.lognormal("ebv", 0.03, 0.5),
        "SEEING_ETC": draw.lognormal("seeing", 1.1, 0.2),
        "EFFTIME_ETC": effective * draw.uniform("etc", 0.9, 1.1),
        "GOALTIME": goal,
        "TILERA": of("ra"),
        "TILEDEC": of("dec"),
    }
    for name in ("TILEID", "SURVEY", "PROGRAM", "FAPRGRM", "FAFLAVOR", "GOALTYPE"):
        column = of(name.lower())
        values[name] = column.astype("S") if column.dtype.kind == "U" else column
    for name in EXPOSURES.names:
        if name.startswith("TSNR2_"):
            values[name] = effective * draw.lognormal(name, 0.1, 0.3)
        elif name.startswith("SKY_MAG"):
            values[name] = draw.normal(name, 20.5, 0.4)
        elif "EFFTIME" in name and name not in values:
            values[name] = effective * draw.uniform(name, 0.85, 1.1)
        elif name.endswith("_GFA"):
            values[name] = draw.lognormal(name, 0.9, 0.15)
        if name.endswith(("_GFA", "_ETC")) or name == "SKY_MAG_AB_GFA":
            missing = draw.chance("no_gfa" if "GFA" in name else "no_etc", 0.15)
            values[name] = np.where(missing, np.nan, values[name])
    return assemble(columns, tile.size, values)


def frames_of(exposures: Array, seed: int, columns: Columns = FRAMES) -> Array:
    """Rows of FRAMES: 30 an exposure, one a camera."""
    row = np.repeat(np.arange(exposures.size), CAMERAS.size)
    camera = np.tile(np.arange(CAMERAS.size), exposures.size)
    parents = exposures[row]
    draw = Draw(parents["EXPID"].astype(np.int64) * 100 + camera, seed)
    values: dict[str, Any] = {name: parents[name] for name in FRAMES.names if name in (exposures.dtype.names or ())}
    values["CAMERA"] = CAMERAS[camera]
    for kind in _SNR:
        snr = values[f"TSNR2_{kind}"] * draw.uniform(f"frame_{kind}", 0.2, 0.5)
        # An arm that had no light.
        values[f"TSNR2_{kind}"] = np.where(draw.chance("dark_arm", 0.01), np.nan, snr)
    values["TSNR2_ALPHA"] = np.where(camera < 10, 0.8, 1.0) + draw.normal("alpha", 0, 0.02)
    return assemble(columns, row.size, values)


def tiles_of(tiles: list[Tile], exposures: Array, columns: Columns = TILES) -> Array:
    """Rows of the tiles file, the sums over the valid exposures of each tile."""
    order = sorted(tiles, key=lambda tile: tile.tileid)
    tileid = np.array([tile.tileid for tile in order])
    valid = exposures[exposures["EFFTIME_SPEC"] > 0]
    row = np.searchsorted(tileid, valid["TILEID"])

    def total(name: str) -> Array:
        return np.round(np.bincount(row, np.nan_to_num(valid[name]), tileid.size), 1)

    last = np.zeros(tileid.size, dtype=np.int64)
    np.maximum.at(last, row, valid["NIGHT"])
    number = np.bincount(row, minlength=tileid.size)
    values: dict[str, Any] = {
        name: np.array([getattr(tile, name.lower()) for tile in order]).astype("S")
        for name in ("SURVEY", "PROGRAM", "FAPRGRM", "FAFLAVOR", "GOALTYPE")
    }
    values |= {name: total(name) for name in TILES.names if "EFFTIME" in name or name == "EXPTIME"}
    values |= {
        "TILEID": tileid,
        "NEXP": number,
        "TILERA": np.array([tile.ra for tile in order]),
        "TILEDEC": np.array([tile.dec for tile in order]),
        "GOALTIME": np.array([tile.goaltime for tile in order]),
        "OBSSTATUS": np.where(number > 0, b"obsend", b"obsstart"),
        "MINTFRAC": np.where(np.array([tile.survey for tile in order]) == "sv3", 0.9, 0.85),
        "LASTNIGHT": np.where(number > 0, last, _night(np.array([tile.first_night for tile in order]))),
    }
    return assemble(columns, tileid.size, values)
