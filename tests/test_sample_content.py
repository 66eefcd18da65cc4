"""What is in a synthetic production: keys and references, values, and the oddities of real files."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy_healpix import HEALPix

from sample_files import SKY_BIT, common, fits_columns, objects, read
from specprod.sample import write_sample
from specprod.sample.sky import Bricks


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clusters of tiles, one of them on the meridian and the equator."""
    root = tmp_path_factory.mktemp("sample")
    write_sample(root, tiles=9, targets_per_tile=150, potentials_per_tile=300, seed=3)
    return root


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("split")
    write_sample(
        root, tiles=8, targets_per_tile=60, potentials_per_tile=90, split=True, extension=True, specprod="iron"
    )
    return root


# --- keys and references ------------------------------------------------------------------------------------


def test_every_target_has_photometry(tree: Path) -> None:
    tractor = common(read(tree, "tractorphot*.fits", "TRACTORPHOT"), "TARGETID")["TARGETID"]
    targets = common(read(tree, "targetphot*.fits", "TARGETPHOT"), "TARGETID", "TILEID")
    assert np.unique(tractor).size == tractor.size
    known = np.union1d(tractor, targets["TARGETID"])
    for pattern, hdu in (
        ("zall-*.fits", "ZCATALOG"),
        ("fiberassign-*", "FIBERASSIGN"),
        ("fiberassign-*", "POTENTIAL_ASSIGNMENTS"),
    ):
        found = objects(common(read(tree, pattern, hdu), "TARGETID"))["TARGETID"]
        assert found.size
        assert np.isin(found, known).all(), (pattern, hdu)
    assert 0 < np.isin(targets["TARGETID"], tractor, invert=True).mean() < 0.2


def test_keys_are_unique(tree: Path) -> None:
    keys = (
        ("zall-pix*", "ZCATALOG", ("TARGETID", "SURVEY", "PROGRAM")),
        ("zall-tile*", "ZCATALOG", ("TARGETID", "SPGRPVAL", "TILEID")),
        ("targetphot*.fits", "TARGETPHOT", ("TARGETID", "TILEID", "SURVEY")),
        ("tiles-*.fits", "TILE_COMPLETENESS", ("TILEID",)),
        ("exposures-*", "EXPOSURES", ("EXPID",)),
        ("exposures-*", "FRAMES", ("EXPID", "CAMERA")),
    )
    for pattern, hdu, names in keys:
        tables = read(tree, pattern, hdu)
        rows = common(tables, *names)
        rows = objects(rows) if "TARGETID" in names else rows
        assert np.unique(rows).size == rows.size, (pattern, hdu)
    for path in tree.rglob("fiberassign-*"):
        fibers = fitsio.read(str(path), ext="FIBERASSIGN")
        reach = fitsio.read(str(path), ext="POTENTIAL_ASSIGNMENTS")
        assert np.unique(fibers["LOCATION"]).size == fibers.size
        assert np.unique(fibers["FIBER"]).size == fibers.size
        pairs = reach["TARGETID"].astype(object) * 10000 + reach["LOCATION"]
        assert np.unique(pairs).size == pairs.size
        assigned = objects(fibers)
        assert np.isin(assigned["TARGETID"].astype(object) * 10000 + assigned["LOCATION"], pairs).all()


def test_rows_refer_to_tiles_exposures_targets(tree: Path) -> None:
    tiles = read(tree, "tiles-*.fits", "TILE_COMPLETENESS")[0]
    exposures = read(tree, "exposures-*", "EXPOSURES")[0]
    frames = read(tree, "exposures-*", "FRAMES")[0]
    assert np.isin(exposures["TILEID"], tiles["TILEID"]).all()
    assert frames.size == 30 * exposures.size
    assert np.isin(frames["EXPID"], exposures["EXPID"]).all()
    assert set(np.unique(frames["CAMERA"])) == {f"{b}{n}" for b in "brz" for n in range(10)}
    names = ("TARGETID", "TILEID", "SURVEY")
    targets = set(common(read(tree, "targetphot*.fits", "TARGETPHOT"), *names).tolist())
    spectra = objects(common(read(tree, "zall-tile*", "ZCATALOG"), *names))
    assert set(spectra.tolist()) <= targets
    assert len(list(tree.rglob("fiberassign-*"))) == tiles.size


def test_neighbouring_tiles_share_targets_and_agree_on_them(tree: Path) -> None:
    tables = read(tree, "targetphot*.fits", "TARGETPHOT")
    same = ("TARGETID", "RA", "DEC", "FLUX_R", "EBV", "PMRA", "LC_MJD_W1")
    rows = {name: np.concatenate([table[name] for table in tables]) for name in same}
    _, first, inverse, number = np.unique(rows["TARGETID"], return_index=True, return_inverse=True, return_counts=True)
    assert (number > 1).mean() > 0.1
    for name in same:
        assert np.array_equal(rows[name], rows[name][first][inverse.ravel()], equal_nan=True)
    spectra = objects(read(tree, "zall-tile*", "ZCATALOG")[0])
    assert spectra["ZCAT_NSPEC"].max() > 1


def test_split_files_have_the_same_keys(split: Path) -> None:
    targets = common(read(split, "targetphot*.fits", "TARGETPHOT"), "TARGETID", "TILEID")
    for path in split.rglob("ztile-*-cumulative.fits"):
        table = objects(fitsio.read(str(path), ext="ZCATALOG"))
        keys = common([table], "TARGETID", "TILEID", "SPGRPVAL")
        assert np.unique(keys).size == keys.size
        assert set(common([table], "TARGETID", "TILEID").tolist()) <= set(targets.tolist())
        fibermap = fitsio.read(str(path), ext="EXP_FIBERMAP")
        assert np.array_equal(np.unique(fibermap["TARGETID"]), np.unique(fitsio.read(str(path), ext=1)["TARGETID"]))


# --- values -------------------------------------------------------------------------------------------------


def test_targetids_tell_brick_and_object(tree: Path) -> None:
    table = np.concatenate(read(tree, "tractorphot*.fits", "TRACTORPHOT"))
    targetid, release = table["TARGETID"], table["TARGETID"] >> 42
    primary = release < 9100
    primary &= release > 9000
    assert 0.9 < primary.mean() < 1
    assert np.array_equal((targetid >> 22 & 0xFFFFF)[primary], table["BRICKID"][primary])
    assert np.array_equal((targetid & 0x3FFFFF)[primary], table["OBJID"][primary])
    assert np.array_equal(release[primary], table["RELEASE"][primary])
    # Those of secondary targets name another source of the brick.
    assert (table["OBJID"][~primary] != (targetid & 0x3FFFFF)[~primary]).all()
    ls_id = table["RELEASE"].astype(int) * 2**40 + table["BRICKID"].astype(int) * 2**16 + table["OBJID"]
    assert np.array_equal(table["LS_ID"], ls_id)
    assert np.array_equal(table["RELEASE"] == 9011, table["DEC"] >= 32.375)
    assert {9010, 9011} == set(np.unique(table["RELEASE"]).tolist())


def test_bricks_are_those_of_the_legacy_surveys() -> None:
    bricks = Bricks()
    assert bricks.columns.sum() == 662174
    assert bricks.number(105.4897745249, 56.6693000583) == 607466
    assert bricks.name([607466]).tolist() == [b"1054p567"]


def test_positions_lie_in_bricks_tiles_and_pixels(tree: Path) -> None:
    tiles = read(tree, "tiles-*.fits", "TILE_COMPLETENESS")[0]
    centre = {int(row["TILEID"]): SkyCoord(row["TILERA"], row["TILEDEC"], unit="deg") for row in tiles}
    pixels = HEALPix(64, order="nested")
    for table in read(tree, "targetphot*.fits", "TARGETPHOT"):
        position = SkyCoord(table["RA"], table["DEC"], unit="deg")
        for tileid in np.unique(table["TILEID"]).tolist():
            here = table["TILEID"] == tileid
            assert position[here].separation(centre[tileid]).deg.max() < 1.6
        assert np.array_equal(table["HPXPIXEL"], pixels.lonlat_to_healpix(position.ra, position.dec))
        inside = table["BRICKID"] > 0
        assert np.array_equal(Bricks().number(table["RA"], table["DEC"])[inside], table["BRICKID"][inside])
    spectra = read(tree, "zall-pix*", "ZCATALOG")[0]
    good = objects(spectra)
    expected = pixels.lonlat_to_healpix(good["TARGET_RA"] * units.deg, good["TARGET_DEC"] * units.deg)
    assert np.array_equal(good["HEALPIX"], expected)
    assert np.array_equal(good["SPGRPVAL"], good["HEALPIX"])
    assert {0, 359} <= set(spectra["TARGET_RA"].astype(int).tolist())


def test_names_are_truncated(tree: Path) -> None:
    spectra = read(tree, "zall-tile*", "ZCATALOG")[0]
    for row in spectra[["DESINAME", "TARGET_RA", "TARGET_DEC"]][::7]:
        ra, dec = math.trunc(row["TARGET_RA"] * 10000), math.trunc(row["TARGET_DEC"] * 10000)
        sign = "-" if dec < 0 else "+"
        expected = f"DESI J{ra // 10000:03d}.{ra % 10000:04d}{sign}{abs(dec) // 10000:02d}.{abs(dec) % 10000:04d}"
        assert row["DESINAME"] == expected


def test_primary_spectra(tree: Path) -> None:
    for name in ("zall-pix*", "zall-tile*"):
        table = read(tree, name, "ZCATALOG")[0]
        groups: dict[int, list[int]] = {}
        for i, targetid in enumerate(table["TARGETID"].tolist()):
            groups.setdefault(targetid, []).append(i)
        for kind, surveys in (("ZCAT", None), ("SV", ("sv1", "sv2", "sv3")), ("MAIN", ("main",))):
            for rows in groups.values():
                mine = [i for i in rows if surveys is None or table["SURVEY"][i] in surveys]
                best = min(mine, key=lambda i: (table["ZWARN"][i] != 0, -table["TSNR2_LRG"][i]), default=None)
                assert [i for i in rows if table[f"{kind}_PRIMARY"][i]] == ([] if best is None else [best])
                assert all(table[f"{kind}_NSPEC"][i] == len(mine) for i in mine)


def test_tiles_sum_up_their_valid_exposures(tree: Path) -> None:
    tiles = read(tree, "tiles-*.fits", "TILE_COMPLETENESS")[0]
    exposures = read(tree, "exposures-*", "EXPOSURES")[0]
    for tile in tiles:
        mine = exposures[(exposures["TILEID"] == tile["TILEID"]) & (exposures["EFFTIME_SPEC"] > 0)]
        assert tile["NEXP"] == mine.size
        assert tile["EFFTIME_SPEC"] == pytest.approx(mine["EFFTIME_SPEC"].sum(), abs=0.06)
        if mine.size:
            assert tile["LASTNIGHT"] == mine["NIGHT"].max()
    with next(tree.rglob("tiles-sample.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["TILEID"]) for row in rows] == tiles["TILEID"].tolist()
    assert [float(row["EFFTIME_SPEC"]) for row in rows] == tiles["EFFTIME_SPEC"].tolist()


# --- oddities -----------------------------------------------------------------------------------------------


def test_oddities_of_real_files_are_there(tree: Path) -> None:
    tiles = read(tree, "tiles-*.fits", "TILE_COMPLETENESS")[0]
    exposures = read(tree, "exposures-*", "EXPOSURES")[0]
    pix = read(tree, "zall-pix*", "ZCATALOG")[0]
    tile = read(tree, "zall-tile*", "ZCATALOG")[0]
    tractor = np.concatenate(read(tree, "tractorphot*.fits", "TRACTORPHOT"))
    targets = read(tree, "targetphot*.fits", "TARGETPHOT")
    fibers = read(tree, "fiberassign-*", "FIBERASSIGN")
    negative = pix["TARGETID"][pix["TARGETID"] < 0]
    found = {
        "tile without valid exposure": (~np.isin(tiles["TILEID"], exposures["TILEID"])).sum(),
        "exposure without effective time": (exposures["EFFTIME_SPEC"] == 0).sum(),
        "NaN in exposures": np.isnan(exposures["SEEING_GFA"]).sum(),
        "NaN in frames": np.isnan(read(tree, "exposures-*", "FRAMES")[0]["TSNR2_LRG"]).sum(),
        "NaN in photometry": np.isnan(tractor["GAIA_ASTROMETRIC_SIGMA5D_MAX"]).sum(),
        "infinity in photometry": np.isinf(tractor["FLUX_IVAR_W1"]).sum(),
        "NaN in redshifts": np.isnan(tile["MEAN_PSF_TO_FIBER_SPECFLUX"]).sum(),
        "NaN proper motion": sum(np.isnan(t["PMRA"]).sum() for t in fibers),
        "sky by bit": (pix["TARGETID"] & SKY_BIT > 0).sum(),
        "negative TARGETID that repeats": negative.size - np.unique(negative).size,
        "stuck fiber": sum((t["FIBERSTATUS"] == 2).sum() for t in fibers),
        "target without brick": sum(((t["RELEASE"] == 0) & (t["BRICKNAME"] == "")).sum() for t in targets),
        "target of which there is no LS_ID": sum((t["BRICKID"] == 0).sum() for t in targets),
        "unsigned byte": (tractor["WISEMASK_W1"] > 127).sum(),
        "blank text": (tractor["REF_CAT"] == "").sum(),
        "bad redshift": (pix["ZWARN"] != 0).sum(),
        "star": (pix["SUBTYPE"] != "").sum(),
        "compressed file": len(list(tree.rglob("fiberassign-*.gz"))),
        "plain file": len(list(tree.rglob("fiberassign-*.fits"))),
        "file without PLATE_RA": sum("PLATE_RA" not in t.dtype.names for t in fibers),
        "other column order": sum(t.dtype.names[0] != "RELEASE" for t in targets),
        "wider integer": sum(t.dtype["GAIA_ASTROMETRIC_PARAMS_SOLVED"].itemsize == 2 for t in targets),
        "absent optional column": sum(n not in pix.dtype.names for n in ("CMX_TARGET", "SV2_DESI_TARGET")),
        "absent petal": 10 * np.unique(tile["TILEID"]).size - np.unique(tile["TILEID"] * 10 + tile["PETAL_LOC"]).size,
    }
    assert [what for what, number in found.items() if not number] == []
    surveys = set(zip(tiles["SURVEY"].tolist(), tiles["PROGRAM"].tolist(), strict=True))
    assert {("main", "dark"), ("main", "bright"), ("main", "backup"), ("sv3", "dark"), ("sv1", "other"),
            ("special", "other"), ("sv3", "bright")} == surveys  # fmt: skip


def test_split_files_differ_in_types_and_columns(split: Path) -> None:
    bright = fits_columns(next(split.rglob("zpix-main-bright.fits")), "ZCATALOG")
    dark = fits_columns(next(split.rglob("zpix-main-dark.fits")), "ZCATALOG")
    assert (bright["ZWARN"][0], dark["ZWARN"][0]) == ("J", "K")
    assert (bright["CHI2"][0], dark["CHI2"][0]) == ("E", "D")
    assert "SURVEY" not in bright
    assert "SURVEY" in dark
    assert "SV1_DESI_TARGET" in fits_columns(next(split.rglob("zpix-sv1-other.fits")), "ZCATALOG")
    header = fitsio.read_header(str(next(split.rglob("zpix-main-bright.fits"))), ext=1)
    assert (header["SURVEY"], header["PROGRAM"]) == ("main", "bright")
    assert {"dark1b", "bright1b"} <= set(common(read(split, "exposures-*", "EXPOSURES"), "PROGRAM")["PROGRAM"].tolist())
