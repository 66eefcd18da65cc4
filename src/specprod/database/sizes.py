"""What rows take in a database: bytes, and time; measured, as the packages of the databases say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Sizes"]


@dataclass(frozen=True)
class Sizes:
    """What rows take.

    Attributes
    ----------
    row_bytes, index_bytes : mapping of str to int
        By table: bytes a row in the table itself, and in its keys and indexes.
    rate : int
        Rows a second, from the first row to the last index.
    """

    row_bytes: Mapping[str, int]
    index_bytes: Mapping[str, int]
    rate: int
