"""What a database says of the keys and indexes that it has."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Keys"]


@dataclass(frozen=True)
class Keys:
    """Which keys and indexes there are.

    Attributes
    ----------
    names : frozenset of str
        Indexes and constraints.
    invalid : frozenset of str
        References that were added but not validated.
    clustered : frozenset of str
        Indexes on which their tables are clustered.
    """

    names: frozenset[str]
    invalid: frozenset[str] = frozenset()
    clustered: frozenset[str] = frozenset()
