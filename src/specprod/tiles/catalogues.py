"""Photometry from the survey's own catalogues: those of targets, and those of the Legacy Surveys brick by brick."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specprod.errors import MissingColumnError, MissingFileError
from specprod.files.opening import open_table
from specprod.files.tables import Chunk
from specprod.files.tree import with_or_without_gz
from specprod.model import Photometry, Target
from specprod.survey.bricks import NORTH, brickid, brickname
from specprod.survey.identifiers import decode_targetid
from specprod.tiles.merging import file_columns, merged
from specprod.tiles.sky import pixels
from specprod.tiles.sources import PhotometrySource, Wanted

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["DR9_RELEASES", "SurveyCatalogues"]

logger = logging.getLogger(__name__)

#: Releases of DR9's Tractor catalogues and the half of the sky that each belongs to. Other numbers in a TARGETID, such
#: as 8888 of secondary targets and 9999 of targets of opportunity, do not stand for a source.
DR9_RELEASES: Mapping[int, str] = {9010: "south", 9011: "north", 9012: "south"}

#: Greatest distance of a target from its source, in arcseconds.
MATCH_RADIUS = 1.0

_PIXEL = re.compile(r"-hp-(\d+)\.fits(\.gz)?$")
# The order in which catalogues count where a target is in several: primary, secondary, of opportunity.
_KEYWORDS = tuple(re.compile(rf"{kind}\d*") for kind in ("TARG", "SCND", "TOO"))


def _unit_vectors(ra: npt.ArrayLike, dec: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Positions in degrees as vectors of length 1, shape (n, 3)."""
    lon, lat = np.radians(np.asarray(ra, dtype=np.float64)), np.radians(np.asarray(dec, dtype=np.float64))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


class SurveyCatalogues(PhotometrySource):
    """Reads the target catalogues that headers of fiberassign files name, and the Tractor catalogues of bricks."""

    # ---- targets

    def targeting(self, wanted: Sequence[Wanted]) -> dict[int, Table]:
        """Find the rows of these targets; see `PhotometrySource`.

        What a catalogue does not have is 0 or blank: those of secondary targets and of targets of opportunity have
        little more than positions.
        """
        places = {item.tileid: self._places(item) for item in wanted}
        rows: dict[Path, list[tuple[Chunk, npt.NDArray[np.int64]]]] = {}
        for place in dict.fromkeys(path for paths in places.values() for path in paths):
            users = [item.targets for item in wanted if place in places[item.tileid]]
            rows[place] = list(self._rows_of(place, users))
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
                table = merged(parts, Photometry, Target, fill=True)
                # Catalogues are filed by survey and program, and do not repeat them.
                for name, value in (("TILEID", item.tileid), ("SURVEY", item.survey), ("PROGRAM", item.program)):
                    # A new column: in one that is there, text would be cut to its width.
                    table.remove_columns([name] if name in table.colnames else [])
                    table[name] = np.full(len(table), value)
                tables[item.tileid] = table
        return tables

    def _places(self, item: Wanted) -> list[Path]:
        """Directories and files that the header of a tile names, in the order in which they count."""
        found = []
        for keyword in _KEYWORDS:
            for key in sorted(name for name in item.header if keyword.fullmatch(name)):
                text = str(item.header[key]).strip()
                if text not in ("", "-"):
                    found.append(self.tree.named_in_header(text))
        return list(dict.fromkeys(found))

    def _rows_of(self, place: Path, users: Sequence[Table]) -> Iterator[tuple[Chunk, npt.NDArray[np.int64]]]:
        """Yield the rows of a catalogue that some tiles want, file by file, with their TARGETIDs."""
        wanted = np.unique(np.concatenate([np.asarray(table["TARGETID"]) for table in users]))
        for path in self._files_of(place, users):
            with open_table(path) as reader:
                reader.require("TARGETID")
                chunk = reader.view()
                targetid = np.asarray(chunk["TARGETID"]).astype(np.int64)
                rows = np.flatnonzero(np.isin(targetid, wanted))
            if rows.size:
                self.used.add(path)
                yield chunk.take(rows), targetid[rows]

    def _files_of(self, place: Path, users: Sequence[Table]) -> list[Path]:
        """Files of a catalogue; of one that is split by HEALPix pixel only those where targets are."""
        if place.is_file():
            return [place]
        if not place.is_dir():
            try:
                return [with_or_without_gz(place)]
            except MissingFileError:
                # Whether it is needed shows when all others have been read.
                logger.warning("%s: a catalogue that a tile names is not there", place)
                return []
        files = sorted(place.glob("*.fits")) + sorted(place.glob("*.fits.gz")) + sorted(place.glob("*.ecsv"))
        by_pixel = {int(match[1]): path for path in files if (match := _PIXEL.search(path.name))}
        if not by_pixel:
            return files
        first = next(iter(by_pixel.values()))
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

        A TARGETID with a RELEASE of DR9 says which source of which brick it is. Other targets have the nearest primary
        source of their brick, if it lies within 1 arcsec.
        """
        targetid, ra, dec = (np.asarray(targets[name]) for name in ("TARGETID", "RA", "DEC"))
        bits = decode_targetid(targetid)
        told = np.isin(bits["release"], list(DR9_RELEASES))
        told &= (bits["mock"] == 0) & (bits["sky"] == 0) & (bits["gaiadr"] == 0)
        brick = np.where(told, bits["brickid"], brickid(ra, dec))
        objid = np.where(told, bits["objid"], -1)
        release = np.where(told, bits["release"], 0)
        files: dict[Path, list[npt.NDArray[np.int64]]] = {}
        # Few bricks and many targets: each brick is looked up once.
        key = np.stack([brick, release, (dec >= NORTH).astype(np.int64)])
        distinct, inverse = np.unique(key, axis=1, return_inverse=True)
        order = np.argsort(inverse.ravel(), kind="stable")
        groups = np.split(order, np.cumsum(np.bincount(inverse.ravel(), minlength=distinct.shape[1]))[:-1])
        for (number, of_release, in_north), group in zip(distinct.T.tolist(), groups, strict=True):
            path = self._brick_file(number, of_release, bool(in_north))
            if path is not None:
                files.setdefault(path, []).append(group)
        found: list[dict[str, Any]] = []
        for path, parts_of_file in files.items():
            which = np.concatenate(parts_of_file)
            found += self._sources(path, targetid[which], objid[which], ra[which], dec[which])
        return merged(found, Photometry)

    def _brick_file(self, number: int, release: int, in_north: bool) -> Path | None:
        """Find the catalogue of a brick, that of a release, or else whichever is there."""
        name = brickname(number)
        own = DR9_RELEASES.get(release)
        if own is not None:
            return with_or_without_gz(self.tree.tractor(own, name))
        for hemisphere in ("north", "south") if in_north else ("south", "north"):
            try:
                return with_or_without_gz(self.tree.tractor(hemisphere, name))
            except MissingFileError:
                continue
        return None

    def _sources(
        self,
        path: Path,
        targetid: npt.NDArray[np.int64],
        objid: npt.NDArray[np.int64],
        ra: npt.NDArray[np.float64],
        dec: npt.NDArray[np.float64],
    ) -> Iterator[dict[str, Any]]:
        """Yield columns of the sources of a brick that belong to targets, with TARGETID."""
        with open_table(path) as reader:
            reader.require("OBJID", "RA", "DEC", "BRICK_PRIMARY")
            chunk = reader.view()
        row = np.full(targetid.size, -1, dtype=np.int64)
        told = objid >= 0
        if told.any():
            row[told] = _rows_by_number(chunk, objid[told])
            if (row[told] < 0).any():
                missing = int(targetid[told][row[told] < 0][0])
                logger.warning(
                    "%s: has no source for %d targets whose TARGETID names it, for example %d",
                    path,
                    int((row[told] < 0).sum()),
                    missing,
                )
        if not told.all():
            row[~told] = _rows_by_position(chunk, ra[~told], dec[~told])
        matched = np.flatnonzero(row >= 0)
        if matched.size:
            self.used.add(path)
            chosen = chunk.take(row[matched])
            present = set(chosen)
            wanted = {name for names, *_ in file_columns(Photometry) for name in names if name in present}
            yield {name: chosen[name] for name in wanted} | {"TARGETID": targetid[matched]}


def _rows_by_number(chunk: Chunk, objid: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Row of each object number, -1 where there is none.

    In most catalogues the number is that of the row. Looking there first saves reading the column, and with rows of
    some thousand bytes that is to read the file.
    """
    if len(chunk) and int(objid.max()) < len(chunk) and np.array_equal(chunk.take(objid)["OBJID"], objid):
        return objid
    numbers = np.asarray(chunk["OBJID"]).astype(np.int64)
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
