"""The rules for tiles, and what tiles decide for their exposures and frames."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Column, Table

from specprod.errors import ValueRejectedError
from specprod.patch.columns import (
    Bools,
    Rows,
    is_text,
    masked,
    match_rows,
    name_rows,
    plain,
    require_columns,
    require_unique,
)
from specprod.patch.exposures import at_origin
from specprod.patch.report import Report, replace
from specprod.survey.identifiers import SURVEYS
from specprod.survey.programs import faflavor2program

__all__ = ["back_patch_inconsistent_values", "patch_tiles"]

UNKNOWN = "unknown"
# The goal of these two tiles is recorded nowhere else.
GOALTYPES = {83004: "dark", 83024: "bright"}
# The time recorded for these tiles is not of spectra that can be loaded.
NO_EFFTIME_SPEC = (1825, 21273)
# A column of CSV has the type that its cells suggest, and empty cells suggest numbers: these are not measured ones,
# whatever they look like.
_NOT_MEASURED = ("TILEID", "NEXP", "LASTNIGHT", "SURVEY", "PROGRAM", "FAPRGRM", "FAFLAVOR", "OBSSTATUS", "GOALTYPE")
_NEEDED = (
    "TILEID",
    "SURVEY",
    "PROGRAM",
    "FAPRGRM",
    "FAFLAVOR",
    "TILERA",
    "TILEDEC",
    "EFFTIME_SPEC",
    "OBSSTATUS",
    "GOALTYPE",
)
_BACK = ("SURVEY", "PROGRAM", "FAPRGRM", "FAFLAVOR", "GOALTYPE")


def patch_tiles(
    src_tiles: Table, dst_tiles: Table, timestamp: datetime.datetime, *, report: Report | None = None
) -> Table:
    """Patch wrong and missing values of tiles with those of another production.

    Parameters
    ----------
    src_tiles : astropy.table.Table
        Source of tiles data.
    dst_tiles : astropy.table.Table
        Data to be patched.
    timestamp : datetime.datetime
        Fill value for the UPDATED column, with a time zone.
    report : Report, optional
        Collects the changes, but not the new column.

    Returns
    -------
    astropy.table.Table
        A copy of `dst_tiles` with data replaced, and with the column UPDATED.

    Raises
    ------
    MissingColumnError
        If a column that the rules need is absent.
    ValueRejectedError
        If a TILEID is there twice, a survey has an unknown name, or a number is still not finite; the message names
        the tiles. Or if `timestamp` has no time zone.
    """
    if timestamp.utcoffset() is None:
        raise ValueRejectedError("the time of the patch has no time zone", column="UPDATED")
    require_columns(src_tiles, ("TILEID",), "source tiles")
    require_columns(dst_tiles, _NEEDED, "tiles to be patched")
    require_unique(src_tiles["TILEID"], "source tiles", "TILEID")
    require_unique(dst_tiles["TILEID"], "tiles to be patched", "TILEID")
    src_rows, dst_rows = match_rows(src_tiles["TILEID"], dst_tiles["TILEID"])
    patched = dst_tiles.copy()

    def take(column: str, wrong: Bools, rule: str) -> None:
        require_columns(src_tiles, (column,), "source tiles")
        chosen = np.flatnonzero(wrong[dst_rows])
        chosen = chosen[~_not_finite(src_tiles[column][src_rows[chosen]])]
        values = plain(src_tiles[column])[src_rows[chosen]]
        replace(patched, column, dst_rows[chosen], values, name="tiles", rule=rule, report=report, promote=True)

    def put_text(column: str, rows: Rows, text: str, rule: str) -> None:
        replace(patched, column, rows, np.full(rows.size, text), name="tiles", rule=rule, report=report, promote=True)

    nowhere = at_origin(dst_tiles)
    for column in ("TILERA", "TILEDEC"):
        take(column, nowhere, "TILERA and TILEDEC are 0")
    for column in ("FAPRGRM", "FAFLAVOR", "OBSSTATUS", "GOALTYPE"):
        take(column, is_text(dst_tiles[column], UNKNOWN), UNKNOWN)
    for column in _number_columns(dst_tiles):
        wrong = _not_finite(dst_tiles[column])
        if wrong.any():
            take(column, wrong, "not finite")

    program = faflavor2program(patched["FAFLAVOR"])
    every = np.arange(len(patched))
    replace(patched, "PROGRAM", every, program, name="tiles", rule="FAFLAVOR", report=report, promote=True)
    put_text("SURVEY", np.flatnonzero(is_text(patched["SURVEY"], UNKNOWN)), "cmx", "SURVEY is unknown")
    for tile, goaltype in GOALTYPES.items():
        put_text("GOALTYPE", np.flatnonzero(patched["TILEID"] == tile), goaltype, f"tile {tile}")
    put_text("GOALTYPE", np.flatnonzero(is_text(patched["GOALTYPE"], UNKNOWN)), "other", "GOALTYPE is unknown")
    rows = np.flatnonzero(np.isin(plain(patched["TILEID"]), NO_EFFTIME_SPEC))
    rule = "tiles 1825 and 21273 have none"
    replace(patched, "EFFTIME_SPEC", rows, np.zeros(rows.size), name="tiles", rule=rule, report=report)
    _check_tiles(patched)
    updated = timestamp.strftime("%Y-%m-%dT%H:%M:%S%z")
    patched["UPDATED"] = Column(np.full(len(patched), updated), name="UPDATED")
    return patched


def back_patch_inconsistent_values(
    patched: Mapping[str, Any], *, report: Report | None = None, copy: bool = True
) -> dict[str, Any]:
    """Copy what tiles decide back into the exposures and frames.

    Parameters
    ----------
    patched : mapping
        The patched tables ``tiles``, ``exposures`` and ``frames``; other entries are kept.
    report : Report, optional
        Collects the changes.
    copy : bool, optional
        False patches the tables that are given, which spares the memory of copies.

    Returns
    -------
    dict
        As `patched`, with new ``exposures`` and ``frames``: SURVEY, PROGRAM, FAPRGRM, FAFLAVOR and GOALTYPE are those
        of the tile in its exposures, and those of the exposure in its frames. A column that a table does not have is
        left out, as is a value that the tile or exposure does not have.

    Raises
    ------
    MissingColumnError
        If TILEID or EXPID is absent.
    ValueRejectedError
        If a TILEID of tiles or an EXPID of exposures is there twice.
    """
    result = dict(patched)
    for parent, child, key in (("tiles", "exposures", "TILEID"), ("exposures", "frames", "EXPID")):
        source, table = result[parent], result[child]
        require_columns(source, (key,), parent)
        require_columns(table, (key,), child)
        require_unique(source[key], parent, key)
        source_rows, rows = match_rows(source[key], table[key])
        table = table.copy() if copy else table
        for column in _BACK:
            if column in source.colnames and column in table.colnames:
                known = ~masked(source[column])[source_rows]
                values = plain(source[column])[source_rows[known]]
                replace(table, column, rows[known], values, name=child, rule=f"as in {parent}", report=report)
        result[child] = table
    return result


def _number_columns(tiles: Table) -> list[str]:
    """Names of the columns that hold measured numbers."""
    return [name for name in tiles.colnames if tiles[name].dtype.kind in "iuf" and name not in _NOT_MEASURED]


def _not_finite(column: Column) -> Bools:
    """Where a value is masked, NaN or infinite."""
    missing = masked(column)
    return missing | ~np.isfinite(plain(column)) if column.dtype.kind == "f" else missing


def _check_tiles(tiles: Table) -> None:
    """Raise if a survey is unknown or a number not finite."""
    tileid = plain(tiles["TILEID"])
    wrong = np.flatnonzero(~is_text(tiles["SURVEY"], *SURVEYS))
    if wrong.size:
        names = ", ".join(sorted({str(text) for text in tiles["SURVEY"][wrong].tolist()}))
        message = f"tiles: {names} is no survey, in {name_rows(wrong, tileid)}"
        raise ValueRejectedError(message, column="SURVEY", row=int(wrong[0]))
    for column in _number_columns(tiles):
        wrong = np.flatnonzero(_not_finite(tiles[column]))
        if wrong.size:
            message = f"tiles: still not finite after the patch, in {name_rows(wrong, tileid)}"
            raise ValueRejectedError(message, column=column, row=int(wrong[0]))
