"""Extraction of right coefficients from catalogues: what the files of a patch hold, and which input is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.table import Table

from sample_files import objects
from specprod import load
from specprod.cli.main import main
from specprod.coeff import ZpixPatch, ZtilePatch, copy_columns
from specprod.errors import ConfigurationError, MissingColumnError, ValueRejectedError
from specprod.model import TABLES
from support.coeff import CATALOGUES, COEFFICIENTS

pytestmark = pytest.mark.compat


@pytest.mark.parametrize("table", ["zpix", "ztile"])
def test_patch_file(table: str, patch_files: list[str], catalogues: dict[str, np.ndarray]) -> None:
    path = patch_files[list(CATALOGUES).index(table)]
    catalogue = catalogues[table]
    assert [hdu.get_extname() for hdu in fitsio.FITS(path)][1:] == ["COEFF_PATCH"]
    patch = fitsio.read(path, ext="COEFF_PATCH")
    keys = {"zpix": ["TARGETID", "SURVEY", "PROGRAM", "HEALPIX"], "ztile": ["TARGETID", "TILEID", "SPGRPVAL"]}[table]
    assert list(patch.dtype.names) == [*keys, "DESINAME", *(name.upper() for name in COEFFICIENTS)]
    for name in [*keys, "DESINAME"]:
        np.testing.assert_array_equal(patch[name], catalogue[name])
    for i in range(10):
        np.testing.assert_array_equal(patch[f"COEFF_{i}"], catalogue["COEFF"][:, i])
    assert not list(Path(path).parent.glob(".*"))


def test_chunks_make_the_same_file(sample_root: Path, patch_files: list[str], tmp_path: Path) -> None:
    words = ["--specprod", "sample", "--output", str(tmp_path), "--chunksize", "7"]
    assert main(["coeff-fix", "extract", str(sample_root), *words]) == 0
    for whole_file in patch_files:
        pieces = tmp_path / Path(whole_file).name
        np.testing.assert_array_equal(fitsio.read(str(pieces), ext=1), fitsio.read(whole_file, ext=1))


def test_catalogues_of_each_survey_and_program(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    sample = ["sample", str(root), "--tiles", "3", "--assigned", "12", "--potential", "20", "--split"]
    assert main(sample) == 0
    assert main(["coeff-fix", "extract", str(root), "--specprod", "sample", "--output", str(tmp_path)]) == 0
    patch = fitsio.read(str(tmp_path / "zall-pix-sample-coeff-patch.fits"), ext="COEFF_PATCH")
    files = sorted(root.rglob("zpix-*.fits"))
    assert len(files) > 1
    expected = set()
    for path in files:
        _, survey, program = path.stem.split("-")
        for row in objects(fitsio.read(str(path), ext="ZCATALOG")):
            expected.add((int(row["TARGETID"]), survey, program, *row["COEFF"].tolist()))
    found = {
        (int(row["TARGETID"]), str(row["SURVEY"]), str(row["PROGRAM"]), *(row[f"COEFF_{i}"] for i in range(10)))
        for row in patch
    }
    assert found == expected


def test_existing_file(sample_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["coeff-fix", "extract", str(sample_root), "--specprod", "sample", "--output", str(tmp_path)]
    mine = tmp_path / "zall-tilecumulative-sample-coeff-patch.fits"
    mine.write_text("mine")
    assert main(words) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]
    assert mine.read_text() == "mine"
    assert main([*words, "--overwrite", "--json"]) == 0
    assert {item["table"] for item in json.loads(capsys.readouterr().out)} == {"zpix", "ztile"}


def test_other_catalogues(
    sample_root: Path, patch_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue, _ = fitsio.read(str(next(sample_root.rglob("zall-pix-sample.fits"))), ext="ZCATALOG", header=True)
    catalogue["COEFF"] *= 2
    fitsio.write(str(tmp_path / "zall-pix-sample.fits.gz"), catalogue, extname="ZCATALOG")
    words = [str(sample_root), "--specprod", "sample", "--catalogues", str(tmp_path), "--output", str(tmp_path)]
    assert main(["coeff-fix", "extract", *words]) == 1
    assert "zall-tilecumulative-sample.fits: no such file" in capsys.readouterr().err
    assert main(["coeff-fix", "extract", *words, "--table", "zpix"]) == 0
    other = fitsio.read(str(tmp_path / Path(patch_files[0]).name), ext="COEFF_PATCH")
    np.testing.assert_array_equal(other["COEFF_1"], 2 * fitsio.read(patch_files[0], ext="COEFF_PATCH")["COEFF_1"])


def test_broken_catalogue(sample_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "tree"
    shutil.copytree(sample_root, root)
    path = next(root.rglob("zall-pix-sample.fits"))
    path.write_bytes(path.read_bytes()[:-30000])
    words = ["--specprod", "sample", "--output", str(tmp_path / "out"), "--table", "zpix"]
    assert main(["coeff-fix", "extract", str(root), *words]) == 1
    assert "zall-pix-sample.fits" in capsys.readouterr().err
    assert list((tmp_path / "out").glob("*")) == list((tmp_path / "out").glob(".*")) == []


def test_copy_columns(catalogues: dict[str, np.ndarray]) -> None:
    catalogue = Table(catalogues["ztile"])
    names = list(catalogue["DESINAME"][:9:2])
    del catalogue["DESINAME"]
    before = catalogue.copy()
    by_mask = copy_columns(catalogue, np.arange(len(catalogue)) % 2 == 0, "ztile")
    by_index = copy_columns(catalogue, range(0, 10, 2), "ztile")
    assert len(by_mask) == (len(catalogue) + 1) // 2
    assert by_index.meta["EXTNAME"] == "COEFF_PATCH"
    for table in (by_mask, by_index):
        assert list(table["DESINAME"][:5]) == names
        np.testing.assert_array_equal(table["COEFF_3"][:5], before["COEFF"][:9:2, 3])
    assert len(copy_columns(catalogue, None, "ztile")) == len(catalogue)
    assert catalogue.colnames == before.colnames
    for name in before.colnames:
        np.testing.assert_array_equal(catalogue[name], before[name])


def test_copy_columns_of_wrong_catalogues(catalogues: dict[str, np.ndarray]) -> None:
    catalogue = Table(catalogues["zpix"])
    with pytest.raises(ConfigurationError, match="zpix, ztile"):
        copy_columns(catalogue, None, "photometry")
    with pytest.raises(MissingColumnError, match="TILEID"):
        copy_columns(catalogue["TARGETID", "SPGRPVAL", "DESINAME", "COEFF"], None, "ztile")
    short = catalogue.copy()
    short["COEFF"] = short["COEFF"][:, :4]
    with pytest.raises(ValueRejectedError, match="more than 4 elements"):
        copy_columns(short, None, "zpix")
    catalogue["SURVEY"][3] = "sv9"
    with pytest.raises(ValueRejectedError, match="row 3"):
        copy_columns(catalogue, None, "zpix")


def test_objects(patch_files: list[str]) -> None:
    zpix, ztile = (Table.read(path, hdu="COEFF_PATCH") for path in patch_files)
    one = {name: zpix[name][:1] for name in zpix.colnames if name not in ("SURVEY", "PROGRAM")}
    one |= {"TARGETID": np.array([123456789])}
    (pix,) = ZpixPatch.convert(Table(one), survey="main", program="dark")
    # Check value of the survey's identifiers.
    assert pix.id == 237684487653473477223012617493
    assert (pix.survey, pix.program, pix.coeff_2) == ("main", "dark", zpix["COEFF_2"][0])
    one = {name: ztile[name][:2] for name in ztile.colnames if name != "TILEID"}
    one |= {"TARGETID": np.array([1, 123456789]), "SPGRPVAL": np.array([1, 20220613])}
    (tile,) = ZtilePatch.convert(Table(one), tileid=1234, night=20220601, row_index=[1])
    assert tile.id == 33503513911740049863153959922673896725
    assert (tile.tileid, tile.coeff_9) == (1234, ztile["COEFF_9"][1])


def test_ten_tables() -> None:
    assert len(TABLES) == 10
    assert not {"zpixpatch", "ztilepatch", "zpixbackup", "ztilebackup"} & set(load.Base.metadata.tables)
