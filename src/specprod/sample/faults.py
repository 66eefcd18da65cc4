"""Faults that the patching of a production mends, planted in a pair of productions, source and destination.

The two agree but for what is planted, and for values of the source that differ where the destination has a good value
of its own, which must stay. Each fault is recorded with its place, the wrong value, and the right one after mending.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import ConfigurationError
from specprod.files.literal import open_writable
from specprod.sample.columns import EXPOSURES, FRAMES, TILES, Columns
from specprod.sample.draw import Draw
from specprod.sample.layout import LAYOUTS
from specprod.sample.observations import CAMERAS, PROGRAMS, Tile, exposures_of, frames_of, tiles_of
from specprod.sample.pair import Pair
from specprod.sample.tables import Tree, csv_text

__all__ = ["BLOCK", "FAULTS", "write_pair"]

Array = npt.NDArray[Any]
Adapt = Callable[[Columns], Columns]

# Name of the file at the root that records the faults.
FAULTS = "faults.json"
# Every rule is broken once in so many tiles.
BLOCK = 128

# Columns of exposures whose masked values come from the source. NIGHT, EXPID and TILEID are integers, never masked.
_MASKED = (
    "TILERA", "TILEDEC", "MJD", "SURVEY", "EXPTIME", "GOALTIME", "GOALTYPE", "MINTFRAC", "AIRMASS", "EBV",
    "SEEING_ETC", "EFFTIME_ETC", "TRANSPARENCY_GFA", "SEEING_GFA", "FIBER_FRACFLUX_GFA", "FIBER_FRACFLUX_ELG_GFA",
    "FIBER_FRACFLUX_BGS_GFA", "FIBERFAC_GFA", "FIBERFAC_ELG_GFA", "FIBERFAC_BGS_GFA", "AIRMASS_GFA", "SKY_MAG_AB_GFA",
    "EFFTIME_GFA", "EFFTIME_DARK_GFA", "EFFTIME_BRIGHT_GFA", "EFFTIME_BACKUP_GFA",
)  # fmt: skip
# Survey, FAPRGRM, FAFLAVOR of tiles whose PROGRAM is wrong, and the right one.
_FLAVORS = (
    ("main", "dark", "maindark", "dark"),
    ("main", "dark1b", "maindark1b", "dark1b"),
    ("sv1", "elgqso", "sv1elgqso", "dark"),
    ("sv1", "bgsmws", "sv1bgsmws", "bright"),
    ("sv1", "unwisebluebright", "sv1unwisebluebright", "other"),
    ("sv1", "backup1", "sv1backup1", "backup"),
    ("special", "m31", "specialm31", "dark"),
    ("special", "tertiary41", "specialtertiary41", "dark"),
    ("special", "tertiary39", "specialtertiary39", "bright"),
    ("special", "tertiary42", "specialtertiary42", "other"),
)


def _fault_tiles(blocks: int) -> list[Tile]:
    """Tiles in blocks of `BLOCK`: in each, most are in the source, 16 are older and 16 younger."""
    tiles = []
    for index in range(blocks * BLOCK):
        survey, program, faprgrm, faflavor, goaltime, _, _ = PROGRAMS[index % len(PROGRAMS)]
        place = index % BLOCK
        # First night, and the nights over which tiles are spread: those of the source begin at 59400.
        era, nights = (59110, 280) if place >= BLOCK - 16 else (60100 if place >= BLOCK - 32 else 59400, 400)
        tile = Tile(
            index, 0, 100000 + index, survey, program, faprgrm, faflavor, goaltime,
            round((index + 1) * 137.50776405 % 360, 3), round(-15.0 + index * 61.8034 % 80, 3),
            era + 7 * index % nights, 0, 0, 0, 0,
        )  # fmt: skip
        tiles.append(tile)
    first = BLOCK - 16
    tiles[first] = replace(tiles[first], survey="cmx", program="dark", faprgrm="elg", faflavor="cmxelg")
    # Tiles with rules of their own; two of them are younger than the source.
    for place, tileid in ((60, 1825), (61, 21273), (BLOCK - 32, 83004), (BLOCK - 31, 83024)):
        tiles[place] = replace(tiles[place], tileid=tileid)
    for place, (survey, faprgrm, faflavor, program) in enumerate(_FLAVORS, start=40):
        tiles[place] = replace(tiles[place], survey=survey, faprgrm=faprgrm, faflavor=faflavor, program=program)
    return tiles


def _make_pair(tiles: list[Tile], loadable: list[Tile], observed: Array, seed: int, adapt: Adapt) -> Pair:
    """Make good tables, no value masked: of `tiles` in their order, then of the `loadable` ones."""
    exposures = exposures_of(tiles, seed, adapt(EXPOSURES))
    exposures["EXPID"] += 100000
    exposures = np.concatenate([exposures, observed])
    tiles = tiles + loadable
    draw = Draw(exposures["EXPID"].astype(np.int64), seed)
    for name in EXPOSURES.names:
        if exposures[name].dtype.kind == "f":
            fill = draw.uniform(f"filled_{name}", 0.5, 2.0)
            exposures[name] = np.where(np.isnan(exposures[name]), fill, exposures[name])
    frames = frames_of(exposures, seed, adapt(FRAMES))
    for name in FRAMES.names:
        if frames[name].dtype.kind == "f":
            frames[name] = np.where(np.isnan(frames[name]), 0.5, frames[name])
    summary = tiles_of(tiles, exposures, adapt(TILES))
    order = np.argsort(np.argsort([tile.tileid for tile in tiles]))
    in_source = np.arange(len(tiles)) % BLOCK < BLOCK - 32
    in_source[len(tiles) - len(loadable) :] = False
    return Pair({"tiles": summary[order], "exposures": exposures, "frames": frames}, in_source)


def _plant_exposures(pair: Pair, first: int) -> None:
    """Faults of exposures; `first` is the row of the first tile of the block."""
    table = pair.destination["exposures"]
    turn = iter(range(first, first + 40))

    def fresh(tiles: Iterator[int] = turn) -> int:
        return pair.exposures(next(tiles))[0]

    for column in _MASKED:
        wrong = b"" if table[column].dtype.kind == "S" else np.nan
        pair.plant("exposures", fresh(), column, wrong, "exposures: masked, from the source")
    row = fresh()
    for column in ("TILERA", "TILEDEC"):
        pair.plant("exposures", row, column, 0.0, "exposures: TILERA and TILEDEC both 0, from the source")
    pair.plant("exposures", fresh(), "MJD", 0.0, "exposures: MJD before 50000, from the source")
    pair.plant("exposures", fresh(), "SURVEY", b"unknown", "exposures: SURVEY none of the six, from the source")
    pair.plant("exposures", fresh(), "SKY_MAG_R_SPEC", np.nan, "exposures: stays masked, 0", right=0.0)
    row = fresh()
    pair.spoil_source("exposures", row, "SEEING_GFA", np.nan)
    pair.plant("exposures", row, "SEEING_GFA", np.nan, "exposures: masked in the source too, 0", right=0.0)
    row = fresh()
    for column, wrong in (("PROGRAM", b"none"), ("FAPRGRM", b"stale"), ("FAFLAVOR", b"stale"), ("GOALTYPE", b"none")):
        pair.plant("exposures", row, column, wrong, "back: from tiles to exposures")
    row = fresh()
    survey = pair.source_value("exposures", row, "SURVEY")
    pair.plant("exposures", row, "SURVEY", b"sv2", "back: from tiles to exposures", right=survey)
    younger, older = first + BLOCK - 30, first + BLOCK - 15
    row = pair.exposures(younger)[0]
    pair.plant("exposures", row, "SEEING_ETC", np.nan, "exposures: not in the source, 0", right=0.0)
    row = next(i for i in pair.exposures(younger + 1) if table["EFFTIME_SPEC"][i] > 0)
    right = np.round(table["MJD"][row], 8)
    pair.spectra.append((int(table["NIGHT"][row]), int(table["EXPID"][row]), float(right)))
    pair.plant("exposures", row, "MJD", np.nan, "exposures: missing MJD, from the raw data", right=right)
    _plant_frame_mjd(pair, row, right)
    row = next(i for i in pair.exposures(older) if table["EFFTIME_SPEC"][i] > 0)
    pair.plant("exposures", row, "MJD", np.nan, "exposures: missing MJD before the source's first night, 0", right=0.0)


def _plant_frame_mjd(pair: Pair, exposure: int, right: Any) -> None:
    """Let the frames of an exposure that only the destination has lack their MJD."""
    rows = range(exposure * CAMERAS.size, (exposure + 1) * CAMERAS.size)
    for number, row in enumerate(rows):
        wrong = np.nan if number % 2 else 0.0
        pair.plant("frames", row, "MJD", wrong, "frames again: MJD before 50000, from the exposure", right=right)


def _plant_frames(pair: Pair, first: int) -> None:
    """Faults of frames that the source has, on the exposures of one tile."""
    row = pair.exposures(first + 50)[0] * CAMERAS.size
    text = [name for name in FRAMES.names if pair.destination["frames"][name].dtype.kind == "S" and name != "CAMERA"]
    floats = [name for name in FRAMES.names if pair.destination["frames"][name].dtype.kind == "f"]
    for number, column in enumerate(name for name in floats if name != "TSNR2_ALPHA"):
        pair.plant("frames", row + number, column, np.nan, "frames: masked, from the source")
    for number, column in enumerate(text):
        pair.plant("frames", row + number, column, b"", "frames: masked, from the source")
    pair.plant("frames", row + 28, "TSNR2_ALPHA", np.nan, "frames: TSNR2_ALPHA is not mended, 0", right=0.0)
    pair.spoil_source("frames", row + 29, "TSNR2_QSO", np.nan)
    pair.plant("frames", row + 29, "TSNR2_QSO", np.nan, "frames: masked in the source too, 0", right=0.0)
    row = pair.exposures(first + BLOCK - 28)[0] * CAMERAS.size
    pair.plant("frames", row, "SEEING_ETC", np.nan, "frames: not in the source, 0", right=0.0)
    row = pair.exposures(first + 51)[0]
    for column, wrong in (("SURVEY", b"cmx"), ("FAPRGRM", b"stale"), ("FAFLAVOR", b"stale"), ("GOALTYPE", b"none")):
        pair.plant("frames", row * CAMERAS.size, column, wrong, "back: from exposures to frames")


def _plant_tiles(pair: Pair, first: int) -> None:
    """Faults of tiles, those of their exposures that follow, and those of EFFTIME_SPEC, which come last."""
    for column in ("TILERA", "TILEDEC"):
        pair.plant("tiles", first + 52, column, 0.0, "tiles: TILERA and TILEDEC both 0, from the source")
    for number, column in enumerate(("FAPRGRM", "FAFLAVOR", "OBSSTATUS", "GOALTYPE")):
        pair.plant("tiles", first + 53 + number, column, b"unknown", "tiles: unknown, from the source")
    for column, wrong in (("EFFTIME_ETC", np.nan), ("EFFTIME_GFA", np.inf), ("MINTFRAC", np.nan)):
        pair.plant("tiles", first + 57, column, wrong, "tiles: not finite, from the source")
    tile = first + BLOCK - 29
    pair.plant("tiles", tile, "GOALTYPE", b"unknown", "tiles: GOALTYPE unknown, other", right="other")
    _plant_text(pair, tile, "GOALTYPE", None, "other")
    tile = first + 58
    pair.plant("tiles", tile, "PROGRAM", b"none", "tiles: PROGRAM after FAFLAVOR")
    _plant_efftime(pair, first)
    if first:
        return
    for place in range(40, 40 + len(_FLAVORS)):
        program = "bright" if _FLAVORS[place - 40][3] == "dark" else "dark"
        pair.plant("tiles", place, "PROGRAM", program.encode(), "tiles: PROGRAM after FAFLAVOR")
        _plant_text(pair, place, "PROGRAM", program, _FLAVORS[place - 40][3])
    for tile in (60, 61):
        pair.plant("tiles", tile, "EFFTIME_SPEC", 123.4, "tiles: EFFTIME_SPEC of tiles 1825 and 21273, 0", right=0.0)
    for tile, right in ((BLOCK - 32, "dark"), (BLOCK - 31, "bright")):
        pair.plant("tiles", tile, "GOALTYPE", b"unknown", "tiles: GOALTYPE of tiles 83004 and 83024", right=right)
        _plant_text(pair, tile, "GOALTYPE", None, right)
    tile = BLOCK - 16
    pair.plant("tiles", tile, "SURVEY", b"unknown", "tiles: SURVEY unknown, cmx", right="cmx")
    _plant_text(pair, tile, "SURVEY", "unknown", "cmx")


def _plant_text(pair: Pair, tile: int, column: str, wrong: str | None, right: str) -> None:
    """Let exposures of a tile, and frames, have a text that the tile's will replace; by default what they have."""
    for row in pair.exposures(tile):
        text = pair.destination["exposures"][column][row] if wrong is None else wrong.encode()
        if text == right.encode():
            continue
        pair.plant("exposures", row, column, text, "back: from tiles to exposures", right=right)
        if column in FRAMES.names:
            for frame in range(row * CAMERAS.size, (row + 1) * CAMERAS.size):
                pair.plant("frames", frame, column, text, "back: from exposures to frames", right=right)


def _plant_efftime(pair: Pair, first: int) -> None:
    """Exposures without effective time on tiles that have one: in the source all, some, or none have it."""
    table = pair.destination["exposures"]
    known = [tile for tile in range(first + 62, first + BLOCK - 32) if tile - first not in (60, 61)]
    several = next((t for t in known if (table["EFFTIME_SPEC"][pair.exposures(t)] > 0).sum() > 1), None)
    if several is None:
        raise ConfigurationError("no tile has the exposures that a fault needs; give another seed")
    fully = next(tile for tile in known if tile != several)
    lacking = next(row for row in pair.exposures(several) if table["EFFTIME_SPEC"][row] > 0)
    pair.drop_from_source(lacking)
    for tile, how in ((fully, "fully"), (several, "partly"), (first + BLOCK - 27, "not")):
        for row in pair.exposures(tile):
            if table["EFFTIME_SPEC"][row] == 0:
                continue
            rule = f"last: EFFTIME_SPEC of exposures of a tile, {how} patchable"
            if how == "not" or row == lacking:
                pair.plant("exposures", row, "EFFTIME_SPEC", 0.0, rule, right=0.0)
            else:
                pair.plant("exposures", row, "EFFTIME_SPEC", 0.0, rule)


def _unchanged(columns: Columns) -> Columns:
    return columns


def write_pair(
    tree: Tree,
    *,
    source: str,
    destination: str,
    tiles: int,
    seed: int,
    loadable: Sequence[Tile] = (),
    observed: Array | None = None,
    adapt: Adapt = _unchanged,
) -> Pair:
    """Write the tiles and exposures files of two productions, and the record of the faults in the second.

    Parameters
    ----------
    tree : Tree
    source, destination : str
        Names of the productions.
    tiles : int
        Number of tiles, rounded up to a multiple of `BLOCK`: every rule is broken once in a block.
    seed : int
    loadable : sequence of Tile, optional
        Tiles that the destination has besides, without fault.
    observed : numpy structured array, optional
        Their exposures.
    adapt : callable, optional
        What is to be done to columns of the data model.

    Returns
    -------
    Pair

    Raises
    ------
    ConfigurationError
        If the two names are the same.
    """
    if source == destination:
        raise ConfigurationError("a production cannot be patched from itself")
    blocks = max(1, -(-tiles // BLOCK))
    if observed is None:
        observed = np.zeros(0, dtype=adapt(EXPOSURES).dtype)
    pair = _make_pair(_fault_tiles(blocks), list(loadable), observed, seed, adapt)
    for block in range(blocks):
        _plant_exposures(pair, block * BLOCK)
        _plant_frames(pair, block * BLOCK)
        _plant_tiles(pair, block * BLOCK)
    for name in ("exposures", "frames"):
        pair.source[name] = pair.source[name][~np.isin(pair.source[name]["EXPID"], pair.dropped)]
    for name, tables in ((source, pair.source), (destination, pair.destination)):
        redux = LAYOUTS["sample"].named(name).redux
        # Rows of the two files are in different orders.
        step = -1 if name == source else 1
        tree.text(redux / f"tiles-{name}.csv", csv_text(tables["tiles"][::step]))
        path = redux / f"exposures-{name}.fits"
        rows = np.ascontiguousarray(tables["exposures"][::step])
        tree.append(path, "EXPOSURES", rows, adapt(EXPOSURES), kind=f"exposures {name}")
        rows = np.ascontiguousarray(tables["frames"][::step])
        tree.append(path, "FRAMES", rows, adapt(FRAMES), kind=f"frames {name}")
        tree.close(path)
    path = LAYOUTS["sample"].named(destination).redux / f"tiles-{destination}.fits"
    tree.append(path, "TILES", pair.destination["tiles"], adapt(TILES), kind=f"tiles {destination}")
    tree.close(path)
    for night, expid, mjd in pair.spectra:
        _write_raw(tree, night, expid, mjd)
    record = [asdict(fault) for fault in pair.faults]
    tree.text(
        Path(FAULTS), json.dumps({"source": source, "destination": destination, "faults": record}, indent=1) + "\n"
    )
    return pair


def _write_raw(tree: Tree, night: int, expid: int, mjd: float) -> None:
    """Write raw data of an exposure: no more than the header from which its time is read."""
    path = Path("spectro/data") / f"{night:08d}" / f"{expid:08d}" / f"desi-{expid:08d}.fits.fz"
    (tree.root / path).parent.mkdir(parents=True, exist_ok=True)
    with open_writable(tree.root / path, new=True) as file:
        cards = [
            {"name": "MJD-OBS", "value": mjd},
            {"name": "NIGHT", "value": night},
            {"name": "EXPID", "value": expid},
        ]
        file.write(np.zeros((8, 8), dtype=np.int16), extname="SPEC", header=cards, compress="RICE")
    tree.files[path] = None
