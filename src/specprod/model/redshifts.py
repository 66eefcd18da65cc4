"""Redshifts, of spectra that were coadded by HEALPix pixel or by tile."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import REAL, BigInteger, Boolean, Double, ForeignKey, Index, Integer, SmallInteger, String
from sqlalchemy.orm import Mapped, relationship

from specprod.model.base import Base, Int128, Rows, SchemaMixin, TableLike, column
from specprod.survey.identifiers import PROGRAMS, SPGRPS, SURVEYS, desiname, targetphotid, zpixid, ztileid

if TYPE_CHECKING:
    from specprod.model.observations import Tile
    from specprod.model.photometry import Photometry, Target

__all__ = ["CoefficientColumns", "Zpix", "Ztile"]

# The columns that Zpix and Ztile share stand in mixins; `order` puts them where they belong among the tables' own.


class FitColumns:
    """The best fit, without its coefficients."""

    z = column(Double, index=True, order=20, doc="Redshift")
    zerr = column(Double, order=20, doc="Uncertainty of the redshift")
    zwarn = column(BigInteger, index=True, order=20, doc="Bits that warn of problems with the redshift; 0 is good")
    chi2 = column(Double, order=20, doc="Chi squared of the best fit")
    npixels = column(BigInteger, order=24, doc="Number of good pixels in the fit")
    spectype = column(String(6), index=True, order=24, doc="Class of the spectrum: GALAXY, QSO or STAR")
    subtype = column(String(20), index=True, order=24, doc="Class within the spectrum type")
    ncoeff = column(BigInteger, order=24, doc="Number of template coefficients")
    deltachi2 = column(Double, order=24, doc="Chi squared of the second best fit minus that of the best")
    coadd_fiberstatus = column(Integer, order=24, doc="Fiber status bits of all exposures, combined")


class CoefficientColumns:
    """The coefficients of the templates of the best fit."""

    coeff_0 = column(Double, source=("COEFF", 0), order=22, doc="Coefficient 0 of the templates of the best fit")
    coeff_1 = column(Double, source=("COEFF", 1), order=22, doc="Coefficient 1 of the templates of the best fit")
    coeff_2 = column(Double, source=("COEFF", 2), order=22, doc="Coefficient 2 of the templates of the best fit")
    coeff_3 = column(Double, source=("COEFF", 3), order=22, doc="Coefficient 3 of the templates of the best fit")
    coeff_4 = column(Double, source=("COEFF", 4), order=22, doc="Coefficient 4 of the templates of the best fit")
    coeff_5 = column(Double, source=("COEFF", 5), order=22, doc="Coefficient 5 of the templates of the best fit")
    coeff_6 = column(Double, source=("COEFF", 6), order=22, doc="Coefficient 6 of the templates of the best fit")
    coeff_7 = column(Double, source=("COEFF", 7), order=22, doc="Coefficient 7 of the templates of the best fit")
    coeff_8 = column(Double, source=("COEFF", 8), order=22, doc="Coefficient 8 of the templates of the best fit")
    coeff_9 = column(Double, source=("COEFF", 9), order=22, doc="Coefficient 9 of the templates of the best fit")


class CoaddColumns:
    """What went into the coadded spectrum, and where the fibers were."""

    __sky__: ClassVar[tuple[str, str] | None] = ("mean_fiber_ra", "mean_fiber_dec")
    __in_order__: ClassVar[bool] = False

    coadd_numexp = column(SmallInteger, order=40, doc="Number of exposures in the coadded spectrum")
    coadd_exptime = column(REAL, unit="s", order=40, doc="Exposure time of the coadded spectrum")
    coadd_numnight = column(SmallInteger, order=40, doc="Number of nights in the coadded spectrum")
    coadd_numtile = column(SmallInteger, order=40, doc="Number of tiles in the coadded spectrum")
    mean_delta_x = column(
        REAL, unit="mm", order=40, doc="Mean of the offsets of the fiber from its planned position, x"
    )
    rms_delta_x = column(REAL, unit="mm", order=40, doc="Root mean square of the offsets of the fiber, x")
    mean_delta_y = column(
        REAL, unit="mm", order=40, doc="Mean of the offsets of the fiber from its planned position, y"
    )
    rms_delta_y = column(REAL, unit="mm", order=40, doc="Root mean square of the offsets of the fiber, y")
    mean_fiber_ra = column(Double, unit="deg", order=40, doc="Mean right ascension of the fiber")
    std_fiber_ra = column(REAL, unit="arcsec", order=40, doc="Standard deviation of the right ascension of the fiber")
    mean_fiber_dec = column(Double, unit="deg", order=40, doc="Mean declination of the fiber")
    std_fiber_dec = column(REAL, unit="arcsec", order=40, doc="Standard deviation of the declination of the fiber")
    mean_psf_to_fiber_specflux = column(
        REAL, order=40, doc="Mean ratio of the flux in the fiber to that of a point source"
    )


class SignalColumns:
    """Signal-to-noise ratios for templates of the kinds of target, by arm and in all."""

    tsnr2_gpbdark_b = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of dark time, blue arm",
    )
    tsnr2_elg_b = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for emission line galaxies, blue arm"
    )
    tsnr2_gpbbright_b = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of bright time, blue arm",
    )
    tsnr2_lya_b = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for Lyman alpha forest quasars, blue arm"
    )
    tsnr2_bgs_b = column(REAL, order=60, doc="Squared template signal-to-noise ratio for bright galaxies, blue arm")
    tsnr2_gpbbackup_b = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of backup time, blue arm",
    )
    tsnr2_qso_b = column(REAL, order=60, doc="Squared template signal-to-noise ratio for quasars, blue arm")
    tsnr2_lrg_b = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for luminous red galaxies, blue arm"
    )
    tsnr2_gpbdark_r = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of dark time, red arm",
    )
    tsnr2_elg_r = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for emission line galaxies, red arm"
    )
    tsnr2_gpbbright_r = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of bright time, red arm",
    )
    tsnr2_lya_r = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for Lyman alpha forest quasars, red arm"
    )
    tsnr2_bgs_r = column(REAL, order=60, doc="Squared template signal-to-noise ratio for bright galaxies, red arm")
    tsnr2_gpbbackup_r = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of backup time, red arm",
    )
    tsnr2_qso_r = column(REAL, order=60, doc="Squared template signal-to-noise ratio for quasars, red arm")
    tsnr2_lrg_r = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for luminous red galaxies, red arm"
    )
    tsnr2_gpbdark_z = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of dark time, near-infrared arm",
    )
    tsnr2_elg_z = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for emission line galaxies, near-infrared arm"
    )
    tsnr2_gpbbright_z = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of bright time, near-infrared arm",
    )
    tsnr2_lya_z = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for Lyman alpha forest quasars, near-infrared arm"
    )
    tsnr2_bgs_z = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for bright galaxies, near-infrared arm"
    )
    tsnr2_gpbbackup_z = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of backup time, near-infrared arm",
    )
    tsnr2_qso_z = column(REAL, order=60, doc="Squared template signal-to-noise ratio for quasars, near-infrared arm")
    tsnr2_lrg_z = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for luminous red galaxies, near-infrared arm"
    )
    tsnr2_gpbdark = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of dark time, all arms",
    )
    tsnr2_elg = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for emission line galaxies, all arms"
    )
    tsnr2_gpbbright = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of bright time, all arms",
    )
    tsnr2_lya = column(
        REAL, order=60, doc="Squared template signal-to-noise ratio for Lyman alpha forest quasars, all arms"
    )
    tsnr2_bgs = column(REAL, order=60, doc="Squared template signal-to-noise ratio for bright galaxies, all arms")
    tsnr2_gpbbackup = column(
        REAL,
        order=60,
        doc="Squared template signal-to-noise ratio for the guide pixel brightness of backup time, all arms",
    )
    tsnr2_qso = column(REAL, order=60, doc="Squared template signal-to-noise ratio for quasars, all arms")
    tsnr2_lrg = column(REAL, order=60, doc="Squared template signal-to-noise ratio for luminous red galaxies, all arms")


class PrimaryColumns:
    """Which of the spectra of a target is the best, and when they were taken."""

    sv_nspec = column(
        SmallInteger, default=0, order=70, doc="Number of spectra of the target in survey validation (sv1, sv2, sv3)"
    )
    sv_primary = column(
        Boolean,
        default=False,
        order=70,
        doc="Whether this is the best spectrum of the target in survey validation (sv1, sv2, sv3)",
    )
    main_nspec = column(SmallInteger, default=0, order=70, doc="Number of spectra of the target in the main survey")
    main_primary = column(
        Boolean, default=False, order=70, doc="Whether this is the best spectrum of the target in the main survey"
    )
    zcat_nspec = column(
        SmallInteger, default=0, order=70, doc="Number of spectra of the target in the whole production"
    )
    zcat_primary = column(
        Boolean, default=False, order=70, doc="Whether this is the best spectrum of the target in the whole production"
    )
    min_mjd = column(Double, unit="d", order=90, doc="MJD of the first exposure")
    mean_mjd = column(Double, unit="d", order=90, doc="Mean MJD of the exposures")
    max_mjd = column(Double, unit="d", order=90, doc="MJD of the last exposure")


class Zpix(FitColumns, CoefficientColumns, CoaddColumns, SignalColumns, PrimaryColumns, SchemaMixin, Base):
    """Redshifts of spectra that were coadded by survey, program and HEALPix pixel."""

    __table_args__ = (Index("ix_zpix_unique", "targetid", "survey", "program", unique=True),)

    id = column(Int128, primary_key=True, derive=zpixid, doc="Key of the row, packed of program, survey and target")
    targetid = column(
        BigInteger, ForeignKey("photometry.targetid"), index=True, doc="Identifier of the target in the whole survey"
    )
    desiname = column(
        String(22), source="DESINAME", derive=desiname, index=True, doc="Name of the object after its position"
    )
    survey = column(
        String(7),
        given="survey",
        choices=SURVEYS,
        index=True,
        doc="Survey to which the observation belongs, such as sv3 or main",
    )
    program = column(
        String(8),
        given="program",
        choices=PROGRAMS,
        index=True,
        doc="Observing program, such as dark, bright or backup",
    )
    spgrp = column(String(10), default="healpix", index=True, doc="How the spectra were grouped")
    spgrpval = column(Integer, source="HEALPIX", index=True, doc="Number of the group: HEALPix pixel")
    healpix = column(Integer, index=True, doc="HEALPix pixel of the object, nside 64, nested")
    cmx_target = column(BigInteger, default=0, order=30, doc="Bits of the targets of commissioning")
    desi_target = column(BigInteger, default=0, order=30, doc="Bits of the main dark-time targets, main survey")
    bgs_target = column(BigInteger, default=0, order=30, doc="Bits of the bright galaxy targets, main survey")
    mws_target = column(BigInteger, default=0, order=30, doc="Bits of the Milky Way targets, main survey")
    scnd_target = column(BigInteger, default=0, order=30, doc="Bits of the secondary targets, main survey")
    sv1_desi_target = column(
        BigInteger, default=0, order=30, doc="Bits of the main dark-time targets, survey validation 1"
    )
    sv1_bgs_target = column(
        BigInteger, default=0, order=30, doc="Bits of the bright galaxy targets, survey validation 1"
    )
    sv1_mws_target = column(BigInteger, default=0, order=30, doc="Bits of the Milky Way targets, survey validation 1")
    sv1_scnd_target = column(BigInteger, default=0, order=30, doc="Bits of the secondary targets, survey validation 1")
    sv2_desi_target = column(
        BigInteger, default=0, order=30, doc="Bits of the main dark-time targets, survey validation 2"
    )
    sv2_bgs_target = column(
        BigInteger, default=0, order=30, doc="Bits of the bright galaxy targets, survey validation 2"
    )
    sv2_mws_target = column(BigInteger, default=0, order=30, doc="Bits of the Milky Way targets, survey validation 2")
    sv2_scnd_target = column(BigInteger, default=0, order=30, doc="Bits of the secondary targets, survey validation 2")
    sv3_desi_target = column(
        BigInteger, default=0, order=30, doc="Bits of the main dark-time targets, survey validation 3"
    )
    sv3_bgs_target = column(
        BigInteger, default=0, order=30, doc="Bits of the bright galaxy targets, survey validation 3"
    )
    sv3_mws_target = column(BigInteger, default=0, order=30, doc="Bits of the Milky Way targets, survey validation 3")
    sv3_scnd_target = column(BigInteger, default=0, order=30, doc="Bits of the secondary targets, survey validation 3")

    photometry: Mapped[Photometry] = relationship(back_populates="zpix_redshifts")

    @classmethod
    def convert(
        cls, data: TableLike, survey: str | None = None, program: str | None = None, row_index: Rows = None
    ) -> list[Zpix]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`."""
        return cls.objects(data, row_index, survey=survey, program=program)


class Ztile(FitColumns, CoefficientColumns, CoaddColumns, SignalColumns, PrimaryColumns, SchemaMixin, Base):
    """Redshifts of spectra that were coadded by tile.

    For the group cumulative, `spgrpval` is the last night, and all spectra of a tile have the same first night.
    """

    __table_args__ = (Index("ix_ztile_unique", "targetid", "spgrp", "spgrpval", "tileid", unique=True),)

    id = column(Int128, primary_key=True, derive=ztileid, doc="Key of the row, packed of group, tile and target")
    targetphotid = column(
        Int128,
        ForeignKey("target.id"),
        derive=targetphotid,
        index=True,
        doc="Key of the row of table target for this tile",
    )
    targetid = column(
        BigInteger, ForeignKey("photometry.targetid"), index=True, doc="Identifier of the target in the whole survey"
    )
    desiname = column(
        String(22), source="DESINAME", derive=desiname, index=True, doc="Name of the object after its position"
    )
    survey = column(
        String(7),
        given="survey",
        choices=SURVEYS,
        index=True,
        doc="Survey to which the observation belongs, such as sv3 or main",
    )
    program = column(
        String(8),
        given="program",
        choices=PROGRAMS,
        index=True,
        doc="Observing program, such as dark, bright or backup",
    )
    spgrp = column(
        String, given="spgrp", default="cumulative", choices=SPGRPS, index=True, doc="How the spectra were grouped"
    )
    spgrpval = column(Integer, index=True, doc="Number of the group: for cumulative the last night, YYYYMMDD")
    tileid = column(
        Integer,
        ForeignKey("tile.tileid"),
        given="tileid",
        index=True,
        order=30,
        doc="Number of the tile, a pointing with its fiber assignment",
    )
    mean_fiber_x = column(REAL, unit="mm", order=50, doc="Mean position of the fiber on the focal plane, x")
    mean_fiber_y = column(REAL, unit="mm", order=50, doc="Mean position of the fiber on the focal plane, y")
    firstnight = column(Integer, given="night", order=80, doc="First night of the spectra, YYYYMMDD")
    lastnight = column(Integer, order=80, doc="Last night of the spectra, YYYYMMDD")

    photometry: Mapped[Photometry] = relationship(back_populates="ztile_redshifts")
    target: Mapped[Target] = relationship(back_populates="redshifts")
    tile: Mapped[Tile] = relationship(back_populates="redshifts")

    @classmethod
    def convert(
        cls,
        data: TableLike,
        survey: str | None = None,
        program: str | None = None,
        tileid: int | None = None,
        night: int | None = None,
        row_index: Rows = None,
        spgrp: str = "cumulative",
    ) -> list[Ztile]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`."""
        return cls.objects(data, row_index, survey=survey, program=program, tileid=tileid, night=night, spgrp=spgrp)
