"""Inputs of tile loads: redrock files, target catalogues and bricks, which agree with the production's own files."""

from __future__ import annotations

from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy_healpix import HEALPix

from specprod.sample import write_sample

ROOTED = "DESIROOT/"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inputs")
    write_sample(root, tiles=4, targets_per_tile=120, potentials_per_tile=400, seed=2, tile_inputs=True, compact=True)
    return root


def read(root: Path, pattern: str, hdu: str | int = 1) -> list[np.ndarray]:
    files = sorted(root.rglob(pattern))
    assert files, pattern
    return [fitsio.read(str(path), ext=hdu) for path in files]


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return np.array_equal(left, right, equal_nan=left.dtype.kind == "f")


def tile_targets(root: Path) -> dict[int, tuple[dict[str, object], np.ndarray]]:
    """By tile: header of the fiberassign file, and its targets that are not sky."""
    found = {}
    for path in root.rglob("fiberassign-*"):
        header = dict(fitsio.read_header(str(path)))
        targets = fitsio.read(str(path), ext="TARGETS")
        targets = targets[(targets["TARGETID"] > 0) & (targets["TARGETID"] >> 59 & 1 == 0)]
        found[int(header["TILEID"])] = header, targets
    return found


def catalogue_rows(root: Path, header: dict[str, object], targets: np.ndarray) -> list[Table]:
    """Rows of the catalogues that the header names for these targets, found by pixel where there are pixels."""
    tables = []
    for key in ("TARG", "TARG2"):
        directory = root / str(header[key]).removeprefix(ROOTED)
        files = sorted(directory.glob("*-hp-*.fits"))
        nside = fitsio.read_header(str(files[0]), ext=1)["FILENSID"]
        pixels = HEALPix(nside, order="nested").lonlat_to_healpix(targets["RA"] * units.deg, targets["DEC"] * units.deg)
        wanted = {f"hp-{pixel}.fits" for pixel in np.unique(pixels).tolist()}
        chosen = [path for path in files if path.name.partition("-hp-")[2] in {n.removeprefix("hp-") for n in wanted}]
        tables += [Table(fitsio.read(str(path), ext=1)) for path in chosen]
    (secondary,) = (root / str(header["SCND"]).removeprefix(ROOTED)).glob("*-secondary.fits")
    tables.append(Table(fitsio.read(str(secondary), ext=1)))
    tables.append(Table.read(root / str(header["TOO"]).removeprefix(ROOTED), format="ascii.ecsv"))
    return tables


def test_target_catalogues_equal_targetphot(tree: Path) -> None:
    production = np.concatenate([t[sorted(t.dtype.names)] for t in read(tree, "targetphot-*main-dark*.fits")])
    kinds = set()
    checked = 0
    for tileid, (header, targets) in tile_targets(tree).items():
        expected = production[production["TILEID"] == tileid]
        if not expected.size:
            continue
        expected = expected[np.argsort(expected["TARGETID"])]
        seen = np.zeros(expected.size, dtype=int)
        for catalogue in catalogue_rows(tree, header, targets):
            table = catalogue[np.isin(np.asarray(catalogue["TARGETID"]), expected["TARGETID"])]
            row = np.searchsorted(expected["TARGETID"], table["TARGETID"])
            seen[row] += 1
            for name in table.colnames:
                if name in expected.dtype.names:
                    assert same(expected[name][row], np.asarray(table[name]).astype(expected.dtype[name].base)), name
                    checked += 1
            # What a catalogue lacks is nothing in the production's file.
            for name in set(expected.dtype.names) - set(table.colnames) - {"SURVEY", "PROGRAM", "TILEID"}:
                assert not np.any(expected[name][row].astype(bool)), name
            kinds |= set((expected["TARGETID"] >> 42)[row].tolist())
        assert (seen == 1).all()
    assert checked > 200
    assert {8888, 9999, 9010, 9011} < kinds


def test_bricks_equal_tractorphot(tree: Path) -> None:
    """Each target is matched as the survey does it: by its numbers, or by position within 1 arcsec."""
    production = np.concatenate(read(tree, "tractorphot*.fits"))
    production = production[np.argsort(production["TARGETID"])]
    bricks = {}
    for hemisphere in ("north", "south"):
        for path in (tree / "external/legacysurvey/dr9" / hemisphere / "tractor").rglob("tractor-*.fits"):
            assert path.parent.name == path.stem.removeprefix("tractor-")[:3]
            bricks[hemisphere, path.stem.removeprefix("tractor-")] = fitsio.read(str(path), ext=1)
    wrong_release = {9010: "north", 9011: "south"}
    assert {name for _, name in bricks if ("north", name) in bricks and ("south", name) in bricks}
    sources = np.concatenate(
        [
            table[table["BRICK_PRIMARY"]]
            for (hemisphere, _), table in bricks.items()
            if (table["DEC"].mean() >= 32.375) == (hemisphere == "north")
        ]
    )
    assert not [r for r in np.unique(sources["RELEASE"]).tolist() if r not in wrong_release]
    position = SkyCoord(sources["RA"], sources["DEC"], unit="deg")
    number = {key: i for i, key in enumerate(sources[["RELEASE", "BRICKID", "OBJID"]].tolist())}
    matched, by_position = set(), 0
    for _, targets in tile_targets(tree).values():
        where = SkyCoord(targets["RA"], targets["DEC"], unit="deg")
        nearest, angle, _ = where.match_to_catalog_sky(position)
        for i, targetid in enumerate(targets["TARGETID"].tolist()):
            release = targetid >> 42 & 0xFFFF
            row = None
            if release in wrong_release and targetid < 1 << 59:
                row = number[release, targetid >> 22 & 0xFFFFF, targetid & 0x3FFFFF]
            elif angle[i].arcsec < 1:
                row, by_position = int(nearest[i]), by_position + 1
            at = np.searchsorted(production["TARGETID"], targetid)
            if row is None:
                assert production["TARGETID"][at % production.size] != targetid
                continue
            matched.add(targetid)
            for name in sources.dtype.names:
                assert same(sources[name][row], production[name][at]), (targetid, name)
    assert matched == set(production["TARGETID"].tolist())
    assert by_position > 5


def test_bricks_hold_sources_that_invite_mistakes(tree: Path) -> None:
    tables = read(tree, "tractor-*.fits")
    targets = np.concatenate([targets for _, targets in tile_targets(tree).values()])
    secondary = targets[targets["TARGETID"] >> 42 == 8888]
    where = SkyCoord(secondary["RA"], secondary["DEC"], unit="deg")
    sources = np.concatenate(tables)
    doubles = sources[~sources["BRICK_PRIMARY"]]
    _, angle, _ = where.match_to_catalog_sky(SkyCoord(doubles["RA"], doubles["DEC"], unit="deg"))
    assert (angle.arcsec < 0.1).sum() > 3
    primary = sources[sources["BRICK_PRIMARY"]]
    _, angle, _ = where.match_to_catalog_sky(SkyCoord(primary["RA"], primary["DEC"], unit="deg"))
    assert ((angle.arcsec > 0.15) & (angle.arcsec < 0.9)).sum() > 3
    assert ((angle.arcsec > 1.2) & (angle.arcsec < 1.8)).any()
    assert sources.size > 1.5 * np.unique(targets["TARGETID"]).size


def test_redrock_files_equal_the_redshift_catalogue(tree: Path) -> None:
    catalogue = fitsio.read(str(next(tree.rglob("zall-tilecumulative-sample.fits"))), ext="ZCATALOG")
    names, petals = set(), {}
    for path in sorted((tree / "spectro/redux/sample/tiles/cumulative").rglob("*.fits")):
        kind, petal, tileid, thru = path.stem.split("-")
        names.add(kind)
        petals.setdefault(int(tileid), set()).add(int(petal))
        fits, fibers, exposures, signal = (
            fitsio.read(str(path), ext=hdu)
            for hdu in ("ZBEST" if kind == "zbest" else "REDSHIFTS", "FIBERMAP", "EXP_FIBERMAP", "TSNR2")
        )
        mine = catalogue[(catalogue["TILEID"] == int(tileid)) & (catalogue["PETAL_LOC"] == int(petal))]
        assert path.parent.name == thru.removeprefix("thru") == str(mine["LASTNIGHT"][0])
        for table in (fits, fibers, signal):
            for name in set(table.dtype.names) & set(mine.dtype.names):
                assert same(table[name], mine[name].astype(table.dtype[name].base)), (path.name, name)
                # Narrower types of newer files lose nothing.
                assert same(table[name].astype(mine.dtype[name].base), mine[name]), (path.name, name)
        assert exposures.size == mine.size * mine["COADD_NUMEXP"][0]
        assert exposures["NIGHT"].min() == mine["FIRSTNIGHT"][0]
        assert exposures["MJD"].max() == mine["MAX_MJD"][0]
    assert names == {"redrock", "zbest"}
    assert sorted(len(found) for found in petals.values()) == [8, 10, 10, 10]


def test_redrock_files_differ_in_types_and_columns(tree: Path) -> None:
    types, optional = set(), set()
    for path in (tree / "spectro/redux/sample/tiles/cumulative").rglob("*.fits"):
        fits = fitsio.read(str(path), ext=1, rows=[0])
        types.add((fits["ZWARN"].dtype.itemsize, fits["CHI2"].dtype.itemsize, fits["NCOEFF"].dtype.itemsize))
        fibermap = fitsio.read(str(path), ext="FIBERMAP", rows=[0])
        optional.add(("MIN_MJD" in fibermap.dtype.names, "DESINAME" in fibermap.dtype.names))
    assert types == {(8, 8, 8), (4, 4, 2)}
    assert optional == {(True, False), (False, False), (True, True)}


def test_target_catalogues_reach_further(tmp_path: Path) -> None:
    rows = {}
    for reach in (1.0, 2.5):
        root = tmp_path / str(reach)
        write_sample(
            root, tiles=5, targets_per_tile=20, potentials_per_tile=40, compact=True, tile_inputs=True,
            catalogue_reach=reach,
        )  # fmt: skip
        targets = {path.relative_to(root): fitsio.read(str(path), ext=1) for path in root.rglob("targets-*.fits")}
        for directory in {path.parent for path in targets}:
            ids = np.concatenate([table["TARGETID"] for path, table in targets.items() if path.parent == directory])
            assert np.unique(ids).size == ids.size
        rows[reach] = sum(table.size for table in targets.values())
    assert rows[2.5] > 3 * rows[1.0]
