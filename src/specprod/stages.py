"""The stages of a load of a whole production: their names, their tables and their order.

This is the one table of them; it imports nothing, so that the command line has it at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["ONE_WRITER", "STAGES", "STAGE_NAMES", "TABLE_NAMES", "Stage", "with_needed"]


@dataclass(frozen=True)
class Stage:
    """A stage of a load.

    Attributes
    ----------
    name : str
    groups : tuple of tuple of str
        Its tables, in groups that are loaded together.
    after : tuple of str
        Tables whose rows must be there before.
    completes : bool
        Whether its tables have all their rows after it; else a later stage adds some, and keys and indexes wait.
    indexes : int
        How many keys and indexes its largest table has, about: where they are built one after the other, the tables
        with the most come first, and the other files are read meanwhile.
    """

    name: str
    groups: tuple[tuple[str, ...], ...]
    after: tuple[str, ...] = ()
    completes: bool = True
    indexes: int = 0

    @property
    def tables(self) -> tuple[str, ...]:
        """All its tables."""
        return tuple(table for group in self.groups for table in group)


#: The stages, in order.
STAGES: Final = {
    stage.name: stage
    for stage in (
        Stage("exposures", (("tile", "exposure", "frame"),), indexes=6),
        # The rows that the targetphot stage adds belong to the same table.
        Stage("photometry", (("photometry",),), completes=False, indexes=2),
        Stage("targetphot", (("photometry",),), ("photometry",), indexes=1),
        Stage("target", (("target",),), indexes=5),
        Stage("redshift", (("ztile",), ("zpix",)), indexes=3),
        Stage("fiberassign", (("fiberassign", "potential"),), ("tile",), indexes=4),
    )
}

#: Their names.
STAGE_NAMES: Final = tuple(STAGES)

#: The tables that they fill, in the same order.
TABLE_NAMES: Final = tuple(dict.fromkeys(table for stage in STAGES.values() for table in stage.tables))

#: Their order where only one of them can write at a time.
ONE_WRITER: Final = tuple(sorted(STAGES, key=lambda name: -STAGES[name].indexes))


def with_needed(tables: Iterable[str]) -> tuple[str, ...]:
    """Add to some tables those whose rows must be there before, and give all of them in order."""
    chosen = set(tables)
    while needed := {
        table for stage in STAGES.values() if chosen.intersection(stage.tables) for table in stage.after
    }.difference(chosen):
        chosen |= needed
    return tuple(table for table in TABLE_NAMES if table in chosen)
