"""Reloads keep the rules of a load: what changed in files is all that changes in the database."""

from __future__ import annotations

import json
import re
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


def command(tree: Path, target: str, *more: str) -> int:
    return main(["run", str(tree), "--specprod", "sample", "--database", target, "--chunksize", "40", "--quiet", *more])


def anew(tree: Path, target: str, *more: str) -> dict[str, tuple[int, str]]:
    """Load a tree into another schema or file, and give the digests of its tables."""
    if target.startswith("postgresql"):
        assert command(tree, target, "--schema", "anew", *more) in (0, 3)
        return digests(target, "anew")
    assert command(tree, f"{target}.anew", *more) in (0, 3)
    return digests(f"{target}.anew")


def verified(tree: Path, target: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["verify", str(tree), "--specprod", "sample", "--database", target, "--quiet"])
    return code, capsys.readouterr().out


def table_status(target: str, table: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    schema = ["--schema", "sample"] if target.startswith("postgresql") else []
    assert main(["status", "--database", target, "--json", *schema]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    return next(item for item in tables if item["table"] == table)


def test_a_bad_row_stops_a_reload(
    tree: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row that violates a rule is no reason to delete the row that was there."""
    assert command(tree, database_target) == 0
    before = digests(database_target)
    with fitsio.FITS(str(tree / ZPIX)) as file:
        place = int(science(file["ZCATALOG"].read())[4])

    def edit(rows: Any) -> Any:
        rows["SURVEY"][place] = "nowhere"
        return rows

    altered(tree / ZPIX, "ZCATALOG", edit)
    capsys.readouterr()
    assert command(tree, database_target, "--reload") == 1
    message = capsys.readouterr().err
    assert f"zall-pix-sample.fits, HDU ZCATALOG, column SURVEY, row {place}: " in message
    assert digests(database_target) == before
    # The ledger still has the file as it was.
    assert command(tree, database_target) == 1
    rejects = tmp_path / "rejects.csv"
    assert command(tree, database_target, "--reload", "--rejects", str(rejects)) == 3
    assert [(int(line["row"]), line["column"], line["table"]) for line in read_csv(rejects)] == [
        (place, "SURVEY", "zpix")
    ]
    after = digests(database_target)
    assert after["zpix"][0] == before["zpix"][0] - 1
    assert {name: item for name, item in after.items() if name != "zpix"} == {
        name: item for name, item in before.items() if name != "zpix"
    }
    assert table_status(database_target, "zpix", capsys)["rejected"] == 1
    assert verified(tree, database_target, capsys)[0] == 0
    assert after == anew(tree, database_target, "--rejects", str(tmp_path / "others.csv"))


def test_an_absent_file_stops_a_reload(tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of a file that is not there at the moment are not gone."""
    assert command(tree, database_target) == 0
    before = digests(database_target)
    first, second, *_ = sorted((tree / TARGETS).glob("targetphot-*.fits"))
    kept = second.read_bytes()
    second.unlink()

    def redder(rows: Any) -> Any:
        rows["EBV"] += 0.125
        return rows

    altered(first, "TARGETPHOT", redder)
    capsys.readouterr()
    assert command(tree, database_target, "--reload") == 1
    assert second.name in capsys.readouterr().err
    assert digests(database_target) == before
    second.write_bytes(kept)
    assert command(tree, database_target, "--reload") == 0
    assert digests(database_target) == anew(tree, database_target) != before


def test_the_first_of_a_key_counts_in_a_reload(
    tree: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that occurs again, in the same chunk or far behind, is an error, or the later row is rejected."""
    assert command(tree, database_target) == 0
    before = digests(database_target)

    def edit(rows: Any) -> Any:
        good = science(rows)
        near, far = rows[good[:1]].copy(), rows[good[1:2]].copy()
        near["Z"], far["Z"] = 9.25, 9.75
        return np.concatenate([rows[: good[0] + 1], near, rows[good[0] + 1 :], far])

    with fitsio.FITS(str(tree / ZPIX)) as file:
        rows = file["ZCATALOG"].read()
    altered(tree / ZPIX, "ZCATALOG", edit)
    near, far = int(science(rows)[0]) + 1, rows.size + 1
    capsys.readouterr()
    assert command(tree, database_target, "--reload") == 1
    assert f"HDU ZCATALOG, row {near}: repeats the key of an earlier row" in capsys.readouterr().err
    assert digests(database_target) == before
    rejects = tmp_path / "rejects.csv"
    assert command(tree, database_target, "--reload", "--rejects", str(rejects)) == 3
    found = {int(line["row"]): line["reason"] for line in read_csv(rejects)}
    assert set(found) == {near, far}
    assert all(reason.startswith("repeats the key") for reason in found.values())
    assert digests(database_target) == before
    assert verified(tree, database_target, capsys)[0] == 0


def test_orphans_in_a_reload(
    tree: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that refer to none are rejected by a load and by a reload, and else named with the true reason."""
    with fitsio.FITS(str(tree / ZPIX)) as file:
        place = int(science(file["ZCATALOG"].read())[7])

    def edit(rows: Any) -> Any:
        rows["TARGETID"][place] = 77
        return rows

    altered(tree / ZPIX, "ZCATALOG", edit)
    first = tmp_path / "first.csv"
    assert command(tree, database_target, "--rejects", str(first)) == 3
    assert [int(line["row"]) for line in read_csv(first)] == [place]
    assert table_status(database_target, "zpix", capsys)["rejected"] == 1
    assert verified(tree, database_target, capsys)[0] == 0
    held = digests(database_target)

    def nearer(rows: Any) -> Any:
        rows["Z"][place + 1 :] += 0.125
        return rows

    altered(tree / ZPIX, "ZCATALOG", nearer)
    capsys.readouterr()
    assert command(tree, database_target, "--reload") == 1
    message = capsys.readouterr().err
    assert f"row {place}: refers to photometry.targetid 77, which is not there" in message
    assert digests(database_target) == held
    again = tmp_path / "again.csv"
    assert command(tree, database_target, "--reload", "--rejects", str(again)) == 3
    assert [int(line["row"]) for line in read_csv(again)] == [place]
    assert digests(database_target) == anew(tree, database_target, "--rejects", str(tmp_path / "anew.csv"))
    assert verified(tree, database_target, capsys)[0] == 0


def test_what_others_refer_to_is_not_removed(
    tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target that is gone from photometry, but not from the catalogues, stops the reload by its name."""
    assert command(tree, database_target) == 0
    before = digests(database_target)
    with fitsio.FITS(str(tree / ZPIX)) as file:
        rows = file["ZCATALOG"].read()
    first = rows[science(rows)[0]]
    targetid = int(first["TARGETID"])
    for path in [*(tree / TARGETS).rglob("*.fits")]:
        with fitsio.FITS(str(path)) as file:
            hdu = file[1].get_extname()
        altered(path, hdu, lambda rows: rows[rows["TARGETID"] != targetid])
    capsys.readouterr()
    assert command(tree, database_target, "--reload") == 1
    message = capsys.readouterr().err
    (number,) = re.findall(r"rows of ztile refer to target\.id (\d+), which is gone from the files of target", message)
    assert int(number) & (1 << 64) - 1 == targetid
    assert digests(database_target) == before


def test_a_target_gone_from_all_files(tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables are filled in one order and cleared in the other, all in one transaction."""
    assert command(tree, database_target) == 0
    with fitsio.FITS(str(tree / ZPIX)) as file:
        targetid = int(file["ZCATALOG"].read()["TARGETID"][science(file["ZCATALOG"].read())[0]])
    for path in tree.rglob("*.fits*"):
        with fitsio.FITS(str(path)) as file:
            hdus = [hdu.get_extname() for hdu in file if "TARGETID" in getattr(hdu, "get_colnames", list)()]
        if len(hdus) == 1:
            altered(path, hdus[0], lambda rows: rows[rows["TARGETID"] != targetid])
        elif hdus:
            with fitsio.FITS(str(path)) as file:
                content = [(item.get_extname(), item.read(), item.read_header()) for item in file]
            path.unlink()
            with fitsio.FITS(str(path), "rw") as file:
                for name, rows, header in content:
                    mine = rows is not None and rows.dtype.names and "TARGETID" in rows.dtype.names
                    file.write(rows[rows["TARGETID"] != targetid] if mine else rows, extname=name, header=header)
    assert command(tree, database_target, "--reload") == 0
    assert digests(database_target) == anew(tree, database_target)
    assert verified(tree, database_target, capsys)[0] == 0


def test_a_reload_that_is_not_needed(tree: Path, database_target: str) -> None:
    assert command(tree, database_target) == 0
    before = digests(database_target)
    assert command(tree, database_target, "--reload") == 0
    assert digests(database_target) == before
