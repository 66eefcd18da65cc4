"""Tables of files that are rewritten, with some rows changed."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fitsio
import numpy as np

__all__ = ["altered", "read_csv", "science"]


def altered(path: Path, hdu: str, edit: Callable[[Any], Any]) -> None:
    """Rewrite a table of a file that has no other, with its rows changed, and what its header says of all rows."""
    with fitsio.FITS(str(path)) as file:
        rows, header = file[hdu].read(), file[hdu].read_header()
    kept = {name: header[name] for name in header if name in ("SURVEY", "PROGRAM")}
    fitsio.write(str(path), edit(rows), extname=hdu, header=kept, clobber=True)


def science(rows: Any) -> np.ndarray:
    """Indexes of the rows that are not sky."""
    targetid = rows["TARGETID"]
    return np.flatnonzero((targetid > 0) & ((targetid >> 59) & 1 == 0))


def read_csv(path: Path) -> list[dict[str, str]]:
    """Lines of a CSV file, such as one of rejects."""
    with path.open() as stream:
        return list(csv.DictReader(stream))
