"""Values as rows: one parameter for any number of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.survey.identifiers import comparable

__all__ = ["as_rows", "stored"]


def stored(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give integers the form in which the tables have them: those of 128 bits are text of 39 digits."""
    shown = comparable(values)
    return shown.astype("U39") if shown.dtype.kind == "S" else shown.astype(np.int64)


def as_rows(values: npt.NDArray[Any]) -> tuple[str, tuple[str]]:
    """Make what stands behind FROM for the rows ``wanted (value)``, and its parameter."""
    shown = stored(values)
    texts = [f'"{text:0>39}"' if shown.dtype.kind == "U" else str(text) for text in shown.tolist()]
    return "json_each(?) AS wanted", (f"[{','.join(texts)}]",)
