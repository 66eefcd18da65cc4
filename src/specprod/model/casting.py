"""Casts from the types of files to those of the database, which check ranges, lengths and names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from specprod.errors import UnknownNameError, ValueRejectedError

__all__ = ["REPLACEMENT", "Array", "Cast", "cast", "text_array", "text_lengths"]

Array: TypeAlias = npt.NDArray[Any]
Mask: TypeAlias = npt.NDArray[np.bool_]

#: What is stored in the place of NaN and infinity.
REPLACEMENT = -9999.0

_KINDS = {
    "i": "integers",
    "u": "integers",
    "f": "floating-point numbers",
    "b": "logical values",
    "S": "text",
    "U": "text",
}


def shortened(text: str, most: int = 60) -> str:
    """Cut a text off that is too long for a message."""
    return text if len(text) <= most else f"{text[:most]}…"


@dataclass
class Cast:
    """Values of the database's type, and which of them violate a rule.

    Attributes
    ----------
    values : numpy.ndarray
    bad : numpy.ndarray of bool or None
        None where all is well.
    reason : str
        What is wrong with the bad ones.
    nonfinite : int
        How many values were NaN or infinite and were replaced.
    error : class
        What the bad ones raise.
    """

    values: Array
    bad: Mask | None = None
    reason: str = ""
    nonfinite: int = 0
    error: type[ValueRejectedError] = ValueRejectedError

    def describe(self, source: Array) -> str:
        """Say what is wrong with the first bad value, and how many there are."""
        if self.bad is None:
            return ""
        value = np.ma.masked_array(source)[self.bad][0]
        shown = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        # What stands below a mask is no value of the file.
        found = "" if value is np.ma.masked else f": {shortened(str(shown))!r}"
        count = int(self.bad.sum())
        return f"{self.reason}{found}" + (f" (and {count - 1} more rows)" if count > 1 else "")


def text_array(value: str | npt.ArrayLike) -> Array:
    """Encode text as numpy bytes in UTF-8."""
    array = np.asarray(value)
    if array.dtype.kind == "U":
        if array.size == 0:
            return array.astype("S1")
        try:
            return array.astype("S")
        except UnicodeEncodeError:
            return np.char.encode(array, "utf-8")
    return array


def text_lengths(values: Array) -> npt.NDArray[np.int64]:
    """Lengths in bytes of texts, shape (n,), trailing NUL not counted."""
    return np.asarray(np.char.str_len(values), dtype=np.int64)


def cast(
    values: Any, dtype: np.dtype[Any], length: int | None, choices: Collection[str] | None, nan_zero: bool
) -> Cast:
    """Cast an array to the type of a column.

    Parameters
    ----------
    values : array_like, shape (n,)
        A numpy array or an astropy column, perhaps masked.
    dtype : numpy.dtype
        Type after `specprod.model.converting.database_dtype`.
    length : int, optional
        Longest text in characters.
    choices : collection of str, optional
        The only texts that are allowed.
    nan_zero : bool
        Whether NaN becomes zero.

    Returns
    -------
    Cast

    Raises
    ------
    ValueRejectedError
        If the column as a whole has a type that cannot become the database's.
    """
    mask = np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else None
    if mask is not None and not mask.any():
        mask = None
    array = np.ma.getdata(values) if np.ma.isMaskedArray(values) else np.asarray(values)
    if array.ndim != 1:
        raise ValueRejectedError(f"expected one value a row, found an array of shape {array.shape[1:]}")
    if dtype.kind == "i":
        result = _integer(array, dtype)
    elif dtype.kind == "f":
        result = _floating(array, dtype, mask, nan_zero)
        mask = None
    elif dtype.kind == "b":
        result = _boolean(array)
    elif dtype.kind == "S":
        result = _text(array, length, mask)
        mask = None
        if choices is not None and result.bad is None:
            allowed = np.isin(result.values, np.array([name.encode() for name in choices]))
            if not allowed.all():
                result.bad, result.reason = ~allowed, f"unknown name, expected one of {', '.join(choices)}"
                result.error = UnknownNameError
    else:
        raise ValueRejectedError(f"cannot be read as {dtype}")
    if mask is not None:
        other = None if result.bad is None else result.bad & ~mask
        result.bad = mask if other is None else other | mask
        result.reason = "no value" if other is None or not other.any() else f"no value, or {result.reason}"
    return result


def _wrong(array: Array, expected: str) -> ValueRejectedError:
    return ValueRejectedError(f"expected {expected}, found {_KINDS.get(array.dtype.kind, str(array.dtype))}")


def _integer(array: Array, dtype: np.dtype[Any]) -> Cast:
    if array.dtype.kind not in "iu":
        raise _wrong(array, "integers")
    if np.can_cast(array.dtype, dtype, "safe"):
        return Cast(array.astype(dtype))
    limits = np.iinfo(dtype)
    if array.size == 0 or (int(array.min()) >= limits.min and int(array.max()) <= limits.max):
        return Cast(array.astype(dtype))
    # Comparing in the wider of both types: a uint64 above the largest int64 must not wrap to a negative number.
    low = array < limits.min if array.dtype.kind == "i" else np.zeros(array.shape, dtype=np.bool_)
    bad = low | (array > array.dtype.type(limits.max))
    return Cast(array.astype(dtype), bad, f"beyond the range of the column, {limits.min} to {limits.max}")


def _floating(array: Array, dtype: np.dtype[Any], mask: Mask | None, nan_zero: bool) -> Cast:
    if array.dtype.kind not in "fiu":
        raise _wrong(array, "floating-point numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        values = array.astype(dtype)
    if mask is not None:
        values[mask] = np.nan
    finite = np.isfinite(values)
    if finite.all():
        return Cast(values)
    result = Cast(values)
    if array.dtype.kind == "f" and array.dtype.itemsize > dtype.itemsize:
        lost = np.isinf(values) & np.isfinite(array)
        if lost.any():
            result.bad, result.reason = lost, f"beyond the range of the column, ±{np.finfo(dtype).max:g}"
    if nan_zero:
        values[np.isnan(values)] = 0
        finite = np.isfinite(values)
    values[~finite] = REPLACEMENT
    result.nonfinite = int(values.size - finite.sum() - (0 if result.bad is None else result.bad.sum()))
    return result


def _boolean(array: Array) -> Cast:
    if array.dtype.kind == "b":
        return Cast(array.astype(np.bool_))
    if array.dtype.kind not in "iu":
        raise _wrong(array, "logical values")
    bad = (array != 0) & (array != 1)
    return Cast(array != 0, bad, "neither 0 nor 1") if bad.any() else Cast(array != 0)


def _text(array: Array, length: int | None, mask: Mask | None) -> Cast:
    if array.dtype.kind not in "SU":
        raise _wrong(array, "text")
    # A copy of our own: blanks and masked values are overwritten below.
    encoded = text_array(array)
    width = max(encoded.dtype.itemsize, 1)
    values = np.array(encoded, dtype=f"S{width}", order="C")
    if values.size == 0:
        return Cast(values)
    if mask is not None:
        values[mask] = b""
    letters = values.view(np.uint8).reshape(values.size, width)
    visible = (letters != 0) & (letters != ord(" "))
    ends = np.where(visible.any(axis=1), width - np.argmax(visible[:, ::-1], axis=1), 0)
    inside = np.arange(width) < ends[:, None]
    letters[~inside] = 0
    if (inside & (letters == 0)).any():
        return Cast(values, (inside & (letters == 0)).any(axis=1), "text with a NUL character")
    if letters.max() >= 128:
        return _wide_text(values, length)
    longest = int(ends.max())
    if length is not None and longest > length:
        return Cast(values, ends > length, f"text longer than the {length} characters of the column")
    # Narrow columns are faster to pack; one byte at least, as numpy has no text of none.
    return Cast(values.astype(f"S{max(longest, 1)}") if longest < width else values)


def _wide_text(values: Array, length: int | None) -> Cast:
    """Check text with characters beyond ASCII: it must be UTF-8, and characters count, not bytes."""
    try:
        decoded = np.char.decode(values, "utf-8")
    except UnicodeDecodeError:
        bad = np.array([not _is_utf8(value) for value in values.tolist()])
        return Cast(values, bad, "text that is neither ASCII nor UTF-8")
    longer = np.char.str_len(decoded) > (length or np.iinfo(np.int64).max)
    return (
        Cast(values, longer, f"text longer than the {length} characters of the column")
        if longer.any()
        else Cast(values)
    )


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
