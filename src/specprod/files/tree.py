"""Where the files of a production stand below its root."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from specprod.configuration import Production
from specprod.errors import MissingFileError, printable
from specprod.files.places import Places

__all__ = ["TILES_HDU", "ProductionTree", "RedshiftFile", "relative_name", "with_or_without_gz"]


def relative_name(path: Path, root: Path) -> str:
    """Name a file as the ledger does: relative to the root of the production where it stands below it, else in full.

    Links are followed, so that a file has one name however it is reached.
    """
    path, root = path.resolve(), root.resolve()
    return printable(str(path.relative_to(root) if path.is_relative_to(root) else path))


#: HDU of a tiles file: that of older productions, that of newer ones.
TILES_HDU: Final = ("TILE_COMPLETENESS", "TILES")


def with_or_without_gz(path: Path) -> Path:
    """Find a file under its name, or under that name with ``.gz`` added or taken away.

    Raises
    ------
    MissingFileError
        If there is neither.
    """
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    for candidate in (path, other):
        if candidate.is_file():
            return candidate
    raise MissingFileError(f"no such file, nor {other.name}", file=path)


@dataclass(frozen=True)
class RedshiftFile:
    """A redshift catalogue, and what its name says of all its rows.

    Attributes
    ----------
    path : pathlib.Path
    survey, program : str or None
        None in a catalogue that holds several.
    """

    path: Path
    survey: str | None = None
    program: str | None = None


@dataclass(frozen=True)
class ProductionTree:
    """The files of a production.

    Attributes
    ----------
    root : pathlib.Path
        What the survey calls ``DESI_ROOT``.
    production : Production
        Its name, and the versions of the data that go with it.
    places : Places
        Where the directories are that headers name; by default by the rules that are built in.
    checksums : bool
        Whether files that are not what their CHECKSUM or DATASUM says are an error.
    """

    root: Path
    production: Production
    places: Places = field(default_factory=Places)
    checksums: bool = True

    @property
    def redux(self) -> Path:
        """Directory of the reductions."""
        return self.root / "spectro" / "redux" / self.production.specprod

    @property
    def potential_targets(self) -> Path:
        """Directory of the photometry of all potential targets."""
        name = self.production
        vac = self.root / "vac" / name.release / "lsdr9-photometry"
        return vac / name.specprod / name.photometry / "potential-targets"

    def tiles(self) -> Path:
        """Find the tiles file; some productions have it as CSV only."""
        path = self.redux / f"tiles-{self.production.specprod}.fits"
        return path if path.exists() or not path.with_suffix(".csv").exists() else path.with_suffix(".csv")

    def exposures(self) -> Path:
        """Find the exposures file, with exposures and frames."""
        return self.redux / f"exposures-{self.production.specprod}.fits"

    def tractorphot(self) -> list[Path]:
        """Find the files of Tractor photometry."""
        return _all(self._tractorphot)

    def targetphot(self) -> list[Path]:
        """Find the files of targeting photometry."""
        return _all(self._targetphot)

    @property
    def _tractorphot(self) -> Path:
        return self.potential_targets / "tractorphot" / "tractorphot*.fits"

    @property
    def _targetphot(self) -> Path:
        which = self.production.specprod if self.production.target_summary else "*"
        return self.potential_targets / f"targetphot-potential-{which}.fits"

    def redshifts(self, kind: str) -> tuple[list[RedshiftFile], bool]:
        """Find the redshift catalogues.

        Parameters
        ----------
        kind : str
            ``zpix`` or ``ztile``.

        Returns
        -------
        files : list of RedshiftFile
        complete : bool
            Whether it is one catalogue of everything, which says itself which spectra are primary.

        Raises
        ------
        MissingFileError
            If there are none.
        """
        path = self._catalogue(kind)
        directory = path.parent
        if path.exists() or path.with_name(path.name + ".gz").exists():
            return [RedshiftFile(with_or_without_gz(path))], True
        pattern = {"zpix": r"zpix-(\w+?)-(\w+)\.fits", "ztile": r"ztile-(\w+?)-(\w+)-cumulative\.fits"}[kind]
        files = []
        for candidate in sorted(directory.glob(f"{kind}-*.fits")) if directory.is_dir() else []:
            match = re.fullmatch(pattern, candidate.name)
            if match:
                files.append(RedshiftFile(candidate, match[1], match[2]))
        if not files:
            raise MissingFileError(f"no such file, nor any {kind}-*.fits beside it", file=path)
        return files, False

    def _catalogue(self, kind: str) -> Path:
        """Name the redshift catalogue of everything."""
        name = self.production
        whole = {"zpix": "zall-pix", "ztile": "zall-tilecumulative"}[kind]
        version = name.redshift.partition("/")[2]
        if name.redshift.startswith("zcat/"):
            directory = self.root / "vac" / name.release / "zcat" / name.specprod / version
            return directory / f"{whole}-{name.release}-vac.fits"
        return self.redux / "zcatalog" / version / f"{whole}-{name.specprod}.fits"

    def names(self, table: str, tiles: Collection[int] | None = None) -> list[Path]:
        """Name the files of a table, whether they are there or not; where names are not known, by patterns.

        Parameters
        ----------
        table : str
            One of `specprod.stages.TABLE_NAMES`.
        tiles : collection of int, optional
            Numbers of the tiles, where they are known.
        """
        if table in ("fiberassign", "potential"):
            numbers: Collection[int | None] = tiles or [None]
            return [self._fiberassign_name(self._fiberassign_places[0], tileid) for tileid in numbers]
        return {
            "tile": [self.tiles()],
            "exposure": [self.exposures()],
            "frame": [self.exposures()],
            "photometry": [self._tractorphot, self._targetphot],
            "target": [self._targetphot],
        }.get(table) or [self._catalogue(table)]

    def spectra(self, tileid: int, lastnight: int) -> dict[int, Path]:
        """Find the redshift files of a tile, redrock or, from the first years, zbest.

        Parameters
        ----------
        tileid : int
        lastnight : int
            The night through which its exposures were added up.

        Returns
        -------
        dict of int to pathlib.Path
            By petal; some petals may be absent.

        Raises
        ------
        MissingFileError
            If there are none.
        """
        directory = self.redux / "tiles" / "cumulative" / str(tileid) / str(lastnight)
        for kind in ("redrock", "zbest"):
            pattern = re.compile(rf"{kind}-(\d)-{tileid}-thru{lastnight}\.fits(\.gz)?")
            matches = (pattern.fullmatch(path.name) for path in directory.glob(f"{kind}-*"))
            found = {int(match[1]): directory / match[0] for match in matches if match}
            if found:
                return dict(sorted(found.items()))
        raise MissingFileError(f"no redrock-*-{tileid}-thru{lastnight}.fits, nor zbest-*", file=directory)

    def named_in_header(self, text: str, key: str) -> Path:
        """Find the place that a header of the survey names; see `specprod.files.places.Places.find`."""
        return self.places.find(self.root, text, key)

    def tractor(self, hemisphere: str, brickname: str) -> Path:
        """Name of the Tractor catalogue of a brick, north or south; it need not exist."""
        base = self.root / "external" / "legacysurvey" / "dr9" / hemisphere / "tractor"
        return base / brickname[:3] / f"tractor-{brickname}.fits"

    def fiberassign(self, tileid: int) -> Path:
        """Find the fiber assignment of a tile.

        Raises
        ------
        MissingFileError
            If there is none; the message names the places.
        """
        places = self._fiberassign_places
        directory = next((place for place in places if place.is_dir()), None)
        if directory is None:
            names = ", ".join(relative_name(place, self.root) for place in places)
            raise MissingFileError(f"no directory of fiber assignments: {names}", file=self.root)
        return with_or_without_gz(self._fiberassign_name(directory, tileid))

    @property
    def _fiberassign_places(self) -> list[Path]:
        """Directories in which the fiber assignments may stand, the present layout of the survey first."""
        tiles = self.production.tiles
        base = self.root / "target" / "fiberassign" / "tiles"
        return [base / tiles] if tiles == "trunk" else [base / "tags" / tiles, base / tiles, base / "branches" / tiles]

    @staticmethod
    def _fiberassign_name(directory: Path, tileid: int | None) -> Path:
        number = "??????" if tileid is None else f"{tileid:06d}"
        return directory / number[:3] / f"fiberassign-{number}.fits.gz"


def _all(names: Path) -> list[Path]:
    directory, pattern = names.parent, names.name
    if not directory.is_dir():
        raise MissingFileError("no such directory", file=directory)
    files = sorted(directory.glob(pattern)) or sorted(directory.glob(f"{pattern}.gz"))
    if not files:
        raise MissingFileError(f"holds no {pattern}", file=directory)
    return files
