"""Identifiers of the survey: pure functions of arrays, without input or output.

A 128-bit id is, as a scalar, a Python integer; as an array it has the dtype `INT128`, two unsigned 64-bit words,
because numpy has no integer of that width. `as_integers` and `as_decimal_text` turn such arrays into Python integers
and text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.errors import UnknownNameError, ValueRejectedError

__all__ = [
    "CAMERAS",
    "INT128",
    "PROGRAMS",
    "SPGRPS",
    "SURVEYS",
    "as_comparable",
    "as_decimal_text",
    "as_integers",
    "cameraid",
    "comparable",
    "date_obs",
    "decimal_digits",
    "decode_targetid",
    "desiname",
    "encode_targetid",
    "fiberassignid",
    "frameid",
    "int128",
    "is_sky",
    "lsid",
    "programid",
    "spgrpid",
    "surveyid",
    "targetphotid",
    "whole_numbers",
    "zpixid",
    "ztileid",
]

INT128 = np.dtype([("high", np.uint64), ("low", np.uint64)])

SURVEYS: Mapping[str, int] = {"cmx": 1, "special": 2, "sv1": 3, "sv2": 4, "sv3": 5, "main": 6}
# The extension programs dark1b and bright1b are newer than the other four.
PROGRAMS: Mapping[str, int] = {"backup": 1, "bright": 2, "dark": 3, "other": 4, "dark1b": 5, "bright1b": 6}
SPGRPS: Mapping[str, int] = {
    "1x_depth": 1,
    "4x_depth": 2,
    "cumulative": 3,
    "lowspeed": 4,
    "perexp": 5,
    "pernight": 6,
    "healpix": 7,
}
CAMERAS: Mapping[str, int] = {
    f"{band}{spectrograph}": 10 * index + spectrograph for index, band in enumerate("brz") for spectrograph in range(10)
}

# Position of the first bit and number of bits of the parts of a TARGETID.
TARGETID_BITS: Mapping[str, tuple[int, int]] = {
    "objid": (0, 22),
    "brickid": (22, 20),
    "release": (42, 16),
    "mock": (58, 1),
    "sky": (59, 1),
    "gaiadr": (60, 2),
}


def _codes(names: Any, table: Mapping[str, int], what: str) -> Any:
    """Replace names by their codes; a scalar gives an int, an array an int64 array of its shape."""
    values = np.asarray(names)
    if values.ndim == 0:
        name = values.item()
        name = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
        if name.strip() not in table:
            raise UnknownNameError(f"unknown {what} {name!r}; expected one of {', '.join(table)}", column=what)
        return table[name.strip()]
    # Names repeat: only the distinct ones are looked up. Texts of 8 bytes or less are compared as integers,
    # which is some ten times faster than comparing texts.
    if values.dtype.kind == "S" and 0 < values.dtype.itemsize <= 8:
        distinct, inverse = np.unique(values.astype("S8").view(np.uint64), return_inverse=True)
        distinct = distinct.view("S8")
    else:
        distinct, inverse = np.unique(values, return_inverse=True)
    codes = np.zeros(distinct.size, dtype=np.int64)
    for i, raw in enumerate(distinct.tolist()):
        name = raw.decode("ascii", "replace") if isinstance(raw, bytes) else str(raw)
        if name.strip() not in table:
            row = int(np.flatnonzero(inverse.ravel() == i)[0])
            raise UnknownNameError(f"unknown {what} {name!r}; expected one of {', '.join(table)}", column=what, row=row)
        codes[i] = table[name.strip()]
    return codes[inverse.ravel()].reshape(values.shape)


def surveyid(survey: npt.ArrayLike) -> Any:
    """Code of a survey.

    Parameters
    ----------
    survey : str or array_like of str
        cmx, special, sv1, sv2, sv3 or main.

    Returns
    -------
    int or numpy.ndarray of int64, shape of `survey`

    Raises
    ------
    UnknownNameError
        If a name is none of these. It is a `ValueError` and a `KeyError`.
    """
    return _codes(survey, SURVEYS, "survey")


def programid(program: npt.ArrayLike) -> Any:
    """Code of an observing program: backup, bright, dark, other, dark1b, bright1b; as `surveyid`."""
    return _codes(program, PROGRAMS, "program")


def spgrpid(spgrp: npt.ArrayLike) -> Any:
    """Code of a way of grouping spectra, such as cumulative or healpix; as `surveyid`."""
    return _codes(spgrp, SPGRPS, "spgrp")


def cameraid(camera: npt.ArrayLike) -> Any:
    """Code of a camera, 10 times the index of its arm in "brz" plus the spectrograph; as `surveyid`."""
    return _codes(camera, CAMERAS, "camera")


def frameid(expid: npt.ArrayLike, camera: npt.ArrayLike) -> Any:
    """Key of a frame: 100 expid + cameraid.

    Parameters
    ----------
    expid : int or array_like of int
        Exposure numbers.
    camera : str or array_like of str
        Cameras, b0 to z9.

    Returns
    -------
    int or numpy.ndarray of int64
    """
    number = 100 * np.asarray(expid, dtype=np.int64) + np.asarray(cameraid(camera), dtype=np.int64)
    return int(number) if number.ndim == 0 else number


def lsid(release: npt.ArrayLike, brickid: npt.ArrayLike, brick_objid: npt.ArrayLike) -> Any:
    """Legacy Surveys identifier of a source: release, brick and object number in one 64-bit integer.

    The bits are those of LS_ID in the Tractor catalogues: the object from bit 0, the brick from 16, the release from
    40.
    """
    number = (
        (np.asarray(release, dtype=np.int64) << 40)
        | (np.asarray(brickid, dtype=np.int64) << 16)
        | np.asarray(brick_objid, dtype=np.int64)
    )
    return int(number) if number.ndim == 0 else number


def int128(high: npt.ArrayLike, low: npt.ArrayLike) -> Any:
    """Join two 64-bit words, ``high << 64 | low``; negative words count as their two's complement.

    Returns
    -------
    int or numpy.ndarray of `INT128`
    """
    upper, lower = np.broadcast_arrays(
        np.asarray(high, dtype=np.int64).view(np.uint64), np.asarray(low, dtype=np.int64).view(np.uint64)
    )
    if upper.ndim == 0:
        return int(upper) << 64 | int(lower)
    number = np.empty(upper.shape, dtype=INT128)
    number["high"], number["low"] = upper, lower
    return number


def _high(upper: Any, lower: Any) -> npt.NDArray[np.int64]:
    return (np.asarray(upper, dtype=np.int64) << 32) | np.asarray(lower, dtype=np.int64)


def targetphotid(targetid: npt.ArrayLike, tileid: npt.ArrayLike, survey: npt.ArrayLike) -> Any:
    """Key of a target on a tile, ``surveyid << 96 | tileid << 64 | targetid``.

    Parameters
    ----------
    targetid, tileid : int or array_like of int
    survey : str or array_like of str

    Returns
    -------
    int or numpy.ndarray of `INT128`
    """
    return int128(_high(surveyid(survey), tileid), targetid)


def zpixid(targetid: npt.ArrayLike, survey: npt.ArrayLike, program: npt.ArrayLike) -> Any:
    """Key of a healpix redshift, ``programid << 96 | surveyid << 64 | targetid``; as `targetphotid`."""
    return int128(_high(programid(program), surveyid(survey)), targetid)


def ztileid(targetid: npt.ArrayLike, spgrp: npt.ArrayLike, spgrpval: npt.ArrayLike, tileid: npt.ArrayLike) -> Any:
    """Key of a tile redshift, ``(spgrpid << 27 | spgrpval) << 96 | tileid << 64 | targetid``; as `targetphotid`."""
    group = (np.asarray(spgrpid(spgrp), dtype=np.int64) << 27) | np.asarray(spgrpval, dtype=np.int64)
    return int128(_high(group, tileid), targetid)


def fiberassignid(targetid: npt.ArrayLike, tileid: npt.ArrayLike, location: npt.ArrayLike) -> Any:
    """Key of a target at a location on a tile, ``location << 96 | tileid << 64 | targetid``; as `targetphotid`."""
    return int128(_high(location, tileid), targetid)


def as_integers(numbers: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    """Turn an `INT128` array into an object array of Python integers."""
    joined = (numbers["high"].astype(object) << 64) | numbers["low"].astype(object)
    return np.asarray(joined, dtype=object)


def decimal_digits(numbers: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """Digits to the base 10,000 of 128-bit numbers, most significant first.

    Parameters
    ----------
    numbers : numpy.ndarray of `INT128`, shape (n,)

    Returns
    -------
    numpy.ndarray of int16, shape (n, 10)

    Notes
    -----
    Long division of four 32-bit limbs by 10**8: a remainder below 2**27 and a limb fit one 64-bit word. Each quotient
    has 26 bits less than the one before, so that soon its first limbs are zero.
    """
    base, four = np.uint64(10**8), np.uint32(10**4)
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    limbs = [numbers["high"] >> shift, numbers["high"] & mask, numbers["low"] >> shift, numbers["low"] & mask]
    digits = np.empty((numbers.size, 10), dtype=np.int16)
    for group, used in zip((4, 3, 2, 1, 0), (4, 4, 3, 2, 1), strict=True):
        limbs = limbs[-used:]
        remainder = np.zeros(numbers.size, dtype=np.uint64)
        for i, limb in enumerate(limbs):
            value = (remainder << shift) | limb
            # numpy divides by a constant several times as fast as it finds quotient and remainder at once.
            limbs[i] = value // base
            remainder = value - limbs[i] * base
        eight = remainder.astype(np.uint32)
        upper = eight // four
        digits[:, 2 * group], digits[:, 2 * group + 1] = upper, eight - upper * four
    return digits


_DIGITS = np.arange(10**4)[:, None] // (1000, 100, 10, 1) % 10
#: The texts of 0000 to 9999, each as one value, as that is copied fastest.
_FOUR_DIGITS = (_DIGITS + ord("0")).astype(np.uint8).view(np.uint32).ravel()


def as_decimal_text(numbers: npt.NDArray[Any]) -> npt.NDArray[np.bytes_]:
    """Decimal text of an `INT128` array of shape (n,), S39 with leading zeros: texts sort as the numbers do."""
    characters = _FOUR_DIGITS[decimal_digits(numbers)].view(np.uint8)
    return np.ascontiguousarray(characters[:, 1:]).view("S39").ravel()


def comparable(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give values in a form that numpy sorts and compares: 128-bit numbers as text, all others as they are."""
    return as_decimal_text(values) if values.dtype == INT128 else values


def as_comparable(numbers: Sequence[int], *, wide: bool) -> npt.NDArray[Any]:
    """Give Python's integers the form in which `comparable` gives such of 64 or, if `wide`, of 128 bits."""
    if wide:
        return np.array([b"%039d" % number for number in numbers], dtype="S39")
    return np.array(numbers, dtype=np.int64)


def whole_numbers(values: npt.ArrayLike, name: str) -> npt.NDArray[np.int64]:
    """Take values for 64-bit integers, which they must be.

    Parameters
    ----------
    values : array_like of int
    name : str
        What they are, for messages.

    Returns
    -------
    numpy.ndarray of int64, shape of `values`

    Raises
    ------
    ValueRejectedError
        If they are text or floating-point numbers, or one is missing or beyond the range.
    """
    array = np.ma.getdata(values)
    if not array.size:
        return np.zeros(array.shape, dtype=np.int64)
    if array.dtype.kind not in "iu":
        kind = {"f": "floating-point numbers", "S": "text", "U": "text", "b": "logical values"}
        found = kind.get(array.dtype.kind, str(array.dtype))
        raise ValueRejectedError(f"expected integers, found {found}", column=name)
    bad = np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else np.zeros(array.shape, dtype=np.bool_)
    if array.dtype.kind == "u" and array.dtype.itemsize == 8:
        bad = bad | (array > np.uint64(np.iinfo(np.int64).max))
    if bad.any():
        row = int(np.flatnonzero(bad.ravel())[0])
        raise ValueRejectedError("no value, or beyond 64 bits", column=name, row=row)
    return array.astype(np.int64)


def decode_targetid(targetid: npt.ArrayLike) -> dict[str, npt.NDArray[np.int64]]:
    """Parts of a TARGETID: objid, brickid, release, mock, sky, gaiadr, each int64 of the shape of `targetid`."""
    number = np.asarray(targetid, dtype=np.int64)
    return {name: (number >> first) & ((1 << width) - 1) for name, (first, width) in TARGETID_BITS.items()}


def encode_targetid(**parts: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Build a TARGETID of the parts that `decode_targetid` gives; parts that are not named are 0.

    Raises
    ------
    ValueRejectedError
        If a part does not fit its bits.
    """
    number = np.zeros((), dtype=np.int64)
    for name, value in parts.items():
        first, width = TARGETID_BITS[name]
        part = np.asarray(value, dtype=np.int64)
        if np.any((part < 0) | (part >= 1 << width)):
            raise ValueRejectedError(f"{name} of a TARGETID must be within 0 and {(1 << width) - 1}", column="TARGETID")
        number = number | (part << first)
    return number


def is_sky(targetid: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether a TARGETID is a blank sky position: negative or zero, or with the SKY bit (59) set."""
    number = whole_numbers(targetid, "TARGETID")
    return np.asarray((number <= 0) | ((number & (1 << 59)) != 0))


def date_obs(mjd: npt.ArrayLike) -> npt.NDArray[np.datetime64]:
    """Date and time of a modified Julian date, UTC.

    Parameters
    ----------
    mjd : array_like of float
        Modified Julian dates in days.

    Returns
    -------
    numpy.ndarray of datetime64[us]

    Notes
    -----
    MJD 40587 is 1970-01-01. The day and its fraction are converted apart, so that no precision is lost.
    """
    days = np.floor(np.asarray(mjd, dtype=np.float64))
    microseconds = np.rint((np.asarray(mjd, dtype=np.float64) - days) * 86_400_000_000).astype(np.int64)
    midnight = (days.astype(np.int64) - 40587).astype("datetime64[D]").astype("datetime64[us]")
    return np.asarray(midnight + microseconds.astype("timedelta64[us]"))


def desiname(target_ra: npt.ArrayLike, target_dec: npt.ArrayLike) -> npt.NDArray[np.bytes_]:
    """Names of objects after their position, ``DESI JRRR.rrrr±DD.dddd``.

    Parameters
    ----------
    target_ra, target_dec : array_like of float, shape (n,)
        ICRS position in degrees.

    Returns
    -------
    numpy.ndarray of S22, shape (n,)

    Notes
    -----
    Degrees are truncated to four decimals, after the IAU's rule for designations. The sign is that of the truncated
    integer, so that a declination of -0.00001 is written +00.0000.
    """
    ra = np.atleast_1d((np.asarray(target_ra, dtype=np.float64) * 10000).astype(np.int64))
    dec = np.atleast_1d((np.asarray(target_dec, dtype=np.float64) * 10000).astype(np.int64))
    text = np.empty((ra.size, 22), dtype=np.uint8)
    text[:] = np.frombuffer(b"DESI J000.0000+00.0000", dtype=np.uint8)
    for place, power in zip((6, 7, 8, 10, 11, 12, 13), (10**6, 10**5, 10**4, 1000, 100, 10, 1), strict=True):
        text[:, place] = ra // power % 10 + ord("0")
    text[:, 14] = np.where(dec < 0, ord("-"), ord("+"))
    for place, power in zip((15, 16, 18, 19, 20, 21), (10**5, 10**4, 1000, 100, 10, 1), strict=True):
        text[:, place] = np.abs(dec) // power % 10 + ord("0")
    return text.view("S22").ravel()
