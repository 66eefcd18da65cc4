"""``verify`` after what changes a loaded production on purpose: tiles, the coefficient fix, rejects."""

from __future__ import annotations

import shutil
from pathlib import Path

import fitsio
import numpy as np
import pytest

from specprod.cli.main import main
from specprod.sample import write_sample
from support.production import named, run, sql, verify

ZPIX = "spectro/redux/sample/zcatalog/zall-pix-sample.fits"


@pytest.fixture(scope="module")
def tile_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A production with all that loads of tiles read."""
    root = tmp_path_factory.mktemp("tiles") / "tree"
    write_sample(root, tiles=3, targets_per_tile=60, potentials_per_tile=150, seed=7, tile_inputs=True)
    return root


def test_tiles_after_a_run(tile_tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """NaN is -9999 to a run and 0 to a tile, in the columns that say so; no other value is taken for right."""
    assert run(tile_tree, database_target) == 0
    assert verify(tile_tree, database_target, capsys)[0] == 0
    nan = "SELECT targetid FROM photometry WHERE pmra = -9999 ORDER BY targetid"
    wanted = sql(database_target, nan)
    assert len(wanted) > 2
    sql(database_target, "UPDATE photometry SET pmra = 0 WHERE pmra = -9999")
    code, reports = verify(tile_tree, database_target, capsys, "--limit", "1000")
    assert (code, len(named(reports))) == (3, len(wanted))
    tileid = sql(database_target, "SELECT min(tileid) FROM fiberassign")[0][0]
    words = ["--specprod", "sample", "--database", database_target, "--quiet"]
    assert main(["tile", str(tile_tree), str(tileid), "--update", *words]) == 0
    code, reports = verify(tile_tree, database_target, capsys, "--stage", "photometry")
    assert (code, named(reports)) == (0, [])
    (note,) = reports["photometry"]["notes"]
    assert "are 0, as loads of tiles write them" in note
    ((first,), *_) = wanted
    sql(database_target, f"UPDATE photometry SET pmra = -1 WHERE targetid = {first}")
    code, reports = verify(tile_tree, database_target, capsys, "--stage", "photometry")
    assert (code, [item[3:] for item in named(reports)]) == (3, [("pmra", "-9999.0", "-1.0")])


def test_coefficients_replaced_on_purpose(
    sample_root: Path, patch_files: list[str], database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Coefficients of a patch are as they should be; those of nobody are not."""
    assert run(sample_root, database_target) == 0
    patches = []
    for name in patch_files:
        path = tmp_path / Path(name).name
        shutil.copy(name, path)
        with fitsio.FITS(str(path), "rw") as file:
            rows = file["COEFF_PATCH"].read()
            rows["COEFF_2"] += 1
            file["COEFF_PATCH"].write(rows)
        patches.append(str(path))
    words = ["--specprod", "sample", "--database", database_target]
    assert main(["coeff-fix", "load", *patches, *words]) == 0
    assert verify(sample_root, database_target, capsys)[0] == 0
    assert main(["coeff-fix", "apply", *words]) == 0
    code, reports = verify(sample_root, database_target, capsys)
    assert (code, named(reports)) == (0, [])
    for table in ("zpix", "ztile"):
        (count,) = sql(database_target, f"SELECT count(*) FROM {table}")[0]
        assert reports[table]["notes"] == [
            f"{count} coefficients were replaced on purpose: they are those of coeff-fix"
        ]
    sql(database_target, "UPDATE zpix SET coeff_2 = coeff_2 + 1 WHERE id = (SELECT max(id) FROM zpix)",
        "UPDATE zpix SET z = z + 1 WHERE id = (SELECT min(id) FROM zpix)")  # fmt: skip
    code, reports = verify(sample_root, database_target, capsys)
    assert (code, sorted(item[3] for item in named(reports))) == (3, ["coeff_2", "z"])


def test_rejects(sample_root: Path, database_target: str, tmp_path: Path,
                 capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    root = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    with fitsio.FITS(str(root / ZPIX)) as file:
        rows = file["ZCATALOG"].read()
    good = np.flatnonzero((rows["TARGETID"] > 0) & ((rows["TARGETID"] >> 59) & 1 == 0))
    rows["SURVEY"][good[3]] = "nowhere"
    rows["TARGETID"][good[50]] = 39627000000000001
    rows[good[-1]] = rows[good[0]]
    fitsio.write(str(root / ZPIX), rows, extname="ZCATALOG", clobber=True)
    assert run(root, database_target, "--rejects", str(tmp_path / "rejects.csv")) == 3
    code, reports = verify(root, database_target, capsys)
    assert (code, named(reports)) == (0, [])
    assert reports["zpix"]["found"] == good.size - 3
    sql(database_target, "UPDATE task_result SET rejected = rejected + 1 WHERE table_name = 'zpix' AND first_row = 0")
    code, reports = verify(root, database_target, capsys)
    ((_, what, *_),) = named(reports)
    assert (code, what) == (3, "3 rows violate a rule, but 4 were rejected by the load")
