"""The ten tables of a spectroscopic production."""

from collections.abc import Sequence

from specprod.model.assignments import Fiberassign, Potential
from specprod.model.base import Base, Int128, SchemaMixin, Source, column, source_of, table_of
from specprod.model.observations import Exposure, Frame, Tile, Version
from specprod.model.photometry import Photometry, Target
from specprod.model.redshifts import Zpix, Ztile

__all__ = [
    "TABLES",
    "Base",
    "Exposure",
    "Fiberassign",
    "Frame",
    "Int128",
    "Photometry",
    "Potential",
    "SchemaMixin",
    "Source",
    "Target",
    "Tile",
    "Version",
    "Zpix",
    "Ztile",
    "column",
    "source_of",
    "table_of",
]

#: The tables of a production, each after those to which it refers.
TABLES: Sequence[type[SchemaMixin]] = (
    Version,
    Tile,
    Exposure,
    Frame,
    Photometry,
    Target,
    Ztile,
    Zpix,
    Fiberassign,
    Potential,
)
