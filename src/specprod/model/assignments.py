"""Assignments of fibers to targets, made and possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import REAL, BigInteger, Double, ForeignKey, Index, Integer, SmallInteger
from sqlalchemy.orm import Mapped, relationship

from specprod.model.base import Base, Int128, Rows, SchemaMixin, TableLike, column
from specprod.survey.identifiers import fiberassignid

if TYPE_CHECKING:
    from specprod.model.observations import Tile
    from specprod.model.photometry import Photometry

__all__ = ["Fiberassign", "Potential"]


class Fiberassign(SchemaMixin, Base):
    """Targets to which a fiber was assigned, tile by tile.

    A target is assigned to a location of the focal plane. Today each location has one fiber, but that need not stay so.
    """

    __sky__ = ("target_ra", "target_dec")
    __table_args__ = (Index("ix_fiberassign_unique", "tileid", "targetid", "location", unique=True),)

    id = column(
        Int128, primary_key=True, derive=fiberassignid, doc="Key of the row, packed of location, tile and target"
    )
    tileid = column(
        Integer,
        ForeignKey("tile.tileid"),
        given="tileid",
        header="TILEID",
        index=True,
        doc="Number of the tile, a pointing with its fiber assignment",
    )
    targetid = column(
        BigInteger, ForeignKey("photometry.targetid"), index=True, doc="Identifier of the target in the whole survey"
    )
    petal_loc = column(SmallInteger, doc="Petal of the focal plane, 0 to 9")
    device_loc = column(Integer, doc="Number of the positioner on its petal")
    location = column(Integer, index=True, doc="Location on the focal plane, 1000 times the petal plus the positioner")
    fiber = column(Integer, doc="Number of the fiber, 0 to 4999")
    fiberstatus = column(Integer, doc="Bits that tell whether the fiber was usable; 0 is good")
    target_ra = column(Double, unit="deg", doc="Right ascension of the target, ICRS at the reference epoch")
    target_dec = column(Double, unit="deg", doc="Declination of the target, ICRS at the reference epoch")
    pmra = column(
        REAL,
        nan_zero=True,
        unit="mas yr^-1",
        doc="Proper motion in right ascension, times the cosine of the declination",
    )
    pmdec = column(REAL, nan_zero=True, unit="mas yr^-1", doc="Proper motion in declination")
    ref_epoch = column(REAL, unit="yr", doc="Epoch of the astrometry")
    lambda_ref = column(REAL, unit="Angstrom", doc="Wavelength at which the target was to be centred in the fiber")
    fa_target = column(BigInteger, doc="Target bits as the fiber assignment uses them")
    fa_type = column(SmallInteger, doc="Kind of target for the fiber assignment: science, standard, sky")
    fiberassign_x = column(REAL, unit="mm", doc="Planned position on the focal plane, x")
    fiberassign_y = column(REAL, unit="mm", doc="Planned position on the focal plane, y")
    priority = column(Integer, doc="Priority of the target when fibers were assigned")
    subpriority = column(Double, doc="Random number that decides between targets of equal priority")
    parallax = column(REAL, unit="mas", doc="Parallax")

    tile: Mapped[Tile] = relationship(back_populates="fiberassignments")
    photometry: Mapped[Photometry] = relationship(back_populates="fiberassignments")

    @classmethod
    def convert(cls, data: TableLike, tileid: int | None = None, row_index: Rows = None) -> list[Fiberassign]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`."""
        return cls.objects(data, row_index, tileid=tileid)


class Potential(SchemaMixin, Base):
    """Targets that a positioner could reach, tile by tile, whether or not it was assigned to them."""

    __table_args__ = (Index("ix_potential_unique", "tileid", "targetid", "location", unique=True),)

    id = column(
        Int128, primary_key=True, derive=fiberassignid, doc="Key of the row, packed of location, tile and target"
    )
    tileid = column(
        Integer,
        ForeignKey("tile.tileid"),
        given="tileid",
        header="TILEID",
        index=True,
        doc="Number of the tile, a pointing with its fiber assignment",
    )
    targetid = column(
        BigInteger, ForeignKey("photometry.targetid"), index=True, doc="Identifier of the target in the whole survey"
    )
    fiber = column(Integer, doc="Number of the fiber, 0 to 4999")
    location = column(Integer, index=True, doc="Location on the focal plane, 1000 times the petal plus the positioner")

    tile: Mapped[Tile] = relationship(back_populates="potential_assignments")
    photometry: Mapped[Photometry] = relationship(back_populates="potential_assignments")

    @classmethod
    def convert(cls, data: TableLike, tileid: int | None = None, row_index: Rows = None) -> list[Potential]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`."""
        return cls.objects(data, row_index, tileid=tileid)
