"""Values as rows: one parameter for any number of them, a tenth of the time of adapting a list."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.survey.identifiers import comparable

__all__ = ["array_literal", "as_rows"]


def array_literal(values: npt.NDArray[Any]) -> str:
    """Write integers as the text of an array; it consists of digits, commas and braces only."""
    shown = comparable(values)
    if shown.dtype.kind == "S":
        return "{" + b",".join(shown.tolist()).decode("ascii") + "}"
    return "{" + ",".join(map(str, shown.astype(np.int64).tolist())) + "}"


def as_rows(values: npt.NDArray[Any]) -> tuple[str, tuple[str]]:
    """Make what stands behind FROM for the rows ``wanted (value)``, and its parameter."""
    kind = "numeric" if comparable(values).dtype.kind == "S" else "bigint"
    return f"unnest(CAST(%s AS {kind}[])) AS wanted(value)", (array_literal(values),)
