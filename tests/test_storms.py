"""Reloads and coefficient fixes that are killed at random moments: all of it, or nothing of it, is in the database."""

from __future__ import annotations

import shutil
from pathlib import Path

import fitsio
import pytest

from specprod.cli.main import main
from support.digests import digests
from support.storms import storm

ZPIX = "spectro/redux/sample/zcatalog/zall-pix-sample.fits"


def test_killed_reloads(sample_root: Path, tmp_path: Path, database_target: str) -> None:
    """A file that changed is there as it was before, or as it is now."""
    tree = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    versions = [(tree / ZPIX).read_bytes()]
    rows = fitsio.read(str(tree / ZPIX), ext="ZCATALOG")
    rows["Z"] += 0.125
    fitsio.write(str(tree / ZPIX), rows[:-5], extname="ZCATALOG", clobber=True)
    versions.append((tree / ZPIX).read_bytes())
    own = [str(tree), "--specprod", "sample", "--database", database_target, "--quiet"]

    def reload(version: bytes) -> dict[str, tuple[int, str]]:
        (tree / ZPIX).write_bytes(version)
        assert main(["run", *own, "--reload"]) == 0
        return digests(database_target)

    assert main(["run", *own]) == 0
    new = digests(database_target)
    old = reload(versions[0])
    assert old["zpix"][0] > new["zpix"][0]

    def reset() -> None:
        assert reload(versions[0]) == old
        (tree / ZPIX).write_bytes(versions[1])

    storm(["run", *own, "--reload"], reset, lambda: digests(database_target), new, 20210516)
    assert main(["verify", *own]) == 0


@pytest.mark.parametrize("step", ["apply", "undo"])
def test_killed_coefficient_fixes(sample_root: Path, database_target: str, tmp_path: Path, step: str) -> None:
    tree = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    own = ["--specprod", "sample", "--database", database_target, "--quiet"]
    assert main(["coeff-fix", "extract", str(tree), "--specprod", "sample", "--output", str(tmp_path / "fix")]) == 0
    for path in (tree / ZPIX, tree / "spectro/redux/sample/zcatalog/zall-tilecumulative-sample.fits"):
        with fitsio.FITS(str(path), "rw") as file:
            rows = file["ZCATALOG"].read()
            rows["COEFF"] += 1.5
            file["ZCATALOG"].write(rows)
    assert main(["run", str(tree), *own]) == 0
    wrong = digests(database_target)
    patches = [str(path) for path in sorted((tmp_path / "fix").glob("*-coeff-patch.fits"))]
    assert main(["coeff-fix", "load", *patches, *own]) == 0
    apply, undo = ["coeff-fix", "apply", *own, "--backup"], ["coeff-fix", "undo", *own]
    assert main(apply) == 0
    right = digests(database_target)
    assert right != wrong

    def to(state: dict[str, tuple[int, str]]) -> None:
        if digests(database_target) != state:
            assert main(undo if state is wrong else apply) == 0
        assert digests(database_target) == state

    command, before, after = (apply, wrong, right) if step == "apply" else (undo, right, wrong)
    done = "there is no backup" if step == "undo" else None
    storm(command, lambda: to(before), lambda: digests(database_target), after, 20210517, done)
