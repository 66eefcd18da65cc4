"""Checksums by the rule of the FITS keyword DATASUM."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

__all__ = ["add", "datasum"]


def datasum(blocks: Iterable[bytes | memoryview]) -> int:
    """Sum blocks of bytes as the FITS keyword DATASUM does.

    Parameters
    ----------
    blocks : iterable of bytes or memoryview
        All but the last must have a length that is a multiple of 4.

    Returns
    -------
    int
        Ones' complement sum of the big-endian 32-bit words (FITS standard 4.0, section 4.4.2.7).
    """
    total = 0
    for block in blocks:
        words, rest = divmod(len(block), 4)
        if words:
            total += int(np.add.reduce(np.frombuffer(block, dtype=">u4", count=words), dtype=np.uint64))
        if rest:
            total += int.from_bytes(bytes(block[-rest:]).ljust(4, b"\0"), "big")
    return add(total)


def add(*sums: int) -> int:
    """Add checksums in ones' complement arithmetic of 32 bits."""
    total = sum(sums)
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
