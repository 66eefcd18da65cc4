"""Observing program of a tile, derived from the flavour of its fiber assignment."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["faflavor2program"]

_DARK_FLAVORS = frozenset({"cmxelg", "cmxlrgqso", "sv1elg", "sv1elgqso", "sv1lrgqso", "sv1lrgqso2"})
# Tertiary programs are numbered; these were observed in dark time, and in bright time.
_DARK_TERTIARY = frozenset({1, 2, 4, 5, 7, 9, 11, *range(14, 19), 21, 23, *range(25, 28), 31, 35, 37, 38, 40, 41})
_BRIGHT_TERTIARY = frozenset({3, 6, 8, 10, 12, 13, 19, 20, 22, 24, *range(28, 31), *range(32, 35), 36, 39})
_TERTIARY = re.compile(r"specialtertiary([1-9][0-9]*)")


def _program(flavor: str) -> str:
    """Program of one flavour."""
    tertiary = _TERTIARY.fullmatch(flavor)
    number = int(tertiary[1]) if tertiary else 0
    if flavor.endswith(("dark1b", "bright1b")):
        return "dark1b" if flavor.endswith("dark1b") else "bright1b"
    if flavor == "sv1backup1" or flavor.endswith("backup"):
        return "backup"
    if flavor == "sv1bgsmws" or number in _BRIGHT_TERTIARY:
        return "bright"
    if flavor.endswith("bright") and flavor != "sv1unwisebluebright":
        return "bright"
    if flavor in _DARK_FLAVORS or flavor in {"specialm31", "specialodin"} or number in _DARK_TERTIARY:
        return "dark"
    return "dark" if flavor.endswith("dark") else "other"


def faflavor2program(faflavor: npt.ArrayLike) -> Any:
    """Program of a FAFLAVOR: backup, bright, bright1b, dark, dark1b or other.

    Parameters
    ----------
    faflavor : str, bytes or array_like of them
        Flavours of fiber assignment. Blanks at the end do not count; a masked one is of the program other.

    Returns
    -------
    str or numpy.ndarray of str, shape of `faflavor`

    Notes
    -----
    The flavours before the main survey follow no pattern and are listed one by one, after `faflavor2program` in
    desispec; dark1b and bright1b are the programs of the extended survey.
    """
    values = np.ma.filled(np.ma.asarray(faflavor), "") if isinstance(faflavor, np.ma.MaskedArray) else faflavor
    names = np.asarray(values)
    distinct, inverse = np.unique(names, return_inverse=True)
    flavors = [name.decode("ascii", "replace") if isinstance(name, bytes) else str(name) for name in distinct.tolist()]
    programs = np.array([_program(flavor.rstrip()) for flavor in flavors], dtype="U8")
    # The shape of `inverse` differs between releases of numpy.
    result = programs[inverse.ravel()].reshape(names.shape)
    return str(result[()]) if names.ndim == 0 else result
