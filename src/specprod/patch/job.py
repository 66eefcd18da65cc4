"""The job: read two productions, apply the rules in their order, write the patched files."""

from __future__ import annotations

import datetime
import logging
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specprod.errors import ConfigurationError, InputError
from specprod.files.literal import open_writable
from specprod.files.publishing import Publication, check_absent
from specprod.patch.exposures import (
    patch_exposures,
    patch_exposures_efftime_spec,
    patch_frames,
    patch_missing_frames_mjd,
)
from specprod.patch.files import get_data, production_files, write_csv, write_fits
from specprod.patch.report import Report, check_report_name, write_report
from specprod.patch.tiles import back_patch_inconsistent_values, patch_tiles

__all__ = ["PatchOptions", "apply_patches", "output_files", "patch_production"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatchOptions:
    """What to patch, and where the results go.

    Attributes
    ----------
    root : path or None
        What the survey calls DESI_ROOT.
    output : path
        Directory of the results; made when it is absent.
    src, dst : str
        Names of the production to take values from, and of that to patch.
    overwrite, dry_run : bool
        Replace files that are there; or write nothing but the report.
    report : path, optional
        Save the changes there, as CSV, ECSV or JSON by the extension.
    first_night : int, optional
        As in `patch_exposures`.
    spectro_data : path, optional
        As in `patch_exposures`.
    timestamp : datetime.datetime
        Time of the patch, with its zone: in UPDATED and, as a date, in the names of the files. Now by default.
    """

    root: Path | None
    output: Path
    src: str = "jura"
    dst: str = "daily"
    overwrite: bool = False
    dry_run: bool = False
    report: Path | None = None
    first_night: int | None = None
    spectro_data: Path | None = None
    timestamp: datetime.datetime = field(default_factory=lambda: datetime.datetime.now().astimezone())


def output_files(options: PatchOptions) -> dict[str, Path]:
    """Paths of the results: ``tiles``, ``exposures``, ``exposures_csv``, ``original_tiles``, ``original_exposures``."""
    day = options.timestamp.strftime("%Y%m%d")
    patched = f"{options.dst}-patched-with-{options.src}-{day}"
    original = f"{options.dst}-original-{day}"
    return {
        "tiles": options.output / f"tiles-{patched}.csv",
        "exposures": options.output / f"exposures-{patched}.fits",
        "exposures_csv": options.output / f"exposures-{patched}.csv",
        "original_tiles": options.output / f"tiles-{original}.csv",
        "original_exposures": options.output / f"exposures-{original}.fits",
    }


def apply_patches(src: dict[str, Any], dst: dict[str, Any], options: PatchOptions, report: Report) -> dict[str, Any]:
    """Apply all rules in their order.

    Parameters
    ----------
    src, dst : dict
        As `get_data` returns them. The frames, which are large, are taken out; those of `dst` are patched themselves.
    options : PatchOptions
    report : Report
        Collects the changes.

    Returns
    -------
    dict
        The patched ``tiles``, ``exposures`` and ``frames``.
    """
    # Frames are the bulk of the data: those of the source are given up as soon as they are used, the others not copied.
    patched = {"frames": patch_frames(src.pop("frames"), dst.pop("frames"), report=report, copy=False)}
    patched["exposures"] = patch_exposures(
        src["exposures"], dst["exposures"], options.first_night, spectro_data=options.spectro_data, report=report
    )
    patch_missing_frames_mjd(patched["exposures"], patched["frames"], report=report, copy=False)
    patched["tiles"] = patch_tiles(src["tiles"], dst["tiles"], options.timestamp, report=report)
    back_patch_inconsistent_values(patched, report=report, copy=False)
    patched["exposures"] = patch_exposures_efftime_spec(
        src["exposures"], patched["exposures"], patched["tiles"], report=report
    )
    return patched


def patch_production(options: PatchOptions) -> Report:
    """Patch the tiles and exposures files of a production.

    Parameters
    ----------
    options : PatchOptions

    Returns
    -------
    Report
        What changed, and what could not be patched.

    Raises
    ------
    ConfigurationError
        If an option is wrong or an output file exists; before any work.
    InputError
        If an input file is not what it should be, or changed meanwhile. No output file is written then.
    """
    outputs = output_files(options)
    _check_options(options, outputs)
    originals = production_files(options.root, options.dst)
    before = [_fingerprint(path) for path in originals]
    src, dst = get_data(options)
    report = Report()
    patched = apply_patches(src, dst, options, report)
    with Publication(options.overwrite) as publication:
        if options.report is not None:
            with publication.path(options.report).open("w", encoding="utf-8", newline="") as stream:
                write_report(report, stream, options.report.suffix)
        if not options.dry_run:
            options.output.mkdir(parents=True, exist_ok=True)
            _write(publication, outputs, originals, patched, report)
        # A production that is still being observed may grow at any time.
        for path, fingerprint in zip(originals, before, strict=True):
            if _fingerprint(path) != fingerprint:
                raise InputError("this file changed while it was patched: try again", file=path)
    return report


def _check_options(options: PatchOptions, outputs: dict[str, Path]) -> None:
    """Raise if what is asked for cannot be done, before any work."""
    if options.src == options.dst:
        raise ConfigurationError(f"source and destination are the same production, {options.src}")
    if options.timestamp.utcoffset() is None:
        raise ConfigurationError("the time of the patch has no time zone")
    if options.output.exists() and not options.output.is_dir():
        raise ConfigurationError(f"{options.output} is a file, expected a directory")
    if options.spectro_data is not None and not options.spectro_data.is_dir():
        raise ConfigurationError(f"{options.spectro_data} is not a directory of raw data")
    written = [] if options.dry_run else list(outputs.values())
    if options.report is not None:
        check_report_name(options.report)
        if not options.report.absolute().parent.is_dir():
            raise ConfigurationError(f"the directory of the report {options.report} is absent")
        if options.report.absolute() in [path.absolute() for path in written]:
            raise ConfigurationError(f"the report cannot be {options.report}, which is an output of the patch")
        written.append(options.report)
    check_absent(written, options.overwrite)


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _write(
    publication: Publication,
    outputs: dict[str, Path],
    originals: tuple[Path, Path],
    patched: dict[str, Any],
    report: Report,
) -> None:
    tiles, exposures = originals
    shutil.copy2(tiles, publication.path(outputs["original_tiles"]))
    shutil.copy2(exposures, publication.path(outputs["original_exposures"]))
    for name, table in (("tiles", "tiles"), ("exposures_csv", "exposures")):
        with publication.path(outputs[name]).open("w", encoding="utf-8", newline="") as text:
            write_csv(patched[table], text)
    hdus = {name: (patched[name.lower()], report.columns(name.lower())) for name in ("EXPOSURES", "FRAMES")}
    temporary = publication.path(outputs["exposures"])
    with temporary.open("wb") as stream:
        stale = write_fits(exposures, hdus, stream)
    for name in stale:
        with open_writable(temporary, new=False) as fits:
            fits[name].write_checksum()
    log.info("%s written", ", ".join(str(path) for path in outputs.values()))
