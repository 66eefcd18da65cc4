"""The synthetic production: layout, columns after the data model, keys and references, oddities of real files."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import warnings
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy_healpix import HEALPix

from specprod.cli.main import main
from specprod.errors import ConfigurationError
from specprod.sample import write_sample
from specprod.sample.sky import Bricks

DATAMODEL = Path(__file__).resolve().parents[2] / "shared" / "datamodel"
SKY_BIT = 1 << 59


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


def read(root: Path, pattern: str, hdu: str) -> list[np.ndarray]:
    files = sorted(root.rglob(pattern))
    assert files, pattern
    return [fitsio.read(str(path), ext=hdu) for path in files]


def common(tables: list[np.ndarray], *names: str) -> np.ndarray:
    return np.concatenate([np.rec.fromarrays([t[n] for n in names], names=list(names)) for t in tables])


def objects(table: np.ndarray) -> np.ndarray:
    return table[(table["TARGETID"] > 0) & (table["TARGETID"] & SKY_BIT == 0)]


def digests(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# --- layout -------------------------------------------------------------------------------------------------


def test_layout_of_iron(split: Path) -> None:
    expected = [
        "spectro/redux/iron/tiles-iron.fits",
        "spectro/redux/iron/tiles-iron.csv",
        "spectro/redux/iron/exposures-iron.fits",
        "spectro/redux/iron/zcatalog/v1/zpix-main-dark.fits",
        "spectro/redux/iron/zcatalog/v1/ztile-main-dark-cumulative.fits",
        "vac/dr1/lsdr9-photometry/iron/v1.1/potential-targets/targetphot-potential-main-dark-iron.fits",
        "target/fiberassign/tiles/tags/1.1/001/fiberassign-001200.fits",
        "target/fiberassign/tiles/tags/1.1/021/fiberassign-021001.fits.gz",
    ]
    assert [path for path in expected if not (split / path).is_file()] == []
    assert len(list((split / "vac/dr1/lsdr9-photometry/iron/v1.1/potential-targets/tractorphot").iterdir())) > 1


def test_layout_of_fuji(tmp_path: Path) -> None:
    write_sample(tmp_path, tiles=1, targets_per_tile=20, potentials_per_tile=40, specprod="fuji", compressed=False)
    for kind in ("pix", "tilecumulative"):
        assert (tmp_path / f"vac/edr/zcat/fuji/v1.0/zall-{kind}-edr-vac.fits").is_file()
    potential = tmp_path / "vac/edr/lsdr9-photometry/fuji/v2.1/potential-targets"
    assert [path.name for path in potential.glob("targetphot*.fits")] == ["targetphot-potential-fuji.fits"]
    assert not list(tmp_path.rglob("*.gz"))
    assert (tmp_path / "target/fiberassign/tiles/tags/0.5/001/fiberassign-001200.fits").is_file()


def test_layout_of_daily(tmp_path: Path) -> None:
    write_sample(tmp_path, tiles=1, targets_per_tile=20, potentials_per_tile=40, specprod="daily", compact=True)
    with fitsio.FITS(str(tmp_path / "spectro/redux/daily/tiles-daily.fits")) as file:
        assert file[1].get_extname() == "TILES"
    assert not (tmp_path / "vac").exists()
    assert not (tmp_path / "spectro/redux/daily/zcatalog").exists()
    assert list(tmp_path.glob("spectro/redux/daily/tiles/cumulative/1200/*/redrock-0-1200-thru*.fits"))
    assert list(tmp_path.glob("target/fiberassign/tiles/trunk/001/fiberassign-001200.fits"))


# --- columns ------------------------------------------------------------------------------------------------

FILES = {
    "tiles.csv": "tiles-sample.fits",
    "exposures.csv": "exposures-sample.fits",
    "tractorphot.csv": "tractorphot*.fits",
    "targetphot.csv": "targetphot-potential-main-dark-sample.fits",
    "fiberassign.csv": "fiberassign-001200.fits",
    "zpix.csv": "zall-pix-sample.fits",
    "ztile.csv": "zall-tilecumulative-sample.fits",
}
# Of the redshift catalogues only those of one survey and program have this HDU.
SPLIT_ONLY = {"EXP_FIBERMAP"}


def model_type(text: str) -> tuple[str, int]:
    """FITS code and repeat of a type of the data model; the repeat of ``char[*]`` is 0: any."""
    codes = {"logical": "L", "binary": "B", "uint8": "B", "int16": "I", "int32": "J", "int64": "K",
             "float32": "E", "float64": "D", "char": "A"}  # fmt: skip
    name, width = re.fullmatch(r"(\w+)(?:\[(\d+|\*)\])?", text).groups()
    return codes[name], {None: 1, "*": 0}.get(width) if width in (None, "*") else int(width)


def fits_columns(path: Path, hdu: str) -> dict[str, tuple[str, int, str]]:
    with fitsio.FITS(str(path)) as file:
        header = file[hdu].read_header()
    found = {}
    for i in range(1, header["TFIELDS"] + 1):
        repeat, code = re.fullmatch(r"(\d*)(\w)", header[f"TFORM{i}"].strip()).groups()
        found[header[f"TTYPE{i}"].strip()] = (code, int(repeat or 1), header.get(f"TUNIT{i}", "").strip())
    return found


@pytest.mark.parametrize("model", FILES)
def test_columns_are_those_of_the_data_model(model: str, tree: Path) -> None:
    if not DATAMODEL.is_dir():
        warnings.warn("NOT TESTED: the survey's data model is absent", stacklevel=1)
        pytest.skip(f"the data model is not at {DATAMODEL}")
    for path in tree.rglob(FILES[model]):
        with (DATAMODEL / model).open() as file:
            rows = [row for row in csv.DictReader(file) if row["hdu"] not in SPLIT_ONLY]
        tables = {hdu: fits_columns(path, hdu) for hdu in {row["hdu"] for row in rows}}
        for row in rows:
            columns = tables[row["hdu"]]
            if row["column"] not in columns:
                assert row["optional"] == "optional", (path.name, row)
                continue
            code, repeat, unit = columns[row["column"]]
            expected, width = model_type(row["type"])
            assert code == expected, (path.name, row)
            assert repeat == width or not width, (path.name, row)
            assert unit == row["unit"], (path.name, row)


def test_compact_leaves_out_vectors_that_no_table_holds(tmp_path: Path) -> None:
    sizes = {}
    for compact in (True, False):
        root = tmp_path / str(compact)
        sizes[compact] = write_sample(root, tiles=1, targets_per_tile=20, potentials_per_tile=40, compact=compact).bytes
    table = read(tmp_path / "True", "tractorphot*.fits", "TRACTORPHOT")[0]
    assert not [name for name in table.dtype.names if name.startswith(("LC_", "APFLUX"))]
    assert {"DCHISQ", "FLUX_W4", "LS_ID"} <= set(table.dtype.names)
    assert sizes[True] < 0.8 * sizes[False]


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


# --- numbers, seeds, errors ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_sample(tmp_path / name, tiles=2, targets_per_tile=20, potentials_per_tile=40, seed=seed, tile_inputs=True)
    first, second, third = (digests(tmp_path / name) for name in "abc")
    assert first == second
    assert len([name for name in first if third.get(name) != first[name]]) > 10


def test_numbers_of_a_large_tile(tmp_path: Path) -> None:
    write_sample(
        tmp_path,
        tiles=1,
        targets_per_tile=417,
        potentials_per_tile=2018,
        sky_fibers=83,
        sky_targets=12696,
        compact=True,
    )
    path = next(tmp_path.rglob("fiberassign-001200.fits"))
    fibers, targets = (fitsio.read(str(path), ext=hdu) for hdu in ("FIBERASSIGN", "TARGETS"))
    assert (fibers.size, (fibers["OBJTYPE"] == "TGT").sum()) == (500, 417)
    assert (targets.size, objects(targets).size) == (14714, 2018)
    assert fitsio.read(str(path), ext="POTENTIAL_ASSIGNMENTS").size == pytest.approx(16388, rel=0.001)


def test_fiberassign_header_names_the_catalogues(tree: Path) -> None:
    header = fitsio.read_header(str(next(tree.rglob("fiberassign-001200.fits"))))
    assert header["TILEID"] == 1200
    assert header["SURVEY"] == "main"
    assert (header["TILERA"], header["TILEDEC"]) == (143.82, 32.375)
    for key in ("TARG", "TARG2", "SCND", "TOO"):
        assert header[key].startswith("DESIROOT/")


@pytest.mark.parametrize(
    "numbers",
    [
        {"tiles": 0},
        {"targets_per_tile": 100, "potentials_per_tile": 50},
        {"targets_per_tile": 5000, "potentials_per_tile": 6000},
        {"sky_fibers": 100, "sky_targets": 50},
        {"potentials_per_tile": 50000, "radius": 0.2},
        {"seed": -1},
        {"radius": 5.0},
    ],
)
def test_numbers_that_do_not_fit(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        write_sample(tmp_path / "sample", **numbers)


def test_overwrite_removes_the_old_sample_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "sample"
    write_sample(root, tiles=3, targets_per_tile=20, potentials_per_tile=40)
    (root / "mine.txt").write_text("kept")
    with pytest.raises(ConfigurationError, match="not empty"):
        write_sample(root, tiles=1, targets_per_tile=20, potentials_per_tile=40)
    summary = write_sample(root, tiles=1, targets_per_tile=20, potentials_per_tile=40, overwrite=True)
    left = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
    assert left == set(summary.files) | {Path("mine.txt")}
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("not ours")
    with pytest.raises(ConfigurationError, match="no sample"):
        write_sample(other, overwrite=True)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "sample"
    arguments = ["sample", str(root), "--tiles", "2", "--assigned", "40", "--potential", "80", "--seed", "1"]
    assert main([*arguments, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert sorted(summary["files"]) == sorted(str(path.relative_to(root)) for path in files)
    assert summary["bytes"] == sum(path.stat().st_size for path in files) < 1_500_000
    assert summary["rows"]["FRAMES"] == 30 * summary["rows"]["EXPOSURES"]
    assert main(arguments) == 2
    assert "not empty" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert "FRAMES" in capsys.readouterr().out
