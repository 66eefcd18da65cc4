"""The synthetic production: layout, columns after the data model, keys and references, oddities of real files."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import warnings
from pathlib import Path

import fitsio
import pytest

from sample_files import fits_columns, objects, read
from specprod.cli.main import main
from specprod.errors import ConfigurationError
from specprod.sample import write_sample

DATAMODEL = Path(__file__).resolve().parents[2] / "shared" / "datamodel"


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
SPLIT_ONLY = frozenset({"EXP_FIBERMAP"})


def model_type(text: str) -> tuple[str, int]:
    """FITS code and repeat of a type of the data model; the repeat of ``char[*]`` is 0: any."""
    codes = {"logical": "L", "binary": "B", "uint8": "B", "int16": "I", "int32": "J", "int64": "K",
             "float32": "E", "float64": "D", "char": "A"}  # fmt: skip
    name, width = re.fullmatch(r"(\w+)(?:\[(\d+|\*)\])?", text).groups()
    return codes[name], {None: 1, "*": 0}.get(width) if width in (None, "*") else int(width)


def require_data_model() -> None:
    if not DATAMODEL.is_dir():
        # Those who have the checkout alone have no copy of it, on whatever machine.
        warnings.warn("NOT TESTED: the survey's data model is absent", stacklevel=2)
        pytest.skip("the survey's data model is not at ../shared/datamodel beside the checkout")


def check_columns(path: Path, model: str, hdus: set[str] | None = None, without: frozenset[str] = frozenset()) -> int:
    """Compare name, type, width and unit of all columns of these HDUs; return how many there were."""
    with (DATAMODEL / model).open() as file:
        rows = [row for row in csv.DictReader(file) if row["hdu"] not in without and (not hdus or row["hdu"] in hdus)]
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
    return len(rows)


@pytest.mark.parametrize("model", FILES)
def test_columns_are_those_of_the_data_model(model: str, tree: Path) -> None:
    require_data_model()
    files = list(tree.rglob(FILES[model]))
    assert files
    for path in files:
        assert check_columns(path, model, without=SPLIT_ONLY) > 20


def test_columns_of_split_files(tmp_path: Path) -> None:
    require_data_model()
    write_sample(tmp_path, tiles=2, targets_per_tile=20, potentials_per_tile=40, split=True)
    assert check_columns(next(tmp_path.rglob("zpix-main-dark.fits")), "zpix.csv") > 150
    assert check_columns(next(tmp_path.rglob("ztile-main-dark-cumulative.fits")), "ztile.csv") > 150
    assert check_columns(next(tmp_path.rglob("zpix-main-bright.fits")), "zpix.csv", {"EXP_FIBERMAP"}) > 20


def test_columns_of_redrock_files(tmp_path: Path) -> None:
    require_data_model()
    write_sample(tmp_path, tiles=1, targets_per_tile=20, potentials_per_tile=40, tile_inputs=True)
    assert check_columns(next(tmp_path.rglob("redrock-5-1200-*.fits")), "redrock-tile.csv") > 150
    tractor = fits_columns(next(tmp_path.rglob("tractor-*.fits")), "TRACTOR")
    production = fits_columns(next(tmp_path.rglob("tractorphot-*.fits")), "TRACTORPHOT")
    assert {name: production[name] for name in tractor} == tractor
    assert set(production) - set(tractor) == {"LS_ID", "TARGETID"}


def test_compact_leaves_out_vectors_that_no_table_holds(tmp_path: Path) -> None:
    sizes = {}
    for compact in (True, False):
        root = tmp_path / str(compact)
        sizes[compact] = write_sample(root, tiles=1, targets_per_tile=20, potentials_per_tile=40, compact=compact).bytes
    table = read(tmp_path / "True", "tractorphot*.fits", "TRACTORPHOT")[0]
    assert not [name for name in table.dtype.names if name.startswith(("LC_", "APFLUX"))]
    assert {"DCHISQ", "FLUX_W4", "LS_ID"} <= set(table.dtype.names)
    assert sizes[True] < 0.8 * sizes[False]


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


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden"])
def test_names_that_would_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="no name"):
        write_sample(tmp_path / "sample", specprod=name)
    assert not (tmp_path / "sample").exists()


def test_a_directory_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["sample", str(tmp_path / "file" / "sample")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unfinished_sample_can_be_overwritten(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path, tiles=5, targets_per_tile=20, potentials_per_tile=40, progress=stop)
    assert not json.loads((tmp_path / "sample.json").read_text())["complete"]
    summary = write_sample(tmp_path, tiles=1, targets_per_tile=20, potentials_per_tile=40, overwrite=True)
    left = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(summary.files)
