"""Columns of a binary table in FITS: where one stands in a row, and how its bytes become values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import FormatError, ValueRejectedError

__all__ = ["BinaryColumn", "binary_columns"]

_FORMS = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "A": "S", "E": ">f4", "D": ">f8"}
_WIDTHS = {"L": 1, "X": 0, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}


def _number(header: Mapping[str, Any], keyword: str, default: Any) -> Any:
    """Read a number of a header."""
    value = header.get(keyword)
    if value is None:
        return default
    if isinstance(value, str | bool) or not math.isfinite(value) or abs(value) > 1e300:
        raise FormatError(f"{keyword} is no number: {value!r}")
    return value


class BinaryColumn:
    """A column of a binary table.

    Parameters
    ----------
    name : str
    form : str
        Its TFORM.
    offset : int
        Byte of the row at which it begins.
    header : mapping
    number : int
        Number of the column in the header, from 1.

    Raises
    ------
    FormatError
    """

    def __init__(self, name: str, form: str, offset: int, header: Mapping[str, Any], number: int) -> None:
        match = re.fullmatch(r"\s*([0-9]*)([LXBIJKAEDCMPQ]).*", form)
        if match is None:
            raise FormatError(f"unknown TFORM{number} {form!r}", column=name)
        self.name = name
        self.offset = offset
        self.code = match[2]
        self.repeat = int(match[1] or 1)
        self.width = (self.repeat + 7) // 8 if self.code == "X" else self.repeat * _WIDTHS[self.code]
        self.scale = _number(header, f"TSCAL{number}", 1)
        self.zero = _number(header, f"TZERO{number}", 0)
        self.null = _number(header, f"TNULL{number}", None)

    @property
    def dtype(self) -> tuple[Any, ...] | str:
        """The numpy type of the bytes, with the shape of a vector."""
        if self.code not in _FORMS:
            return f"V{self.width}"
        if self.code == "A":
            return f"S{self.repeat}"
        return _FORMS[self.code] if self.repeat == 1 else (_FORMS[self.code], (self.repeat,))

    def values(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn the bytes into values: logicals, unsigned integers, scaled numbers, missing ones."""
        if self.code not in _FORMS or self.repeat == 0:
            if self.code == "A":
                return np.zeros(raw.shape, dtype="S1")
            raise ValueRejectedError(f"columns of the form {self.code} are not supported", column=self.name)
        if self.code in "LA" and (self.scale, self.zero) != (1, 0):
            what = "text" if self.code == "A" else "logical values"
            raise ValueRejectedError(f"TSCAL and TZERO have no meaning for {what}", column=self.name)
        if self.code == "L":
            return np.ma.masked_array(raw == b"T", mask=raw == b"") if (raw == b"").any() else np.asarray(raw == b"T")
        if self.code in "AED" and self.scale == 1 and self.zero == 0:
            return raw
        missing = None if self.null is None or self.code in "AED" else raw == self.null
        result = self._scaled(raw)
        return result if missing is None or not missing.any() else np.ma.masked_array(result, mask=missing)

    def _scaled(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.scale == 1 and self.zero == 0:
            return raw
        # FITS has no unsigned integers but bytes, and no signed bytes: by convention they are shifted by half their
        # range.
        if self.scale == 1 and self.code in "IJK" and self.zero == 1 << (8 * raw.dtype.itemsize - 1):
            bits = raw.astype(raw.dtype.newbyteorder("=")).view(f"u{raw.dtype.itemsize}")
            return np.asarray(bits ^ bits.dtype.type(self.zero))
        if self.scale == 1 and self.code == "B" and self.zero == -128:
            return np.asarray((raw ^ np.uint8(128)).view(np.int8))
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(raw.astype(np.float64) * float(self.scale) + float(self.zero))


def binary_columns(header: Mapping[str, Any], number: int) -> tuple[dict[str, BinaryColumn], int]:
    """Find the columns of a table.

    Parameters
    ----------
    header : mapping
    number : int
        How many columns there are.

    Returns
    -------
    columns : dict of str to BinaryColumn
    width : int
        Bytes of a row.

    Raises
    ------
    FormatError
    """
    columns: dict[str, BinaryColumn] = {}
    offset = 0
    for i in range(1, number + 1):
        name, form = header.get(f"TTYPE{i}"), header.get(f"TFORM{i}")
        for keyword, text in ((f"TTYPE{i}", name), (f"TFORM{i}", form)):
            if not isinstance(text, str) or not text.strip():
                raise FormatError(f"the header lacks {keyword!r}" if text is None else f"{keyword} is {text!r}")
        item = BinaryColumn(str(name).strip(), str(form), offset, header, i)
        if item.name in columns:
            raise FormatError(f"two columns are named {item.name}")
        columns[item.name] = item
        offset += item.width
    return columns, offset
