"""The rules for exposures and frames."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.table import Table

from specprod.errors import FormatError, MissingHDUError, ValueRejectedError
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
    scalar_columns,
)
from specprod.patch.report import Report, Unpatched, replace
from specprod.survey.constants import FIRST_NIGHT
from specprod.survey.identifiers import SURVEYS, frameid

__all__ = ["patch_exposures", "patch_exposures_efftime_spec", "patch_frames", "patch_missing_frames_mjd"]

log = logging.getLogger(__name__)

# No exposure of the survey is older; smaller values stand for a time that is not known.
FIRST_MJD = 50000
# Columns of exposures that the source may fill in where they are masked.
FILLED = (
    *("NIGHT", "EXPID", "TILEID", "TILERA", "TILEDEC", "MJD", "SURVEY", "EXPTIME", "GOALTIME", "GOALTYPE", "MINTFRAC"),
    *("AIRMASS", "EBV", "SEEING_ETC", "EFFTIME_ETC", "TRANSPARENCY_GFA", "SEEING_GFA", "FIBER_FRACFLUX_GFA"),
    *("FIBER_FRACFLUX_ELG_GFA", "FIBER_FRACFLUX_BGS_GFA", "FIBERFAC_GFA", "FIBERFAC_ELG_GFA", "FIBERFAC_BGS_GFA"),
    *("AIRMASS_GFA", "SKY_MAG_AB_GFA", "EFFTIME_GFA", "EFFTIME_DARK_GFA", "EFFTIME_BRIGHT_GFA", "EFFTIME_BACKUP_GFA"),
)
# What the tiles table decides (`back_patch_inconsistent_values`), the rules for exposures leave as it is.
LEFT_TO_TILES = ("PROGRAM", "FAPRGRM", "FAFLAVOR")
_NEEDED = ("NIGHT", "EXPID", "TILEID", "TILERA", "TILEDEC", "MJD", "SURVEY", "EFFTIME_SPEC")


def patch_frames(src_frames: Table, dst_frames: Table, *, report: Report | None = None, copy: bool = True) -> Table:
    """Patch masked values of frames with those of the same exposure and camera in another production.

    Parameters
    ----------
    src_frames : astropy.table.Table
        Source of frames data.
    dst_frames : astropy.table.Table
        Data to be patched.
    report : Report, optional
        Collects the changes.
    copy : bool, optional
        False patches the table that is given, which spares the memory of a copy.

    Returns
    -------
    astropy.table.Table
        A copy of `dst_frames`: masked values of all columns but TSNR2_ALPHA come from the source where it has them;
        what stays masked is 0.

    Raises
    ------
    MissingColumnError
        If EXPID or CAMERA is absent.
    ValueRejectedError
        If a frame is there twice, or a camera has an unknown name.
    """
    keys = []
    for table, what in ((src_frames, "source frames"), (dst_frames, "frames to be patched")):
        require_columns(table, ("EXPID", "CAMERA"), what)
        keys.append(frameid(_plain_array(table["EXPID"]), _plain_array(table["CAMERA"])))
        require_unique(keys[-1], what, "EXPID, CAMERA")
    src_rows, dst_rows = match_rows(*keys)
    patched = dst_frames.copy() if copy else dst_frames
    for column in scalar_columns(dst_frames):
        if column in src_frames.colnames and column != "TSNR2_ALPHA":
            wrong = masked(patched[column])
            _take(patched, src_frames, column, wrong, src_rows, dst_rows, "frames", "masked", report)
        _fill(patched, column, "frames", report)
    return patched


def patch_exposures(
    src_exposures: Table,
    dst_exposures: Table,
    first_night: int | None = None,
    *,
    spectro_data: str | os.PathLike[str] | None = None,
    report: Report | None = None,
) -> Table:
    """Patch wrong and masked values of exposures with those of another production.

    Parameters
    ----------
    src_exposures : astropy.table.Table
        Source of exposures data.
    dst_exposures : astropy.table.Table
        Data to be patched.
    first_night : int, optional
        The earliest night, YYYYMMDD, of data that will ever be loaded; that of the first exposure of the source by
        default. Only from this night on a missing MJD is looked up in the raw data.
    spectro_data : path, optional
        Directory of the raw data; the environment variable DESI_SPECTRO_DATA by default.
    report : Report, optional
        Collects the changes, and the exposures whose MJD stays unknown.

    Returns
    -------
    astropy.table.Table
        A copy of `dst_exposures` with data replaced.

    Raises
    ------
    MissingColumnError
        If a column that the rules need is absent.
    ValueRejectedError
        If an EXPID is there twice.
    MissingHDUError, FormatError
        If a file of raw data is there but does not say when it was taken.
    """
    require_columns(src_exposures, ("NIGHT", "EXPID", "TILERA", "TILEDEC", "MJD", "SURVEY"), "source exposures")
    require_columns(dst_exposures, _NEEDED, "exposures to be patched")
    require_unique(src_exposures["EXPID"], "source exposures", "EXPID")
    require_unique(dst_exposures["EXPID"], "exposures to be patched", "EXPID")
    src_rows, dst_rows = match_rows(src_exposures["EXPID"], dst_exposures["EXPID"])
    patched = dst_exposures.copy()
    nowhere = at_origin(dst_exposures)
    wrong = {
        "TILERA": (nowhere, "TILERA and TILEDEC are 0"),
        "TILEDEC": (nowhere, "TILERA and TILEDEC are 0"),
        "MJD": (_before_survey(dst_exposures["MJD"]), f"MJD < {FIRST_MJD}"),
        "SURVEY": (~is_text(dst_exposures["SURVEY"], *SURVEYS), "not a survey"),
    }
    for column in scalar_columns(dst_exposures):
        if column in FILLED and column in src_exposures.colnames:
            # Masked first: blank text is not a survey either, but that it was masked says more.
            empty = masked(dst_exposures[column])
            _take(patched, src_exposures, column, empty, src_rows, dst_rows, "exposures", "masked", report)
        if column in wrong:
            rows, rule = wrong[column]
            rows = rows & ~masked(dst_exposures[column])
            _take(patched, src_exposures, column, rows, src_rows, dst_rows, "exposures", rule, report)
    _take_raw_mjd(patched, _first_night(src_exposures) if first_night is None else first_night, spectro_data, report)
    for column in scalar_columns(dst_exposures):
        if column not in LEFT_TO_TILES:
            _fill(patched, column, "exposures", report)
    return patched


def patch_missing_frames_mjd(
    exposures: Table, frames: Table, *, report: Report | None = None, copy: bool = True
) -> Table:
    """Update MJD values in `frames` after `exposures` has been patched.

    Parameters
    ----------
    exposures : astropy.table.Table
        Patched exposures table.
    frames : astropy.table.Table
        Patched frames table.
    report : Report, optional
        Collects the changes, and the frames whose MJD stays unknown.
    copy : bool, optional
        False patches the table that is given, which spares the memory of a copy.

    Returns
    -------
    astropy.table.Table
        A copy of `frames`, where MJD < 50000 is replaced by the MJD of the exposure.

    Raises
    ------
    MissingColumnError
        If EXPID or MJD is absent.
    ValueRejectedError
        If an EXPID is there twice in `exposures`.
    """
    require_columns(exposures, ("EXPID", "MJD"), "exposures")
    require_columns(frames, ("EXPID", "MJD"), "frames")
    require_unique(exposures["EXPID"], "exposures", "EXPID")
    exposure_rows, frame_rows = match_rows(exposures["EXPID"], frames["EXPID"])
    known = ~_before_survey(exposures["MJD"])[exposure_rows]
    wrong = _before_survey(frames["MJD"])
    patched = frames.copy() if copy else frames
    rule = f"MJD < {FIRST_MJD}"
    _take(patched, exposures, "MJD", wrong, exposure_rows[known], frame_rows[known], "frames", rule, report)
    left = np.flatnonzero(_before_survey(patched["MJD"]))
    if left.size:
        log.warning("%d frames still have no MJD, as their exposures have none", left.size)
        _leave(report, "frames", "MJD", "the exposure has no MJD", left)
    return patched


def patch_exposures_efftime_spec(
    src_exposures: Table, dst_exposures: Table, dst_tiles: Table, *, report: Report | None = None
) -> Table:
    """Patch exposures with ``EFFTIME_SPEC == 0`` where the corresponding tile has ``EFFTIME_SPEC > 0``.

    Parameters
    ----------
    src_exposures : astropy.table.Table
        Source of exposures data.
    dst_exposures : astropy.table.Table
        Patched exposures table.
    dst_tiles : astropy.table.Table
        Patched tiles table.
    report : Report, optional
        Collects the changes, and the exposures that the source cannot mend.

    Returns
    -------
    astropy.table.Table
        A copy of `dst_exposures`: the exposures of tiles with LASTNIGHT of at least 20201214 and EFFTIME_SPEC > 0,
        none of whose exposures has an EFFTIME_SPEC, have that of the source, where it has one. Whether these tiles
        are fully, partly or not patchable is logged.

    Raises
    ------
    MissingColumnError
        If a column that the rule needs is absent.
    ValueRejectedError
        If an EXPID or a TILEID is there twice.
    """
    require_columns(src_exposures, ("EXPID", "EFFTIME_SPEC"), "source exposures")
    require_columns(dst_exposures, ("EXPID", "TILEID", "EFFTIME_SPEC"), "exposures to be patched")
    require_columns(dst_tiles, ("TILEID", "LASTNIGHT", "EFFTIME_SPEC"), "tiles")
    require_unique(src_exposures["EXPID"], "source exposures", "EXPID")
    require_unique(dst_exposures["EXPID"], "exposures to be patched", "EXPID")
    require_unique(dst_tiles["TILEID"], "tiles", "TILEID")
    number = len(dst_tiles)
    tile_rows, exposure_rows = match_rows(dst_tiles["TILEID"], dst_exposures["TILEID"])
    zero = _numbers(dst_exposures["EFFTIME_SPEC"])[exposure_rows] == 0
    exposures_of = np.bincount(tile_rows, minlength=number)
    loadable = (_numbers(dst_tiles["LASTNIGHT"]) >= FIRST_NIGHT) & (_numbers(dst_tiles["EFFTIME_SPEC"]) > 0)
    wanted = loadable & (exposures_of > 0) & (np.bincount(tile_rows[zero], minlength=number) == exposures_of)
    wrong = np.zeros(len(dst_exposures), dtype=bool)
    wrong[exposure_rows[wanted[tile_rows]]] = True

    src_rows, dst_rows = match_rows(src_exposures["EXPID"], dst_exposures["EXPID"])
    # Of an exposure that came to nothing the source knows the time, and it is 0: that does not make a tile less
    # patchable, if another of its exposures has a time.
    known, positive = (np.zeros(len(dst_exposures), dtype=bool) for _ in range(2))
    known[dst_rows] = ~masked(src_exposures["EFFTIME_SPEC"])[src_rows]
    positive[dst_rows] = _numbers(src_exposures["EFFTIME_SPEC"])[src_rows] > 0
    all_known = np.bincount(tile_rows[known[exposure_rows]], minlength=number) == exposures_of
    mends = np.bincount(tile_rows[positive[exposure_rows]], minlength=number) > 0
    for what, chosen in (
        ("fully", wanted & mends & all_known),
        ("partly", wanted & mends & ~all_known),
        ("not", wanted & ~mends),
    ):
        if chosen.any():
            tiles = name_rows(np.flatnonzero(chosen), plain(dst_tiles["TILEID"]))
            log.info("EFFTIME_SPEC of the exposures of %d tiles is %s patchable: %s", chosen.sum(), what, tiles)
    patched = dst_exposures.copy()
    rule = "EFFTIME_SPEC is 0 in all exposures of the tile"
    _take(patched, src_exposures, "EFFTIME_SPEC", wrong, src_rows, dst_rows, "exposures", rule, report)
    left = wrong & ~positive
    left[exposure_rows] &= ~(known[exposure_rows] & mends[tile_rows])
    _leave(report, "exposures", "EFFTIME_SPEC", "the source has no EFFTIME_SPEC", np.flatnonzero(left))
    return patched


def at_origin(table: Table) -> Bools:
    """Where both TILERA and TILEDEC are 0: no position was recorded."""
    return np.asarray((_numbers(table["TILERA"], 1) == 0) & (_numbers(table["TILEDEC"], 1) == 0))


def _before_survey(mjd: Any) -> Bools:
    """Where an MJD is missing or before the survey."""
    return np.asarray(_numbers(mjd) < FIRST_MJD)


def _numbers(column: Any, missing: float = 0.0) -> npt.NDArray[Any]:
    """Values of a column of numbers, `missing` where they are masked or NaN."""
    if column.dtype.kind not in "iuf":
        if masked(column).all():
            return np.full(len(column), missing)
        raise ValueRejectedError(f"expected numbers, the column is {column.dtype.name}", column=column.name)
    return np.where(masked(column), missing, plain(column))


def _plain_array(column: Any) -> npt.NDArray[Any]:
    """Values of a key; a masked key is an error."""
    missing = np.flatnonzero(masked(column))
    if missing.size:
        raise ValueRejectedError("the key is missing", column=column.name, row=int(missing[0]))
    return plain(column)


def _take(
    patched: Table,
    source: Table,
    column: str,
    wrong: Bools,
    src_rows: Rows,
    dst_rows: Rows,
    name: str,
    rule: str,
    report: Report | None,
) -> None:
    """Take the values of matched rows that are wrong from the source, where it has a value."""
    chosen = np.flatnonzero(wrong[dst_rows])
    chosen = chosen[~masked(source[column][src_rows[chosen]])]
    values = plain(source[column])[src_rows[chosen]]
    replace(patched, column, dst_rows[chosen], values, name=name, rule=rule, report=report)


def _fill(patched: Table, column: str, name: str, report: Report | None) -> None:
    """Fill what is still masked with 0."""
    rows = np.flatnonzero(masked(patched[column]))
    zero = np.full(rows.size, "0" if patched[column].dtype.kind in "SU" else 0)
    replace(patched, column, rows, zero, name=name, rule="masked, filled with 0", report=report)


def _leave(report: Report | None, table: str, column: str, reason: str, rows: Rows) -> None:
    if report is not None and rows.size:
        report.unpatched.append(Unpatched(table, column, reason, rows))


def _first_night(src_exposures: Table) -> int:
    """Night of the first exposure of the source."""
    if not len(src_exposures):
        raise ValueRejectedError("the source has no exposure to tell its first night from", column="NIGHT")
    return int(src_exposures["NIGHT"][np.argmin(plain(src_exposures["EXPID"]))])


def _take_raw_mjd(
    patched: Table, first_night: int, spectro_data: str | os.PathLike[str] | None, report: Report | None
) -> None:
    """Take a missing MJD of exposures that will be loaded from the headers of their raw data."""
    unknown = _before_survey(patched["MJD"])
    sought = np.flatnonzero(
        unknown & (_numbers(patched["EFFTIME_SPEC"]) > 0) & (_numbers(patched["NIGHT"]) >= first_night)
    )
    directory = spectro_data or os.environ.get("DESI_SPECTRO_DATA")
    found: dict[int, float] = {}
    if directory is None and sought.size:
        log.error("MJD of %d exposures is missing and DESI_SPECTRO_DATA is not set: it stays unknown", sought.size)
    elif directory is not None:
        # One file an exposure, for the few whose MJD no production knows.
        for row in sought.tolist():
            mjd = _raw_mjd(Path(directory), int(patched["NIGHT"][row]), int(patched["EXPID"][row]))
            if mjd is not None:
                found[row] = mjd
    rows = np.array(list(found), dtype=np.int64)
    values = np.array(list(found.values()), dtype=np.float64)
    replace(patched, "MJD", rows, values, name="exposures", rule="MJD-OBS of the raw data", report=report)
    reason = "no raw data" if directory is not None else "no raw data, DESI_SPECTRO_DATA is not set"
    _leave(report, "exposures", "MJD", reason, np.setdiff1d(sought, rows))


def _raw_mjd(directory: Path, night: int, expid: int) -> float | None:
    """MJD-OBS of an exposure, None if its file is absent."""
    path = directory / f"{night:08d}" / f"{expid:08d}" / f"desi-{expid:08d}.fits.fz"
    try:
        with fits.open(path, mode="readonly") as hdus:
            if "SPEC" not in hdus:
                raise MissingHDUError("the raw data lack this HDU", file=path, hdu="SPEC")
            mjd = hdus["SPEC"].header.get("MJD-OBS")
    except FileNotFoundError:
        log.error("%s is absent: MJD of exposure %d stays unknown", path, expid)
        return None
    except OSError as error:
        raise FormatError(f"cannot be read: {error}", file=path) from error
    if isinstance(mjd, bool) or not isinstance(mjd, (int, float)) or not mjd >= FIRST_MJD:
        raise FormatError(f"MJD-OBS is {mjd}, expected a date of at least {FIRST_MJD}", file=path, hdu="SPEC")
    log.info("MJD-OBS of exposure %d is %s in %s", expid, mjd, path)
    return float(mjd)
