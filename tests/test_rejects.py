"""Rows that violate a rule: the load stops as if it had not met them, or writes them to a file and goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest

from specprod.cli.main import main
from support.digests import digests
from support.rewriting import altered, read_csv, science

pytestmark = pytest.mark.compat

ZPIX = "spectro/redux/sample/zcatalog/zall-pix-sample.fits"
TARGETS = "vac/sample/lsdr9-photometry/sample/v1.0/potential-targets"


@pytest.fixture
def tree(sample_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample_root, tmp_path / "tree"))


def run(tree: Path, target: str, *more: str) -> int:
    words = ["run", str(tree), "--specprod", "sample", "--database", target, "--chunksize", "40", "--quiet", *more]
    return main(words)


def test_values(tree: Path, sample_root: Path, database_target: str, tmp_path: Path) -> None:
    def edit(rows: Any) -> Any:
        good = science(rows)
        rows["SURVEY"][good[3]] = "nowhere"
        rows["PROGRAM"][good[70]] = "twilight"
        return rows

    altered(tree / ZPIX, "ZCATALOG", edit)
    rejects = tmp_path / "rejects.csv"
    assert run(tree, database_target, "--rejects", str(rejects)) == 3
    lines = read_csv(rejects)
    with fitsio.FITS(str(tree / ZPIX)) as file:
        good = science(file["ZCATALOG"].read())
    assert [(int(line["row"]), line["column"]) for line in lines] == [(good[3], "SURVEY"), (good[70], "PROGRAM")]
    assert all(line["file"].endswith("zall-pix-sample.fits") and line["table"] == "zpix" for line in lines)
    assert "unknown name" in lines[0]["reason"]
    assert digests(database_target)["zpix"][0] == good.size - 2


def test_repeated_keys(
    tree: Path, sample_root: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that occurs again some chunks later is found when the key is built, and the load is where it was before."""

    def edit(rows: Any) -> Any:
        good = science(rows)
        again = rows[good[:2]].copy()
        again["Z"] = 9.75
        return np.concatenate([rows, again])

    altered(tree / ZPIX, "ZCATALOG", edit)
    size = fitsio.FITS(str(tree / ZPIX))["ZCATALOG"].get_nrows()
    assert run(tree, database_target) == 1
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1
    assert f"zall-pix-sample.fits, HDU ZCATALOG, row {size - 2}: repeats the key" in message
    held = digests(database_target)["zpix"][0]
    with fitsio.FITS(str(tree / ZPIX)) as file:
        rows = file["ZCATALOG"].read()
    # Chunks of 40 rows of the file, sky included, were there before that of the row.
    assert held == science(rows[: (size - 2) // 40 * 40]).size
    rejects = tmp_path / "rejects.csv"
    assert run(tree, database_target, "--rejects", str(rejects)) == 3
    assert [int(line["row"]) for line in read_csv(rejects)] == [size - 2, size - 1]
    clean = f"{database_target}_clean" if not database_target.startswith("postgresql") else database_target
    expected = digests(database_target)
    schema = [] if clean != database_target else ["--schema", "clean"]
    assert main(["run", str(sample_root), "--specprod", "sample", "--database", clean, "--quiet", *schema]) == 0
    assert digests(clean, "clean" if schema else "sample") == expected


def test_repeated_within_a_chunk(tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    def edit(rows: Any) -> Any:
        rows[1] = rows[0]
        return rows

    path = tree / "spectro/redux/sample/tiles-sample.fits"
    altered(path, "TILE_COMPLETENESS", edit)
    assert run(tree, database_target) == 1
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1
    assert "tiles-sample.fits, HDU TILE_COMPLETENESS, row 1: repeats the key of an earlier row" in message
    assert digests(database_target)["tile"][0] == 0


def test_orphans(tree: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A target on a tile that is not there takes its redshift with it."""
    path = sorted((tree / TARGETS).glob("targetphot-*.fits"))[0]

    def edit(rows: Any) -> Any:
        rows["TILEID"][4] = 31999
        return rows

    altered(path, "TARGETPHOT", edit)
    assert run(tree, database_target) == 1
    assert "that is not there" in capsys.readouterr().err
    rejects = tmp_path / "rejects.csv"
    assert run(tree, database_target, "--rejects", str(rejects)) == 3
    lines = read_csv(rejects)
    assert ("target", "4", "TILEID") in {(line["table"], line["row"], line["column"]) for line in lines}
    assert all("is not there" in line["reason"] for line in lines)
