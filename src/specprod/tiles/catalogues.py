"""Photometry from the survey's own catalogues: those of targets, and those of the Legacy Surveys brick by brick."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specprod.errors import InputError, MissingColumnError, MissingFileError
from specprod.files.opening import open_table
from specprod.files.tables import Chunk
from specprod.files.tree import relative_name, with_or_without_gz
from specprod.model import Photometry, Target
from specprod.survey.bricks import NORTH, brickid, brickname
from specprod.survey.identifiers import decode_targetid
from specprod.tiles.merging import file_columns, merged
from specprod.tiles.sky import pixels
from specprod.tiles.sources import PhotometrySource, Wanted, labelled

if TYPE_CHECKING:
    from astropy.table import Table

    from specprod.files.tree import ProductionTree

__all__ = ["DR9_RELEASES", "MISSING_BRICKS", "SurveyCatalogues"]

logger = logging.getLogger(__name__)

#: Releases of DR9's Tractor catalogues and the half of the sky that each belongs to. Other numbers in a TARGETID, such
#: as 8888 of secondary targets and 9999 of targets of opportunity, do not stand for a source.
DR9_RELEASES: Mapping[int, str] = {9010: "south", 9011: "north", 9012: "south"}

#: What becomes of targets whose brick has no catalogue: an error, or photometry of target selection.
MISSING_BRICKS = ("fail", "targeting")

#: Greatest distance of a target from its source, in arcseconds.
MATCH_RADIUS = 1.0

Rows = npt.NDArray[np.int64]

_PIXEL = re.compile(r"-hp-(\d+)\.fits(\.gz)?$")
# The order in which catalogues count where a target is in several: primary, secondary, of opportunity.
_KEYWORDS = tuple(re.compile(rf"{kind}\d*") for kind in ("TARG", "SCND", "TOO"))


def _unit_vectors(ra: npt.ArrayLike, dec: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Positions in degrees as vectors of length 1, shape (n, 3)."""
    lon, lat = np.radians(np.asarray(ra, dtype=np.float64)), np.radians(np.asarray(dec, dtype=np.float64))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


@dataclass(frozen=True, eq=False)
class _Sought:
    """Targets of which sources are sought, an array element each.

    Attributes
    ----------
    targetid : numpy.ndarray of int64
    ra, dec : numpy.ndarray of float64
        In degrees.
    release, brickid, objid : numpy.ndarray of int64
        Identity of the source in DR9, if the TARGETID says it; else 0, the brick at the place of the target, and -1.
    """

    targetid: Rows
    ra: npt.NDArray[np.float64]
    dec: npt.NDArray[np.float64]
    release: Rows
    brickid: Rows
    objid: Rows

    @classmethod
    def of(cls, targets: Table) -> _Sought:
        """Decode the TARGETIDs of a table."""
        targetid, ra, dec = (np.asarray(targets[name]) for name in ("TARGETID", "RA", "DEC"))
        bits = decode_targetid(targetid)
        told = np.isin(bits["release"], list(DR9_RELEASES))
        told &= (bits["mock"] == 0) & (bits["sky"] == 0) & (bits["gaiadr"] == 0)
        return cls(
            targetid,
            ra,
            dec,
            np.where(told, bits["release"], 0),
            np.where(told, bits["brickid"], brickid(ra, dec)),
            np.where(told, bits["objid"], -1),
        )

    def take(self, rows: Rows) -> _Sought:
        """Select targets by index."""
        return _Sought(*(getattr(self, field.name)[rows] for field in fields(self)))

    def by_position(self) -> _Sought:
        """Forget what the TARGETIDs say."""
        return replace(
            self,
            release=np.zeros_like(self.release),
            brickid=brickid(self.ra, self.dec),
            objid=np.full_like(self.objid, -1),
        )


class SurveyCatalogues(PhotometrySource):
    """Reads the target catalogues that headers of fiberassign files name, and the Tractor catalogues of bricks.

    Parameters
    ----------
    tree : ProductionTree
    missing_bricks : str
        One of `MISSING_BRICKS`.
    """

    def __init__(self, tree: ProductionTree, *, missing_bricks: str = "fail") -> None:
        super().__init__(tree)
        self.missing_bricks = missing_bricks

    # ---- targets

    def targeting(self, wanted: Sequence[Wanted]) -> dict[int, Table]:
        """Find the rows of these targets; see `PhotometrySource`.

        What a catalogue does not have is 0 or blank: those of secondary targets and of targets of opportunity have
        little more than positions.
        """
        places = {item.tileid: self._places(item) for item in wanted}
        rows: dict[Path, list[tuple[Chunk, npt.NDArray[np.int64]]]] = {}
        for place, key in {place: key for found in places.values() for place, key in found.items()}.items():
            users = [item.targets for item in wanted if place in places[item.tileid]]
            rows[place] = list(self._rows_of(place, key, users))
        tables = {}
        for item in wanted:
            left = np.asarray(item.targets["TARGETID"])
            parts = []
            for chunk, targetid in (pair for path in places[item.tileid] for pair in rows[path]):
                distinct, first = np.unique(targetid, return_index=True)
                mine = np.sort(first[np.isin(distinct, left)])
                if mine.size:
                    parts.append(chunk.take(mine))
                    left = np.setdiff1d(left, targetid[mine])
            if parts:
                tables[item.tileid] = labelled(merged(parts, Photometry, Target, fill=True), item)
        return tables

    def _places(self, item: Wanted) -> dict[Path, str]:
        """Directories and files that the header of a tile names, in the order in which they count, with their keys."""
        found: dict[Path, str] = {}
        for keyword in _KEYWORDS:
            for key in sorted(name for name in item.header if keyword.fullmatch(name)):
                text = str(item.header[key]).strip()
                if text not in ("", "-"):
                    try:
                        found.setdefault(self.tree.named_in_header(text, key), key)
                    except InputError as error:
                        error.file = str(self.tree.fiberassign(item.tileid))
                        raise
        return found

    def _rows_of(self, place: Path, key: str, users: Sequence[Table]) -> Iterator[tuple[Chunk, npt.NDArray[np.int64]]]:
        """Yield the rows of a catalogue that some tiles want, file by file, with their TARGETIDs."""
        wanted = np.unique(np.concatenate([np.asarray(table["TARGETID"]) for table in users]))
        for path in self._files_of(place, key, users):
            # In a directory that is allowed there may be a link to a file that is not.
            self._check(path, key)
            with open_table(path) as reader:
                chunk = reader.view()
                targetid = chunk.integers("TARGETID")
                rows = np.flatnonzero(np.isin(targetid, wanted))
            if rows.size:
                yield chunk.take(rows), targetid[rows]

    def _check(self, path: Path, key: str) -> None:
        self.tree.places.check(self.tree.root, path, f"header key {key} leads to {path}")

    def _files_of(self, place: Path, key: str, users: Sequence[Table]) -> list[Path]:
        """Files of a catalogue; of one that is split by HEALPix pixel only those where targets are."""
        if place.is_file():
            return [place]
        if not place.is_dir():
            try:
                return [with_or_without_gz(place)]
            except MissingFileError:
                # Whether it is needed shows when all others have been read.
                logger.warning("%s: a catalogue that header key %s of a tile names is not there", place, key)
                return []
        files = sorted(place.glob("*.fits")) + sorted(place.glob("*.fits.gz")) + sorted(place.glob("*.ecsv"))
        by_pixel = {int(match[1]): path for path in files if (match := _PIXEL.search(path.name))}
        if not by_pixel:
            return files
        first = next(iter(by_pixel.values()))
        self._check(first, key)
        with open_table(first) as reader:
            nside = reader.header.get("FILENSID")
        if nside is None:
            raise MissingColumnError(
                "the header of a catalogue split by pixel must say how", file=first, column="FILENSID"
            )
        wanted = np.unique(np.concatenate([pixels(table["RA"], table["DEC"], int(nside)) for table in users])).tolist()
        return [by_pixel[pixel] for pixel in wanted if pixel in by_pixel]

    # ---- Tractor

    def tractor(self, targets: Table) -> Table:
        """Find the sources of these targets; see `PhotometrySource`.

        A TARGETID with a RELEASE of DR9 says which source of which brick it is. A target whose TARGETID does not say
        it, or says it of a source that is not there, has the nearest primary source of the brick at its place, if that
        lies within 1 arcsec.
        """
        sought = _Sought.of(targets)
        files, absent = self._bricks(sought)
        if absent and self.missing_bricks == "fail":
            names = ", ".join(sorted(relative_name(path, self.tree.root) for path in absent))
            what = "1 Tractor catalogue" if len(absent) == 1 else f"{len(absent)} Tractor catalogues"
            raise MissingFileError(f"{what} that TARGETIDs name: no such file {names}", file=self.tree.root)
        found = self._in_files(files, sought)
        unmatched = (sought.release > 0) & ~np.isin(sought.targetid, _targetids(found))
        # Of an absent brick nothing is known: a source of another catalogue would be a guess.
        unmatched[np.concatenate([*absent.values(), np.zeros(0, dtype=np.int64)])] = False
        if unmatched.any():
            others = sought.take(np.flatnonzero(unmatched)).by_position()
            at_place = self._in_files(self._bricks(others)[0], others)
            logger.warning(
                "%d targets name a source that its brick does not have, for example TARGETID %d; "
                "%d of them have a primary source at their place",
                others.targetid.size,
                int(others.targetid[0]),
                _targetids(at_place).size,
            )
            found += at_place
        return merged(found, Photometry)

    def absent_bricks(self, targets: Table) -> list[Path]:
        """List catalogues that are not there; see `PhotometrySource`."""
        return sorted(self._bricks(_Sought.of(targets))[1]) if self.missing_bricks != "fail" else []

    def _bricks(self, sought: _Sought) -> tuple[dict[Path, Rows], dict[Path, Rows]]:
        """Group targets by the catalogues of their bricks: those that are there, and those named that are not."""
        files: dict[Path, list[Rows]] = {}
        absent: dict[Path, list[Rows]] = {}
        if not sought.targetid.size:
            return {}, {}
        # Few bricks and many targets: each brick is looked up once.
        key = np.stack([sought.brickid, sought.release, (sought.dec >= NORTH).astype(np.int64)])
        distinct, inverse = np.unique(key, axis=1, return_inverse=True)
        order = np.argsort(inverse.ravel(), kind="stable")
        groups = np.split(order, np.cumsum(np.bincount(inverse.ravel(), minlength=distinct.shape[1]))[:-1])
        for (number, release, in_north), group in zip(distinct.T.tolist(), groups, strict=True):
            name = brickname(number)
            own = DR9_RELEASES.get(release)
            halves = (own,) if own is not None else ("north", "south") if in_north else ("south", "north")
            for half in halves:
                with contextlib.suppress(MissingFileError):
                    files.setdefault(with_or_without_gz(self.tree.tractor(half, name)), []).append(group)
                    break
            else:
                # Where no TARGETID names it, the place is one that the Legacy Surveys did not see.
                if own is not None:
                    absent.setdefault(self.tree.tractor(own, name), []).append(group)
        joined = ({path: np.concatenate(parts) for path, parts in found.items()} for found in (files, absent))
        return next(joined), next(joined)

    def _in_files(self, files: Mapping[Path, Rows], sought: _Sought) -> list[dict[str, Any]]:
        """Read the columns of the sources of catalogues that belong to targets, with TARGETID."""
        found = []
        wanted = {name for names, *_ in file_columns(Photometry) for name in names}
        for path, rows in files.items():
            mine = sought.take(rows)
            with open_table(path) as reader:
                reader.require("RELEASE", "BRICKID", "OBJID", "RA", "DEC", "BRICK_PRIMARY")
                chunk = reader.view()
            row = np.full(rows.size, -1, dtype=np.int64)
            told = mine.release > 0
            if told.any():
                row[told] = _rows_by_identity(chunk, mine.take(np.flatnonzero(told)))
            if not told.all():
                row[~told] = _rows_by_position(chunk, mine.ra[~told], mine.dec[~told])
            matched = np.flatnonzero(row >= 0)
            if matched.size:
                chosen = chunk.take(row[matched])
                columns = {name: chosen[name] for name in wanted if name in chosen}
                found.append(columns | {"TARGETID": mine.targetid[matched]})
        return found


def _targetids(found: Sequence[Mapping[str, npt.NDArray[Any]]]) -> npt.NDArray[np.int64]:
    return np.concatenate([*(part["TARGETID"] for part in found), np.zeros(0, dtype=np.int64)])


def _rows_by_identity(chunk: Chunk, sought: _Sought) -> Rows:
    """Row of the source with the RELEASE, BRICKID and OBJID of each target, -1 where there is none."""
    rows = _rows_by_number(chunk, sought.objid)
    there = np.flatnonzero(rows >= 0)
    sources = chunk.take(rows[there])
    same = sources.integers("RELEASE") == sought.release[there]
    same &= sources.integers("BRICKID") == sought.brickid[there]
    rows = rows.copy()
    rows[there[~same]] = -1
    return rows


def _rows_by_number(chunk: Chunk, objid: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Row of each object number, -1 where there is none.

    In most catalogues the number is that of the row. Looking there first saves reading the column, and with rows of
    some thousand bytes that is to read the file.
    """
    if chunk.nrows and int(objid.max()) < chunk.nrows and np.array_equal(chunk.take(objid)["OBJID"], objid):
        return objid
    numbers = chunk.integers("OBJID")
    order = np.argsort(numbers, kind="stable")
    place = np.minimum(np.searchsorted(numbers[order], objid), max(numbers.size - 1, 0))
    rows = order[place] if numbers.size else np.zeros(objid.size, dtype=np.int64)
    return np.where(numbers[rows] == objid if numbers.size else False, rows, -1)


def _rows_by_position(chunk: Chunk, ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Row of the nearest primary source of a brick to each position, -1 where none is within the radius."""
    from scipy.spatial import cKDTree

    primary = np.flatnonzero(chunk["BRICK_PRIMARY"])
    if not primary.size:
        return np.full(ra.size, -1, dtype=np.int64)
    sources = chunk.take(primary)
    # The chord of an angle: 2 sin(angle / 2).
    reach = 2 * np.sin(np.radians(MATCH_RADIUS / 3600) / 2)
    distance, nearest = cKDTree(_unit_vectors(sources["RA"], sources["DEC"])).query(_unit_vectors(ra, dec))
    return np.where(distance <= reach, primary[nearest], -1)
