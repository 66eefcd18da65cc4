"""Time and memory of ``specprod-load patch`` on productions of the size of the survey.

    python bench/patch.py

Writes two productions of 40,000 exposures, 1.2 million frames and 15,000 tiles, some values of one of them wrong, to a
temporary directory (1.5 GB with the results), patches one from the other by the command, and for comparison reads and
writes the same files with astropy alone. Each runs in a process of its own, whose memory is its peak resident size.
Exit status 1 if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from measuring import measure

SECONDS, MEGABYTES = 20.0, 1000.0
FLOATS = (
    *("EXPTIME", "EFFTIME_SPEC", "GOALTIME", "MINTFRAC", "SEEING_ETC", "EFFTIME_ETC", "TSNR2_ELG", "TSNR2_QSO"),
    *("TSNR2_LRG", "TSNR2_LYA", "TSNR2_BGS", "TSNR2_GPBDARK", "TSNR2_GPBBRIGHT", "TSNR2_GPBBACKUP"),
    *("LRG_EFFTIME_DARK", "ELG_EFFTIME_DARK", "BGS_EFFTIME_BRIGHT", "LYA_EFFTIME_DARK", "GPB_EFFTIME_DARK"),
    *("GPB_EFFTIME_BRIGHT", "GPB_EFFTIME_BACKUP", "TRANSPARENCY_GFA", "SEEING_GFA", "FIBER_FRACFLUX_GFA"),
    *("FIBER_FRACFLUX_ELG_GFA", "FIBER_FRACFLUX_BGS_GFA", "FIBERFAC_GFA", "FIBERFAC_ELG_GFA", "FIBERFAC_BGS_GFA"),
    *("AIRMASS_GFA", "SKY_MAG_AB_GFA", "SKY_MAG_G_SPEC", "SKY_MAG_R_SPEC", "SKY_MAG_Z_SPEC", "EFFTIME_GFA"),
    *("EFFTIME_DARK_GFA", "EFFTIME_BRIGHT_GFA", "EFFTIME_BACKUP_GFA"),
)
FRAME_FLOATS = (
    "SEEING_ETC",
    "EFFTIME_ETC",
    *(name for name in FLOATS if name.startswith("TSNR2")),
    "MINTFRAC",
    "GOALTIME",
)

ASTROPY = """
import shutil, sys
from pathlib import Path
from astropy.io import fits
from astropy.table import Table
root, output = Path(sys.argv[1]), Path(sys.argv[2])
for name in ("jura", "daily"):
    redux = root / "spectro" / "redux" / name
    tiles = Table.read(redux / f"tiles-{name}.csv", format="ascii.csv")
    exposures = Table.read(redux / f"exposures-{name}.fits", hdu="EXPOSURES")
    frames = Table.read(redux / f"exposures-{name}.fits", hdu="FRAMES")
shutil.copy2(redux / "tiles-daily.csv", output / "original.csv")
shutil.copy2(redux / "exposures-daily.fits", output / "original.fits")
tiles.write(output / "tiles.csv", format="ascii.csv")
exposures.write(output / "exposures.csv", format="ascii.csv")
hdus = [fits.PrimaryHDU(), fits.table_to_hdu(exposures), fits.table_to_hdu(frames)]
fits.HDUList(hdus).writeto(output / "exposures.fits")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exposures", type=int, default=40_000, help="number of exposures, of 30 frames each")
    parser.add_argument("--tiles", type=int, default=15_000)
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many runs counts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for specprod in ("jura", "daily"):
            write_production(root, specprod, arguments.exposures, arguments.tiles)
        (root / "patched").mkdir()
        command = [sys.executable, "-m", "specprod.cli.main", "patch", str(root), str(root / "patched"), "--overwrite"]
        report = ["--report", str(root / "report.csv")]
        runs: dict[str, list[tuple[float, float]]] = {"astropy": [], "patch": [], "with report": []}
        for _ in range(arguments.repeat):
            with tempfile.TemporaryDirectory() as output:
                runs["astropy"].append(measure([sys.executable, "-c", ASTROPY, str(root), output]))
            runs["patch"].append(measure(command))
            runs["with report"].append(measure([*command, *report]))
    print(f"{arguments.exposures} exposures, {30 * arguments.exposures} frames, {arguments.tiles} tiles")
    best = {name: (min(t for t, _ in values), max(m for _, m in values)) for name, values in runs.items()}
    for name, (seconds, memory) in best.items():
        ratio = seconds / best["astropy"][0]
        print(f"{name:12} {seconds:6.2f} s, {ratio:5.2f} times reading and writing, peak {memory:6.0f} MB")
    passed = all(
        seconds < SECONDS and memory < MEGABYTES for name, (seconds, memory) in best.items() if name != "astropy"
    )
    print(f"limits {SECONDS:.0f} s, {MEGABYTES:.0f} MB: {'kept' if passed else 'exceeded'}")
    return 0 if passed else 1


def frames_of(exposure: Table, numbers: Callable[..., np.ndarray]) -> Table:
    """The 30 frames of each exposure."""
    of = np.repeat(np.arange(len(exposure)), 30)
    frame = Table({name: exposure[name][of] for name in ("NIGHT", "EXPID", "TILEID", "TILERA", "TILEDEC", "MJD")})
    for name in ("EXPTIME", "AIRMASS", "EBV", "TSNR2_ALPHA"):
        frame[name] = numbers(len(of), np.float32)
    cameras = np.array([f"{band}{spectrograph}" for band in "brz" for spectrograph in range(10)], dtype="S2")
    frame["CAMERA"] = np.tile(cameras, len(exposure))
    for name in ("SURVEY", "GOALTYPE", "FAPRGRM", "FAFLAVOR"):
        frame[name] = exposure[name][of]
    for name in FRAME_FLOATS:
        frame[name] = numbers(len(of))
    return frame


def write_production(root: Path, specprod: str, exposures: int, tiles: int) -> None:
    """Write tiles and exposures files; those of daily with faults in some rows of many columns."""
    random = np.random.default_rng(20201214)
    faulty = specprod == "daily"
    directory = root / "spectro" / "redux" / specprod
    directory.mkdir(parents=True)

    def numbers(size: int, dtype: type = np.float64) -> np.ndarray:
        values = random.uniform(1, 1000, size).astype(dtype)
        if faulty:
            values[random.integers(0, size, size // 100)] = np.nan
        return values

    tile = Table({"TILEID": np.arange(1, tiles + 1)})
    flavors = np.array(["maindark", "mainbright", "mainbackup", "maindark1b", "mainbright1b"])
    programs = np.array(["dark", "bright", "backup", "dark1b", "bright1b"])
    kind = np.arange(tiles) % 5
    tile["SURVEY"] = np.full(tiles, "main")
    tile["PROGRAM"] = programs[kind]
    tile["FAPRGRM"] = programs[kind]
    tile["FAFLAVOR"] = flavors[kind]
    tile["NEXP"] = np.full(tiles, 3)
    for name in ("EXPTIME", "TILERA", "TILEDEC", "EFFTIME_ETC", "EFFTIME_SPEC", "EFFTIME_GFA", "GOALTIME"):
        tile[name] = np.round(random.uniform(1, 90, tiles), 3)
    tile["OBSSTATUS"] = np.full(tiles, "obsend")
    for name in ("LRG_EFFTIME_DARK", "ELG_EFFTIME_DARK", "BGS_EFFTIME_BRIGHT", "LYA_EFFTIME_DARK"):
        tile[name] = np.round(random.uniform(1, 90, tiles), 1)
    tile["GOALTYPE"] = programs[kind]
    tile["MINTFRAC"] = np.full(tiles, 0.9)
    tile["LASTNIGHT"] = 20210101 + np.arange(tiles) % 28

    which = np.arange(exposures) % tiles
    exposure = Table()
    exposure["NIGHT"] = tile["LASTNIGHT"][which].astype(np.int32)
    exposure["EXPID"] = np.arange(70_000, 70_000 + exposures, dtype=np.int32)
    exposure["TILEID"] = tile["TILEID"][which].astype(np.int32)
    exposure["TILERA"], exposure["TILEDEC"] = tile["TILERA"][which], tile["TILEDEC"][which]
    exposure["MJD"] = 59215.0 + np.arange(exposures) / 1000
    for name, width in (("SURVEY", 7), ("PROGRAM", 8), ("FAPRGRM", 16), ("FAFLAVOR", 19), ("GOALTYPE", 8)):
        exposure[name] = np.asarray(tile[name])[which].astype(f"S{width}")
    exposure["AIRMASS"] = numbers(exposures, np.float32)
    exposure["EBV"] = numbers(exposures, np.float32)
    for name in FLOATS:
        exposure[name] = numbers(exposures)

    frame = frames_of(exposure, numbers)
    if faulty:
        tile["TILERA"][::100] = tile["TILEDEC"][::100] = 0
        tile["FAFLAVOR"][1::100] = "unknown"
        exposure["MJD"][::100] = 0
        exposure["TILERA"][::50] = exposure["TILEDEC"][::50] = 0
        exposure["SURVEY"][::70] = b"unknown"
        frame["MJD"][::300] = 0
    tile.write(directory / f"tiles-{specprod}.csv", format="ascii.csv")
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU(exposure, name="EXPOSURES"), fits.BinTableHDU(frame, name="FRAMES")]
    fits.HDUList(hdus).writeto(directory / f"exposures-{specprod}.fits")


if __name__ == "__main__":
    sys.exit(main())
