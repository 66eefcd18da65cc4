"""Versions, tiles, exposures and frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import REAL, BigInteger, DateTime, Double, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, relationship

from specprod.model.base import Base, Rows, SchemaMixin, TableLike, column
from specprod.survey.identifiers import CAMERAS, date_obs, frameid

if TYPE_CHECKING:
    from specprod.model.assignments import Fiberassign, Potential
    from specprod.model.photometry import Target
    from specprod.model.redshifts import Ztile

__all__ = ["Exposure", "Frame", "Tile", "Version"]


class Version(SchemaMixin, Base):
    """Versions of the packages and data sets that made the database."""

    id = column(Integer, primary_key=True, numbered=True, doc="Number of the row")
    package = column(String(20), unique=True, doc="Package or data set")
    version = column(String(20), doc="Its version")

    @classmethod
    def convert(cls, data: TableLike, row_index: Rows = None) -> list[Version]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`."""
        return cls.objects(data, row_index)


class Tile(SchemaMixin, Base):
    """Tiles: pointings of the telescope, each with its assignment of fibers to targets."""

    __sky__ = ("tilera", "tiledec")

    tileid = column(Integer, primary_key=True, doc="Number of the tile, a pointing with its fiber assignment")
    survey = column(String(20), doc="Survey to which the observation belongs, such as sv3 or main")
    program = column(String(8), doc="Observing program, such as dark, bright or backup")
    faprgrm = column(String(20), doc="Program for which the fibers were assigned")
    faflavor = column(String(20), doc="Flavour of the fiber assignment")
    nexp = column(BigInteger, doc="Number of exposures of the tile")
    exptime = column(Double, unit="s", doc="Sum of the exposure times of the tile")
    tilera = column(Double, unit="deg", doc="Right ascension of the centre of the tile, ICRS")
    tiledec = column(Double, unit="deg", doc="Declination of the centre of the tile, ICRS")
    efftime_etc = column(Double, unit="s", doc="Effective exposure time by the exposure time calculator")
    efftime_spec = column(Double, unit="s", doc="Effective exposure time, measured in the spectra")
    efftime_gfa = column(Double, unit="s", doc="Effective exposure time from the guider images")
    goaltime = column(Double, unit="s", doc="Effective time after which the tile counts as done")
    obsstatus = column(String(20), doc="State of the observations of the tile")
    lrg_efftime_dark = column(Double, unit="s", doc="Effective exposure time for luminous red galaxies in dark time")
    elg_efftime_dark = column(Double, unit="s", doc="Effective exposure time for emission line galaxies in dark time")
    bgs_efftime_bright = column(Double, unit="s", doc="Effective exposure time for bright galaxies in bright time")
    lya_efftime_dark = column(Double, unit="s", doc="Effective exposure time for the Lyman alpha forest in dark time")
    goaltype = column(String(20), doc="Kind of conditions to which the goal time refers")
    mintfrac = column(Double, doc="Least fraction of the goal time at which the tile counts as done")
    lastnight = column(Integer, doc="Last night on which the tile was observed, YYYYMMDD")

    exposures: Mapped[list[Exposure]] = relationship(back_populates="tile")
    targets: Mapped[list[Target]] = relationship(back_populates="tile")
    fiberassignments: Mapped[list[Fiberassign]] = relationship(back_populates="tile")
    potential_assignments: Mapped[list[Potential]] = relationship(back_populates="tile")
    redshifts: Mapped[list[Ztile]] = relationship(back_populates="tile")

    @classmethod
    def convert(cls, data: TableLike, row_index: Rows = None) -> list[Tile]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`."""
        return cls.objects(data, row_index)


class Exposure(SchemaMixin, Base):
    """Exposures of tiles."""

    __sky__ = ("tilera", "tiledec")

    night = column(Integer, index=True, doc="Night of the observation, YYYYMMDD of the date on which it began")
    expid = column(Integer, primary_key=True, doc="Number of the exposure")
    tileid = column(
        Integer, ForeignKey("tile.tileid"), index=True, doc="Number of the tile, a pointing with its fiber assignment"
    )
    tilera = column(Double, unit="deg", doc="Right ascension of the centre of the tile, ICRS")
    tiledec = column(Double, unit="deg", doc="Declination of the centre of the tile, ICRS")
    date_obs = column(DateTime(timezone=True), derive=date_obs, doc="Start of the exposure, UTC, computed from the MJD")
    mjd = column(Double, unit="d", doc="Start of the exposure, modified Julian date")
    survey = column(String(7), doc="Survey to which the observation belongs, such as sv3 or main")
    program = column(String(8), doc="Observing program, such as dark, bright or backup")
    faprgrm = column(String(16), doc="Program for which the fibers were assigned")
    faflavor = column(String(19), doc="Flavour of the fiber assignment")
    exptime = column(Double, unit="s", doc="Exposure time")
    efftime_spec = column(Double, unit="s", doc="Effective exposure time, measured in the spectra")
    goaltime = column(Double, unit="s", doc="Effective time after which the tile counts as done")
    goaltype = column(String(8), doc="Kind of conditions to which the goal time refers")
    mintfrac = column(Double, doc="Least fraction of the goal time at which the tile counts as done")
    airmass = column(REAL, doc="Airmass")
    ebv = column(Double, unit="mag", doc="Galactic reddening E(B-V)")
    seeing_etc = column(Double, unit="arcsec", doc="Seeing by the exposure time calculator")
    efftime_etc = column(REAL, unit="s", doc="Effective exposure time by the exposure time calculator")
    tsnr2_elg = column(REAL, doc="Squared template signal-to-noise ratio for emission line galaxies")
    tsnr2_qso = column(REAL, doc="Squared template signal-to-noise ratio for quasars")
    tsnr2_lrg = column(REAL, doc="Squared template signal-to-noise ratio for luminous red galaxies")
    tsnr2_lya = column(Double, doc="Squared template signal-to-noise ratio for Lyman alpha forest quasars")
    tsnr2_bgs = column(REAL, doc="Squared template signal-to-noise ratio for bright galaxies")
    tsnr2_gpbdark = column(
        REAL, doc="Squared template signal-to-noise ratio for the guide pixel brightness of dark time"
    )
    tsnr2_gpbbright = column(
        REAL, doc="Squared template signal-to-noise ratio for the guide pixel brightness of bright time"
    )
    tsnr2_gpbbackup = column(
        REAL, doc="Squared template signal-to-noise ratio for the guide pixel brightness of backup time"
    )
    lrg_efftime_dark = column(REAL, unit="s", doc="Effective exposure time for luminous red galaxies in dark time")
    elg_efftime_dark = column(REAL, unit="s", doc="Effective exposure time for emission line galaxies in dark time")
    bgs_efftime_bright = column(REAL, unit="s", doc="Effective exposure time for bright galaxies in bright time")
    lya_efftime_dark = column(Double, unit="s", doc="Effective exposure time for the Lyman alpha forest in dark time")
    gpb_efftime_dark = column(REAL, unit="s", doc="Effective exposure time for guide pixels in dark time")
    gpb_efftime_bright = column(REAL, unit="s", doc="Effective exposure time for guide pixels in bright time")
    gpb_efftime_backup = column(REAL, unit="s", doc="Effective exposure time for guide pixels in backup time")
    transparency_gfa = column(Double, doc="Transparency of the sky, from the guider images")
    seeing_gfa = column(Double, unit="arcsec", doc="Seeing in the guider images")
    fiber_fracflux_gfa = column(
        Double, doc="Fraction of the light of a point source within a fiber, from the guider images"
    )
    fiber_fracflux_elg_gfa = column(
        Double, doc="Fraction of the light of a typical emission line galaxy within a fiber, from the guider images"
    )
    fiber_fracflux_bgs_gfa = column(
        Double, doc="Fraction of the light of a typical bright galaxy within a fiber, from the guider images"
    )
    fiberfac_gfa = column(
        Double, doc="Fiber flux of a point source relative to nominal conditions, from the guider images"
    )
    fiberfac_elg_gfa = column(
        Double,
        doc="Fiber flux of a typical emission line galaxy relative to nominal conditions, from the guider images",
    )
    fiberfac_bgs_gfa = column(
        Double, doc="Fiber flux of a typical bright galaxy relative to nominal conditions, from the guider images"
    )
    airmass_gfa = column(Double, doc="Airmass of the guider images")
    sky_mag_ab_gfa = column(Double, unit="mag arcsec^-2", doc="Brightness of the sky in the guider images")
    sky_mag_g_spec = column(Double, unit="mag arcsec^-2", doc="Brightness of the sky in the spectra, g band")
    sky_mag_r_spec = column(Double, unit="mag arcsec^-2", doc="Brightness of the sky in the spectra, r band")
    sky_mag_z_spec = column(Double, unit="mag arcsec^-2", doc="Brightness of the sky in the spectra, z band")
    efftime_gfa = column(Double, unit="s", doc="Effective exposure time from the guider images")
    efftime_dark_gfa = column(
        Double, unit="s", doc="Effective exposure time from the guider images under the definition for dark time"
    )
    efftime_bright_gfa = column(
        Double, unit="s", doc="Effective exposure time from the guider images under the definition for bright time"
    )
    efftime_backup_gfa = column(
        Double, unit="s", doc="Effective exposure time from the guider images under the definition for backup time"
    )

    tile: Mapped[Tile] = relationship(back_populates="exposures")
    frames: Mapped[list[Frame]] = relationship(back_populates="exposure")

    @classmethod
    def convert(cls, data: TableLike, row_index: Rows = None) -> list[Exposure]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`."""
        return cls.objects(data, row_index)


class Frame(SchemaMixin, Base):
    """Frames: what one camera took in one exposure."""

    frameid = column(
        Integer,
        primary_key=True,
        derive=frameid,
        doc="Key of the frame, 100 times the exposure number plus a code of the camera",
    )
    night = column(Integer, index=True, doc="Night of the observation, YYYYMMDD of the date on which it began")
    expid = column(Integer, ForeignKey("exposure.expid"), doc="Number of the exposure")
    tileid = column(Integer, index=True, doc="Number of the tile, a pointing with its fiber assignment")
    mjd = column(Double, unit="d", doc="Start of the exposure, modified Julian date")
    exptime = column(REAL, unit="s", doc="Exposure time")
    ebv = column(REAL, unit="mag", doc="Galactic reddening E(B-V)")
    camera = column(String(2), choices=CAMERAS, doc="Camera: arm b, r or z and number of the spectrograph")
    tsnr2_gpbdark = column(
        REAL, doc="Squared template signal-to-noise ratio for the guide pixel brightness of dark time"
    )
    tsnr2_elg = column(REAL, doc="Squared template signal-to-noise ratio for emission line galaxies")
    tsnr2_gpbbright = column(
        REAL, doc="Squared template signal-to-noise ratio for the guide pixel brightness of bright time"
    )
    tsnr2_lya = column(Double, doc="Squared template signal-to-noise ratio for Lyman alpha forest quasars")
    tsnr2_bgs = column(REAL, doc="Squared template signal-to-noise ratio for bright galaxies")
    tsnr2_gpbbackup = column(
        REAL, doc="Squared template signal-to-noise ratio for the guide pixel brightness of backup time"
    )
    tsnr2_qso = column(REAL, doc="Squared template signal-to-noise ratio for quasars")
    tsnr2_lrg = column(REAL, doc="Squared template signal-to-noise ratio for luminous red galaxies")

    exposure: Mapped[Exposure] = relationship(back_populates="frames")

    @classmethod
    def convert(cls, data: TableLike, row_index: Rows = None) -> list[Frame]:
        """Convert data into objects; see `specprod.model.base.SchemaMixin.objects`."""
        return cls.objects(data, row_index)
