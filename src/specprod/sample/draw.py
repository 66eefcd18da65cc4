"""Random values that are functions of a key: an object has the same values in whatever file it is written.

A draw hashes (seed, name of the column, key of the row), so nothing has to be kept in memory for two files to agree.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Draw", "mix"]

Floats = npt.NDArray[np.float64]
_GOLDEN = 0x9E3779B97F4A7C15


@lru_cache(maxsize=4096)
def _salt(seed: int, name: str) -> np.uint64:
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def mix(numbers: npt.NDArray[Any], salt: np.uint64) -> npt.NDArray[np.uint64]:
    """Hash 64-bit integers: the finalizer of SplitMix64 (Steele, Lea and Flood 2014), salted.

    Parameters
    ----------
    numbers : numpy.ndarray of a 64-bit integer type
    salt : numpy.uint64

    Returns
    -------
    numpy.ndarray of uint64, shape of `numbers`
    """
    z = numbers.astype(np.uint64)
    z *= np.uint64(_GOLDEN)
    z += salt
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


@dataclass(frozen=True)
class Draw:
    """Values for the rows that have these keys.

    Parameters
    ----------
    key : numpy.ndarray of int64 or uint64, shape (n,)
        What a row's values depend on.
    seed : int
        What all values depend on.
    """

    key: npt.NDArray[Any]
    seed: int

    @property
    def size(self) -> int:
        """Number of rows."""
        return int(self.key.size)

    def bits(self, name: str, width: int = 0) -> npt.NDArray[np.uint64]:
        """64 random bits a row; with `width`, that many a row: shape (n, width)."""
        key = self.key.astype(np.uint64)
        if width:
            key = key[:, None] + (np.arange(1, width + 1, dtype=np.uint64) << np.uint64(40)) * np.uint64(_GOLDEN)
        return mix(key, _salt(self.seed, name))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0, width: int = 0) -> Floats:
        """Values from `low` to below `high`."""
        unit = (self.bits(name, width) >> np.uint64(11)).astype(np.float64)
        unit *= (high - low) / 2**53
        unit += low
        return unit

    def normal(self, name: str, mean: float = 0.0, sigma: float = 1.0, width: int = 0) -> Floats:
        """Values of about a normal distribution: the sum of four uniform ones, so within 3.5 `sigma`."""
        bits = np.ascontiguousarray(self.bits(name, width))
        total = bits.view(np.uint16).reshape(*bits.shape, 4).sum(axis=-1, dtype=np.float64)
        total -= 2 * 65535
        total *= sigma * 3**0.5 / 65536
        total += mean
        return np.asarray(total)

    def lognormal(self, name: str, median: float, sigma: float, width: int = 0) -> Floats:
        """Positive values whose natural logarithm scatters by `sigma`."""
        return np.asarray(median * np.exp(self.normal(name, 0.0, sigma, width)))

    def integers(self, name: str, low: int, high: int, width: int = 0) -> npt.NDArray[np.int64]:
        """Integers from `low` to below `high`."""
        return (self.bits(name, width) % np.uint64(high - low)).astype(np.int64) + low

    def chance(self, name: str, probability: float) -> npt.NDArray[np.bool_]:
        """Whether something of that probability happens to a row."""
        return np.asarray(self.uniform(name) < probability)

    def choice(self, name: str, values: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        """One of `values` a row, by `weights` or evenly."""
        pool = np.asarray(values)
        share = np.ones(pool.size) if weights is None else np.asarray(weights, dtype=np.float64)
        return np.asarray(pool[np.searchsorted(np.cumsum(share)[:-1] / share.sum(), self.uniform(name), side="right")])
