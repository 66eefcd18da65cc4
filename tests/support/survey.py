"""A survey of many rows, made up as columns and written by the bulk writers: enough for a planner to choose."""

from __future__ import annotations

from typing import Any

import numpy as np

from specprod.database import Database
from specprod.database.keys import add_foreign_keys, build_indexes
from specprod.load import Exposure, Fiberassign, Photometry, Target, Tile, Zpix, Ztile
from specprod.model import table_of
from specprod.model.converting import database_dtype
from specprod.survey.identifiers import fiberassignid, targetphotid, zpixid, ztileid

__all__ = ["FIBERS", "TILES", "fill"]

TILES = 400
FIBERS = 60
_ROWS = TILES * FIBERS


def fill(database: Database) -> None:
    """Fill the tables of a database, with its keys, indexes and statistics."""
    random = np.random.default_rng(11)
    tiles = np.arange(1, TILES + 1)
    survey = np.array(["main", "sv1", "sv2", "sv3", "special", "cmx"])
    program = np.array(["dark", "bright", "backup", "other"])
    of_tile = {
        "survey": survey[random.choice(6, TILES, p=[0.92, 0.01, 0.01, 0.03, 0.02, 0.01])],
        "program": program[random.choice(4, TILES, p=[0.6, 0.33, 0.05, 0.02])],
        "tilera": random.uniform(0, 360, TILES),
        "tiledec": np.degrees(np.arcsin(random.uniform(-0.3, 1, TILES))),
    }
    _write(database, Tile, {"tileid": tiles, **of_tile})
    expid = np.arange(1, 5 * TILES + 1)
    nights = 20210514 + expid // 40
    of_exposure = {name: np.repeat(of_tile[name], 5) for name in ("tilera", "tiledec")}
    _write(database, Exposure, {"expid": expid, "tileid": np.repeat(tiles, 5), "night": nights, **of_exposure})

    # A tenth of the targets is on three tiles.
    targetid = 39627641351079036 + np.arange(_ROWS)
    again = np.arange(_ROWS) % 10 == 0
    targetid[again] = np.repeat(targetid[again][::3], 3)[: again.sum()]
    tileid = np.tile(tiles, FIBERS)
    location = np.repeat(np.arange(FIBERS) * 83, TILES)
    names = {name: np.tile(of_tile[name], FIBERS) for name in ("survey", "program")}
    ra = (np.tile(of_tile["tilera"], FIBERS) + random.normal(0, 0.8, _ROWS)) % 360
    dec = np.clip(np.tile(of_tile["tiledec"], FIBERS) + random.normal(0, 0.8, _ROWS), -90, 90)
    common = {"targetid": targetid, "tileid": tileid}
    bits = {"desi_target": 1 << random.integers(0, 12, _ROWS)}
    key = {"id": targetphotid(targetid, tileid, names["survey"])}
    _write(database, Target, {**key, **common, **names, **bits, "hpxpixel": random.integers(0, 49152, _ROWS)})
    key = {"id": fiberassignid(targetid, tileid, location), "location": location}
    _write(database, Fiberassign, {**key, **common, "target_ra": ra, "target_dec": dec})

    kind = random.choice(3, _ROWS, p=[0.7, 0.15, 0.15])
    z = np.choose(kind, [random.uniform(0, 1.6, _ROWS), random.uniform(0.3, 4.9, _ROWS), random.normal(0, 1e-3, _ROWS)])
    fit = {
        "z": z,
        "zwarn": np.where(random.random(_ROWS) < 0.86, 0, random.integers(1, 400, _ROWS)),
        "spectype": np.array(["GALAXY", "QSO", "STAR"])[kind],
        "subtype": np.where(kind == 2, np.array(["A", "B", "G", "K"])[random.integers(0, 4, _ROWS)], ""),
        "mean_fiber_ra": ra,
        "mean_fiber_dec": dec,
        "zcat_primary": np.ones(_ROWS, dtype=bool),
        "main_primary": names["survey"] == "main",
        "desiname": np.char.add("DESI ", targetid.astype(str)),
    }
    last = {"spgrp": np.full(_ROWS, "cumulative"), "spgrpval": 20210514 + tileid // 8}
    key = {"id": ztileid(targetid, last["spgrp"], last["spgrpval"], tileid)}
    key["targetphotid"] = targetphotid(targetid, tileid, names["survey"])
    _write(database, Ztile, {**key, **common, **names, **last, **fit})

    _, first = np.unique(targetid, return_index=True)
    _write(database, Photometry, {"targetid": targetid[first], "ra": ra[first], "dec": dec[first]})
    pixel = random.integers(0, 49152, _ROWS)
    columns = {**names, **fit, "healpix": pixel, "spgrpval": pixel, "spgrp": np.full(_ROWS, "healpix")}
    columns |= {"targetid": targetid, "id": zpixid(targetid, names["survey"], names["program"])}
    _write(database, Zpix, {name: values[first] for name, values in columns.items()})
    for cls in (Tile, Exposure, Photometry, Target, Fiberassign, Zpix, Ztile):
        build_indexes(database, cls)
        add_foreign_keys(database, cls)


def _write(database: Database, cls: Any, values: dict[str, Any]) -> None:
    columns = {}
    for item in table_of(cls).columns:
        dtype = database_dtype(item)
        given = values.get(item.name)
        size = len(next(iter(values.values())))
        if given is None:
            columns[item.name] = np.zeros(size, dtype="S1" if dtype.kind == "S" else dtype)
        else:
            columns[item.name] = given if dtype.names else np.asarray(given).astype(dtype)
    writer = database.writer(cls)
    with database.begin(check_references=False) as connection:
        writer.append(connection, [writer.prepare(columns)])
