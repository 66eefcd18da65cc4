"""Reading of sample trees for tests, by fitsio alone."""

from __future__ import annotations

import re
from pathlib import Path

import fitsio
import numpy as np

SKY_BIT = 1 << 59


def read(root: Path, pattern: str, hdu: str) -> list[np.ndarray]:
    files = sorted(root.rglob(pattern))
    assert files, pattern
    return [fitsio.read(str(path), ext=hdu) for path in files]


def common(tables: list[np.ndarray], *names: str) -> np.ndarray:
    return np.concatenate([np.rec.fromarrays([t[n] for n in names], names=list(names)) for t in tables])


def objects(table: np.ndarray) -> np.ndarray:
    return table[(table["TARGETID"] > 0) & (table["TARGETID"] & SKY_BIT == 0)]


def fits_columns(path: Path, hdu: str) -> dict[str, tuple[str, int, str]]:
    with fitsio.FITS(str(path)) as file:
        header = file[hdu].read_header()
    found = {}
    for i in range(1, header["TFIELDS"] + 1):
        repeat, code = re.fullmatch(r"(\d*)(\w)", header[f"TFORM{i}"].strip()).groups()
        found[header[f"TTYPE{i}"].strip()] = (code, int(repeat or 1), header.get(f"TUNIT{i}", "").strip())
    return found
