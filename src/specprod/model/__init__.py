"""The ten tables of a spectroscopic production."""

from collections.abc import Sequence
from dataclasses import dataclass

from specprod.model import assignments, observations, photometry, redshifts
from specprod.model.assignments import Fiberassign, Potential
from specprod.model.base import Base, Int128, SchemaMixin, Source, column, source_of, table_of
from specprod.model.observations import Exposure, Frame, Tile, Version
from specprod.model.photometry import Photometry, Target
from specprod.model.redshifts import Zpix, Ztile

__all__ = [
    "TABLES",
    "Base",
    "Classes",
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


@dataclass(frozen=True)
class Classes:
    """The classes of the tables, by name, so that editors and type checkers know them."""

    Version: type[observations.Version] = observations.Version
    Tile: type[observations.Tile] = observations.Tile
    Exposure: type[observations.Exposure] = observations.Exposure
    Frame: type[observations.Frame] = observations.Frame
    Photometry: type[photometry.Photometry] = photometry.Photometry
    Target: type[photometry.Target] = photometry.Target
    Ztile: type[redshifts.Ztile] = redshifts.Ztile
    Zpix: type[redshifts.Zpix] = redshifts.Zpix
    Fiberassign: type[assignments.Fiberassign] = assignments.Fiberassign
    Potential: type[assignments.Potential] = assignments.Potential
