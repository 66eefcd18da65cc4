"""Photometry, and the targets that were selected from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import REAL, BigInteger, Boolean, Double, ForeignKey, Index, Integer, SmallInteger, String
from sqlalchemy.orm import Mapped, relationship

from specprod.model.base import Base, Int128, Rows, SchemaMixin, TableLike, column
from specprod.survey.identifiers import PROGRAMS, SURVEYS, lsid, targetphotid

if TYPE_CHECKING:
    from specprod.model.assignments import Fiberassign, Potential
    from specprod.model.observations import Tile
    from specprod.model.redshifts import Zpix, Ztile

__all__ = ["Photometry", "Target"]


class Photometry(SchemaMixin, Base):
    """Photometry, one row a TARGETID; what target selection adds to it is in `Target`.

    Most rows come from the Tractor catalogues of the Legacy Surveys; targets that are not in them have the photometry
    with which they were selected. Light curves are not stored.
    """

    __sky__ = ("ra", "dec")

    ls_id = column(
        BigInteger,
        source="LS_ID",
        derive=lsid,
        index=True,
        doc="Identifier of the source in the Legacy Surveys: release, brick and object; 0 without a source",
    )
    release = column(SmallInteger, doc="Release of the Legacy Surveys photometry")
    brickid = column(Integer, doc="Number of the brick of sky")
    brickname = column(String(8), doc="Name of the brick, after the position of its centre")
    brick_objid = column(Integer, source=("BRICK_OBJID", "OBJID"), doc="Number of the source within its brick")
    morphtype = column(
        String(4), source=("MORPHTYPE", "TYPE"), doc="Shape of the best model: PSF, REX, DEV, EXP, SER or DUP"
    )
    ra = column(Double, unit="deg", doc="Right ascension, ICRS")
    ra_ivar = column(REAL, unit="deg^-2", doc="Inverse variance of the right ascension")
    dec = column(Double, unit="deg", doc="Declination, ICRS")
    dec_ivar = column(REAL, unit="deg^-2", doc="Inverse variance of the declination")
    dchisq_psf = column(REAL, source=("DCHISQ", 0), doc="Gain in chi squared over no source at all, model PSF")
    dchisq_rex = column(REAL, source=("DCHISQ", 1), doc="Gain in chi squared over no source at all, model REX")
    dchisq_dev = column(REAL, source=("DCHISQ", 2), doc="Gain in chi squared over no source at all, model DEV")
    dchisq_exp = column(REAL, source=("DCHISQ", 3), doc="Gain in chi squared over no source at all, model EXP")
    dchisq_ser = column(REAL, source=("DCHISQ", 4), doc="Gain in chi squared over no source at all, model SER")
    ebv = column(REAL, unit="mag", doc="Galactic reddening E(B-V)")
    flux_g = column(REAL, unit="nanomaggy", doc="Total flux, g band, without correction for extinction")
    flux_r = column(REAL, unit="nanomaggy", doc="Total flux, r band, without correction for extinction")
    flux_z = column(REAL, unit="nanomaggy", doc="Total flux, z band, without correction for extinction")
    flux_ivar_g = column(REAL, unit="nanomaggy^-2", doc="Inverse variance of the total flux, g band")
    flux_ivar_r = column(REAL, unit="nanomaggy^-2", doc="Inverse variance of the total flux, r band")
    flux_ivar_z = column(REAL, unit="nanomaggy^-2", doc="Inverse variance of the total flux, z band")
    mw_transmission_g = column(REAL, doc="Transmission of the Galactic dust, g band, between 0 and 1")
    mw_transmission_r = column(REAL, doc="Transmission of the Galactic dust, r band, between 0 and 1")
    mw_transmission_z = column(REAL, doc="Transmission of the Galactic dust, z band, between 0 and 1")
    fracflux_g = column(REAL, doc="Flux of neighbours over that of the source, weighted by its profile, g band")
    fracflux_r = column(REAL, doc="Flux of neighbours over that of the source, weighted by its profile, r band")
    fracflux_z = column(REAL, doc="Flux of neighbours over that of the source, weighted by its profile, z band")
    fracmasked_g = column(REAL, doc="Fraction of masked pixels, weighted by the profile, g band")
    fracmasked_r = column(REAL, doc="Fraction of masked pixels, weighted by the profile, r band")
    fracmasked_z = column(REAL, doc="Fraction of masked pixels, weighted by the profile, z band")
    fracin_g = column(REAL, doc="Fraction of the flux of the source within its blob, g band")
    fracin_r = column(REAL, doc="Fraction of the flux of the source within its blob, r band")
    fracin_z = column(REAL, doc="Fraction of the flux of the source within its blob, z band")
    nobs_g = column(SmallInteger, doc="Number of images that cover the central pixel, g band")
    nobs_r = column(SmallInteger, doc="Number of images that cover the central pixel, r band")
    nobs_z = column(SmallInteger, doc="Number of images that cover the central pixel, z band")
    psfdepth_g = column(REAL, unit="nanomaggy^-2", doc="Depth for a point source as inverse variance, g band")
    psfdepth_r = column(REAL, unit="nanomaggy^-2", doc="Depth for a point source as inverse variance, r band")
    psfdepth_z = column(REAL, unit="nanomaggy^-2", doc="Depth for a point source as inverse variance, z band")
    galdepth_g = column(REAL, unit="nanomaggy^-2", doc="Depth for a small galaxy as inverse variance, g band")
    galdepth_r = column(REAL, unit="nanomaggy^-2", doc="Depth for a small galaxy as inverse variance, r band")
    galdepth_z = column(REAL, unit="nanomaggy^-2", doc="Depth for a small galaxy as inverse variance, z band")
    flux_w1 = column(REAL, unit="nanomaggy", doc="Total flux, WISE W1 band, without correction for extinction")
    flux_w2 = column(REAL, unit="nanomaggy", doc="Total flux, WISE W2 band, without correction for extinction")
    flux_w3 = column(REAL, unit="nanomaggy", doc="Total flux, WISE W3 band, without correction for extinction")
    flux_w4 = column(REAL, unit="nanomaggy", doc="Total flux, WISE W4 band, without correction for extinction")
    flux_ivar_w1 = column(REAL, unit="nanomaggy^-2", doc="Inverse variance of the total flux, WISE W1 band")
    flux_ivar_w2 = column(REAL, unit="nanomaggy^-2", doc="Inverse variance of the total flux, WISE W2 band")
    flux_ivar_w3 = column(REAL, unit="nanomaggy^-2", doc="Inverse variance of the total flux, WISE W3 band")
    flux_ivar_w4 = column(REAL, unit="nanomaggy^-2", doc="Inverse variance of the total flux, WISE W4 band")
    mw_transmission_w1 = column(REAL, doc="Transmission of the Galactic dust, WISE W1 band, between 0 and 1")
    mw_transmission_w2 = column(REAL, doc="Transmission of the Galactic dust, WISE W2 band, between 0 and 1")
    mw_transmission_w3 = column(REAL, doc="Transmission of the Galactic dust, WISE W3 band, between 0 and 1")
    mw_transmission_w4 = column(REAL, doc="Transmission of the Galactic dust, WISE W4 band, between 0 and 1")
    allmask_g = column(SmallInteger, doc="Bits that are set in all images at the central pixel, g band")
    allmask_r = column(SmallInteger, doc="Bits that are set in all images at the central pixel, r band")
    allmask_z = column(SmallInteger, doc="Bits that are set in all images at the central pixel, z band")
    fiberflux_g = column(REAL, unit="nanomaggy", doc="Flux of this source within a fiber in 1 arcsec seeing, g band")
    fiberflux_r = column(REAL, unit="nanomaggy", doc="Flux of this source within a fiber in 1 arcsec seeing, r band")
    fiberflux_z = column(REAL, unit="nanomaggy", doc="Flux of this source within a fiber in 1 arcsec seeing, z band")
    fibertotflux_g = column(REAL, unit="nanomaggy", doc="Flux of all sources within a fiber in 1 arcsec seeing, g band")
    fibertotflux_r = column(REAL, unit="nanomaggy", doc="Flux of all sources within a fiber in 1 arcsec seeing, r band")
    fibertotflux_z = column(REAL, unit="nanomaggy", doc="Flux of all sources within a fiber in 1 arcsec seeing, z band")
    ref_epoch = column(REAL, unit="yr", doc="Epoch of the astrometry")
    wisemask_w1 = column(SmallInteger, doc="Bits of the bright star mask, WISE W1 band")
    wisemask_w2 = column(SmallInteger, doc="Bits of the bright star mask, WISE W2 band")
    maskbits = column(SmallInteger, doc="Bits that tell what is wrong at the position of the source")
    shape_r = column(REAL, unit="arcsec", doc="Half-light radius of the galaxy model")
    shape_e1 = column(REAL, doc="First component of the ellipticity")
    shape_e2 = column(REAL, doc="Second component of the ellipticity")
    shape_r_ivar = column(REAL, unit="arcsec^-2", doc="Inverse variance of the half-light radius")
    shape_e1_ivar = column(REAL, doc="Inverse variance of the first component of the ellipticity")
    shape_e2_ivar = column(REAL, doc="Inverse variance of the second component of the ellipticity")
    sersic = column(REAL, doc="Power-law index of the Sersic profile")
    sersic_ivar = column(REAL, doc="Inverse variance of the Sersic index")
    ref_id = column(BigInteger, doc="Identifier in the reference catalogue")
    ref_cat = column(String(2), doc="Reference catalogue: G2 is Gaia DR2, L3 the large galaxy atlas, T2 Tycho-2")
    gaia_phot_g_mean_mag = column(REAL, unit="mag", doc="Gaia mean magnitude, G band, Vega")
    gaia_phot_g_mean_flux_over_error = column(REAL, doc="Gaia signal-to-noise ratio of the mean flux, G band")
    gaia_phot_bp_mean_mag = column(REAL, unit="mag", doc="Gaia mean magnitude, BP band, Vega")
    gaia_phot_bp_mean_flux_over_error = column(REAL, doc="Gaia signal-to-noise ratio of the mean flux, BP band")
    gaia_phot_rp_mean_mag = column(REAL, unit="mag", doc="Gaia mean magnitude, RP band, Vega")
    gaia_phot_rp_mean_flux_over_error = column(REAL, doc="Gaia signal-to-noise ratio of the mean flux, RP band")
    gaia_phot_bp_rp_excess_factor = column(REAL, doc="Gaia excess of the BP and RP fluxes over G")
    gaia_duplicated_source = column(Boolean, doc="Whether Gaia saw the source under several identifiers")
    gaia_astrometric_sigma5d_max = column(
        REAL, unit="mas", doc="Longest semi-axis of the error ellipsoid of the five astrometric parameters"
    )
    gaia_astrometric_params_solved = column(
        SmallInteger, doc="Bits that tell which astrometric parameters Gaia solved for"
    )
    parallax = column(REAL, unit="mas", doc="Parallax")
    parallax_ivar = column(REAL, unit="mas^-2", doc="Inverse variance of the parallax")
    pmra = column(
        REAL,
        nan_zero=True,
        unit="mas yr^-1",
        doc="Proper motion in right ascension, times the cosine of the declination",
    )
    pmra_ivar = column(REAL, unit="mas^-2 yr^2", doc="Inverse variance of pmra")
    pmdec = column(REAL, nan_zero=True, unit="mas yr^-1", doc="Proper motion in declination")
    pmdec_ivar = column(REAL, unit="mas^-2 yr^2", doc="Inverse variance of pmdec")
    targetid = column(BigInteger, primary_key=True, doc="Identifier of the target in the whole survey; one row each")

    targets: Mapped[list[Target]] = relationship(back_populates="photometry")
    fiberassignments: Mapped[list[Fiberassign]] = relationship(back_populates="photometry")
    potential_assignments: Mapped[list[Potential]] = relationship(back_populates="photometry")
    zpix_redshifts: Mapped[list[Zpix]] = relationship(back_populates="photometry")
    ztile_redshifts: Mapped[list[Ztile]] = relationship(back_populates="photometry")

    @classmethod
    def convert(cls, data: TableLike, row_index: Rows = None) -> list[Photometry]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`."""
        return cls.objects(data, row_index)


class Target(SchemaMixin, Base):
    """Targets as selected for a survey, one row for each tile on which they could be observed."""

    __table_args__ = (Index("ix_target_unique", "targetid", "survey", "tileid", unique=True),)

    id = column(Int128, primary_key=True, derive=targetphotid, doc="Key of the row, packed of survey, tile and target")
    targetid = column(
        BigInteger, ForeignKey("photometry.targetid"), index=True, doc="Identifier of the target in the whole survey"
    )
    photsys = column(String(1), doc="Part of the Legacy Surveys: N for north, S for south")
    subpriority = column(Double, doc="Random number that decides between targets of equal priority")
    obsconditions = column(BigInteger, doc="Bits of the conditions under which the target may be observed")
    priority_init = column(BigInteger, doc="Priority of the target before any observation")
    numobs_init = column(BigInteger, doc="Number of observations that were planned")
    hpxpixel = column(BigInteger, index=True, doc="HEALPix pixel of the target, nside 64, nested")
    cmx_target = column(BigInteger, default=0, doc="Bits of the targets of commissioning")
    desi_target = column(BigInteger, default=0, doc="Bits of the main dark-time targets, main survey")
    bgs_target = column(BigInteger, default=0, doc="Bits of the bright galaxy targets, main survey")
    mws_target = column(BigInteger, default=0, doc="Bits of the Milky Way targets, main survey")
    sv1_desi_target = column(BigInteger, default=0, doc="Bits of the main dark-time targets, survey validation 1")
    sv1_bgs_target = column(BigInteger, default=0, doc="Bits of the bright galaxy targets, survey validation 1")
    sv1_mws_target = column(BigInteger, default=0, doc="Bits of the Milky Way targets, survey validation 1")
    sv2_desi_target = column(BigInteger, default=0, doc="Bits of the main dark-time targets, survey validation 2")
    sv2_bgs_target = column(BigInteger, default=0, doc="Bits of the bright galaxy targets, survey validation 2")
    sv2_mws_target = column(BigInteger, default=0, doc="Bits of the Milky Way targets, survey validation 2")
    sv3_desi_target = column(BigInteger, default=0, doc="Bits of the main dark-time targets, survey validation 3")
    sv3_bgs_target = column(BigInteger, default=0, doc="Bits of the bright galaxy targets, survey validation 3")
    sv3_mws_target = column(BigInteger, default=0, doc="Bits of the Milky Way targets, survey validation 3")
    scnd_target = column(BigInteger, default=0, doc="Bits of the secondary targets, main survey")
    sv1_scnd_target = column(BigInteger, default=0, doc="Bits of the secondary targets, survey validation 1")
    sv2_scnd_target = column(BigInteger, default=0, doc="Bits of the secondary targets, survey validation 2")
    sv3_scnd_target = column(BigInteger, default=0, doc="Bits of the secondary targets, survey validation 3")
    survey = column(
        String(7), given="survey", choices=SURVEYS, index=True, doc="Survey for which the target was selected"
    )
    program = column(String(8), choices=PROGRAMS, index=True, doc="Program for which the target was selected")
    tileid = column(
        Integer, ForeignKey("tile.tileid"), given="tileid", index=True, doc="Tile on which the target could be observed"
    )

    photometry: Mapped[Photometry] = relationship(back_populates="targets")
    tile: Mapped[Tile] = relationship(back_populates="targets")
    redshifts: Mapped[list[Ztile]] = relationship(back_populates="target")

    @classmethod
    def convert(
        cls, data: TableLike, survey: str | None = None, tileid: int | None = None, row_index: Rows = None
    ) -> list[Target]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`."""
        return cls.objects(data, row_index, survey=survey, tileid=tileid)
