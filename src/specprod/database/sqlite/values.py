"""Values as rows: one parameter for any number of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.survey.identifiers import comparable

__all__ = ["as_rows"]


def as_rows(values: npt.NDArray[Any]) -> tuple[str, tuple[str]]:
    """Make what stands behind FROM for the rows ``wanted (value)``, and its parameter."""
    shown = comparable(values)
    if shown.dtype.kind == "S":
        texts = [f'"{text:0>39}"' for text in shown.astype("U39").tolist()]
    else:
        texts = list(map(str, shown.astype(np.int64).tolist()))
    return "json_each(?) AS wanted", (f"[{','.join(texts)}]",)
