"""Where the files of a production lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["LAYOUTS", "Layout"]


@dataclass(frozen=True)
class Layout:
    """Versions of a production, of which its paths are made.

    Parameters
    ----------
    specprod, release, photometry, redshift, tiles : str
        Names and versions. Photometry ``computed`` means that there are no photometry files, redshift ``daily`` that
        there are only redrock files, tiles ``trunk`` the fiberassign files that are still at work.
    target_summary : bool
        Whether there is one targetphot file instead of several.
    """

    specprod: str
    release: str
    photometry: str
    target_summary: bool
    redshift: str
    tiles: str

    @property
    def redux(self) -> Path:
        """Directory of the production."""
        return Path("spectro/redux") / self.specprod

    @property
    def zcatalog(self) -> Path:
        """Directory of the redshift catalogues."""
        kind, _, version = self.redshift.partition("/")
        if kind == "zcat":
            return Path("vac") / self.release / "zcat" / self.specprod / version
        return self.redux / "zcatalog" / version

    def zall(self, kind: str) -> Path:
        """Redshift catalogue of `kind` "pix" or "tilecumulative"."""
        name = f"{self.release}-vac" if self.redshift.startswith("zcat/") else self.specprod
        return self.zcatalog / f"zall-{kind}-{name}.fits"

    @property
    def potential(self) -> Path:
        """Directory of the photometry of potential targets."""
        return Path("vac") / self.release / "lsdr9-photometry" / self.specprod / self.photometry / "potential-targets"

    def tractorphot(self, pixel: int) -> Path:
        """Tractor photometry in a HEALPix pixel of nside 2."""
        return self.potential / "tractorphot" / f"tractorphot-potential-nside2-hp{pixel:02d}-{self.specprod}.fits"

    def targetphot(self, survey: str, program: str) -> Path:
        """Targeting photometry of a survey and program, or of all."""
        part = "" if self.target_summary else f"{survey}-{program}-"
        return self.potential / f"targetphot-potential-{part}{self.specprod}.fits"

    def fiberassign(self, tileid: int) -> Path:
        """Fiber assignment of a tile, not compressed."""
        directory = Path("target/fiberassign/tiles") / ("" if self.tiles == "trunk" else "tags") / self.tiles
        return directory / f"{tileid:06d}"[:3] / f"fiberassign-{tileid:06d}.fits"

    def redrock(self, tileid: int, lastnight: int, petal: int, kind: str = "redrock") -> Path:
        """Redshifts of a petal."""
        directory = self.redux / "tiles" / "cumulative" / str(tileid) / str(lastnight)
        return directory / f"{kind}-{petal}-{tileid}-thru{lastnight}.fits"

    def named(self, specprod: str) -> Layout:
        """Give the production another name, and all else as it is."""
        return replace(self, specprod=specprod)


LAYOUTS = {
    layout.specprod: layout
    for layout in (
        Layout("sample", "sample", "v1.0", False, "base", "1.0"),
        Layout("fuji", "edr", "v2.1", True, "zcat/v1.0", "0.5"),
        Layout("guadalupe", "dr1", "v2.1", False, "patch/v1", "1.1"),
        Layout("iron", "dr1", "v1.1", False, "patch/v1", "1.1"),
        Layout("jura", "dr2", "v1.2", False, "patch/v1", "2.0"),
        Layout("kibo", "dr2", "v1.1", False, "patch/v1.1", "2.0"),
        Layout("loa", "dr2", "v1.0", False, "patch/v1", "2.0"),
        Layout("daily", "daily", "computed", False, "daily", "trunk"),
    )
}
