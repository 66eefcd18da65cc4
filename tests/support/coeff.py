"""Catalogues of a sample tree, and the files of a patch made of them, for tests of the coefficient fix."""

from __future__ import annotations

from pathlib import Path

import fitsio
import numpy as np

from sample_files import objects
from specprod.cli.main import main

CATALOGUES = {"zpix": "zall-pix-sample", "ztile": "zall-tilecumulative-sample"}
PROGRAMS = {"backup": 1, "bright": 2, "dark": 3, "other": 4, "dark1b": 5, "bright1b": 6}
SURVEYS = {"cmx": 1, "special": 2, "sv1": 3, "sv2": 4, "sv3": 5, "main": 6}
COEFFICIENTS = [f"coeff_{i}" for i in range(10)]


def read_catalogues(root: Path) -> dict[str, np.ndarray]:
    """Rows of the catalogues that are not sky, by table."""
    found = {table: next(root.rglob(f"{name}.fits")) for table, name in CATALOGUES.items()}
    return {table: objects(fitsio.read(str(path), ext="ZCATALOG")) for table, path in found.items()}


def extract(root: Path, directory: Path) -> list[str]:
    """Make the files of a patch, and return their names in the order of the tables."""
    assert main(["coeff-fix", "extract", str(root), "--specprod", "sample", "--output", str(directory)]) == 0
    return [str(directory / f"{name}-coeff-patch.fits") for name in CATALOGUES.values()]


def truth(catalogue: np.ndarray, table: str) -> dict[int, list[float]]:
    """Coefficients by id, after the rules of the catalogue."""
    found = {}
    for row in catalogue:
        survey, program = (str(row[name]).strip() for name in ("SURVEY", "PROGRAM"))
        if table == "zpix":
            key = PROGRAMS[program] << 96 | SURVEYS[survey] << 64 | int(row["TARGETID"])
        else:
            group = 3 << 27 | int(row["SPGRPVAL"])
            key = group << 96 | int(row["TILEID"]) << 64 | int(row["TARGETID"])
        found[key] = row["COEFF"].tolist()
    return found
