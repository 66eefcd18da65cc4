"""The tables of the repair: right coefficients, and a backup of the wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import BigInteger, Integer, String
from sqlalchemy.orm import DeclarativeBase

from specprod.model import Base, SchemaMixin, Zpix, Ztile, table_of
from specprod.model.base import Int128, Rows, TableLike, column
from specprod.model.redshifts import CoefficientColumns
from specprod.survey.identifiers import PROGRAMS, SURVEYS, desiname, zpixid, ztileid

__all__ = ["COEFFICIENTS", "FIXES", "Fix", "PatchBase", "ZpixBackup", "ZpixPatch", "ZtileBackup", "ZtilePatch"]


class PatchBase(DeclarativeBase):
    """Base of the tables of the repair, which are not part of a production."""

    metadata = sa.MetaData(naming_convention=Base.metadata.naming_convention)


def _cumulative_id(targetid: npt.ArrayLike, spgrpval: npt.ArrayLike, tileid: npt.ArrayLike) -> Any:
    """Key of a row of ztile; its catalogue holds no other spectra than cumulative ones."""
    return ztileid(targetid, np.full(np.shape(targetid), b"cumulative"), spgrpval, tileid)


class ZpixPatch(CoefficientColumns, SchemaMixin, PatchBase):
    """Right coefficients for the rows of zpix."""

    id = column(Int128, primary_key=True, derive=zpixid, doc="Key of the row in zpix")
    targetid = column(BigInteger, doc="Identifier of the target in the whole survey")
    survey = column(String(7), given="survey", choices=SURVEYS, doc="Survey to which the observation belongs")
    program = column(String(8), given="program", choices=PROGRAMS, doc="Observing program")
    healpix = column(Integer, doc="HEALPix pixel, nside 64, nested")
    desiname = column(String(22), source="DESINAME", derive=desiname, doc="Name of the object after its position")

    @classmethod
    def convert(
        cls, data: TableLike, survey: str | None = None, program: str | None = None, row_index: Rows = None
    ) -> list[ZpixPatch]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`."""
        return cls.objects(data, row_index, survey=survey, program=program)


class ZtilePatch(CoefficientColumns, SchemaMixin, PatchBase):
    """Right coefficients for the rows of ztile."""

    id = column(Int128, primary_key=True, derive=_cumulative_id, doc="Key of the row in ztile")
    targetid = column(BigInteger, doc="Identifier of the target in the whole survey")
    tileid = column(Integer, given="tileid", doc="Number of the tile")
    spgrpval = column(Integer, doc="Last night of the spectra, YYYYMMDD")
    desiname = column(String(22), source="DESINAME", derive=desiname, doc="Name of the object after its position")

    @classmethod
    def convert(
        cls, data: TableLike, tileid: int | None = None, night: int | None = None, row_index: Rows = None
    ) -> list[ZtilePatch]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`.

        `night` is taken as ``Ztile.convert()`` takes it; the patch has no such column, so that it changes nothing.
        """
        return cls.objects(data, row_index, tileid=tileid, night=night)


class ZpixBackup(CoefficientColumns, SchemaMixin, PatchBase):
    """Coefficients that rows of zpix had before they were patched."""

    id = column(Int128, primary_key=True, doc="Key of the row in zpix")


class ZtileBackup(CoefficientColumns, SchemaMixin, PatchBase):
    """Coefficients that rows of ztile had before they were patched."""

    id = column(Int128, primary_key=True, doc="Key of the row in ztile")


#: Names of the columns that are patched.
COEFFICIENTS: tuple[str, ...] = tuple(
    item.name for item in table_of(ZpixBackup).columns if item.name.startswith("coeff_")
)


@dataclass(frozen=True)
class Fix:
    """The tables of one repair.

    Attributes
    ----------
    production, patch, backup : class
    """

    production: type[SchemaMixin]
    patch: type[SchemaMixin]
    backup: type[SchemaMixin]


#: By the name of the table that is repaired.
FIXES: Mapping[str, Fix] = {
    "zpix": Fix(Zpix, ZpixPatch, ZpixBackup),
    "ztile": Fix(Ztile, ZtilePatch, ZtileBackup),
}
