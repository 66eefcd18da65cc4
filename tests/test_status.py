"""``status`` says what was done, and ``run --dry-run`` does nothing that is left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest

from specprod.cli.main import main
from support.production import is_postgresql, run, sql

ZPIX = "spectro/redux/sample/zcatalog/zall-pix-sample.fits"
TABLES = ("tile", "exposure", "frame", "photometry", "target", "ztile", "zpix", "fiberassign", "potential")


@pytest.fixture
def tree(sample_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample_root, tmp_path / "tree"))


def status(target: str, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    words = ["status", "--database", target, "--specprod", "sample", "--json", "--quiet", *more]
    assert main(words) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def tables(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["table"]: item for item in found["tables"]}


def two_bad_rows(root: Path) -> int:
    """Make two rows of a catalogue bad; give its number of rows."""
    with fitsio.FITS(str(root / ZPIX)) as file:
        rows = file["ZCATALOG"].read()
    good = np.flatnonzero((rows["TARGETID"] > 0) & ((rows["TARGETID"] >> 59) & 1 == 0))
    rows["SURVEY"][good[[3, 50]]] = "nowhere"
    fitsio.write(str(root / ZPIX), rows, extname="ZCATALOG", clobber=True)
    return int(rows.size)


def test_results_are_what_was_done(
    tree: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = two_bad_rows(tree)
    assert run(tree, database_target, "--stage", "exposures", "--stage", "photometry", "--stage", "targetphot") == 0
    assert run(tree, database_target) == 1
    assert run(tree, database_target, "--rejects", str(tmp_path / "rejects.csv")) == 3
    found = status(database_target, capsys, "--root", str(tree))
    there = tables(found)
    rows = {table: sql(database_target, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
    assert min(rows.values()) > 0
    assert {table: there[table]["rows"] for table in TABLES} == rows
    assert {table: there[table]["rejected"] for table in TABLES} == {table: 2 * (table == "zpix") for table in TABLES}
    assert all(there[table]["files"] == there[table]["complete"] > 0 for table in TABLES)
    assert all(not there[table]["missing"] for table in TABLES)
    (zpix,) = (item for item in found["files"] if item["table"] == "zpix")
    assert (zpix["file"], zpix["rows_read"], zpix["file_rows"], zpix["rows"], zpix["rejected"]) == (
        ZPIX, size, size, rows["zpix"], 2,
    )  # fmt: skip
    assert found["left"] == []
    assert [(item["name"], item["state"]) for item in found["runs"]] == [
        ("run", "done"), ("run", "failed"), ("run", "done"),
    ]  # fmt: skip
    assert "nowhere" in found["runs"][1]["message"]
    assert set(found["runs"][0]["stages"]) == {"exposures", "photometry", "targetphot"}
    assert found["runs"][1]["stages"]["redshift"] == "failed"


def test_missing_keys(tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, database_target) == 0
    sql(database_target, "DROP INDEX ix_zpix_healpix")
    assert tables(status(database_target, capsys))["zpix"]["missing"] == ["ix_zpix_healpix"]


def test_what_is_left(tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, database_target, "--stage", "exposures") == 0
    left = status(database_target, capsys, "--root", str(tree))["left"]
    assert f"redshift: {ZPIX} into zpix" in left
    assert not any(line.startswith("exposures") for line in left)
    assert len(left) == len(set(left)) > 8
    assert run(tree, database_target) == 0
    sql(database_target, "DELETE FROM task_result WHERE table_name = 'zpix' AND first_row >= 40")
    size = fitsio.read(str(tree / ZPIX), ext="ZCATALOG").size
    assert status(database_target, capsys, "--root", str(tree))["left"] == [
        f"redshift: {ZPIX} into zpix, from row 40 of {size} on"
    ]


def test_file_that_is_a_link_out_of_the_root(
    tree: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere" / "zpix.fits"
    elsewhere.parent.mkdir()
    shutil.move(tree / ZPIX, elsewhere)
    (tree / ZPIX).symlink_to(elsewhere)
    assert run(tree, database_target) == 0
    found = status(database_target, capsys, "--root", str(tree))
    assert found["left"] == []
    assert [item["file"] for item in found["files"] if item["table"] == "zpix"] == [str(elsewhere)]
    words = [str(tree), "--specprod", "sample", "--database", database_target, "--quiet"]
    assert main(["verify", *words]) == 0


def test_lists_fit_a_terminal(tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, database_target, "--stage", "exposures") == 0
    (tree / ZPIX).rename(tree / f"{ZPIX}.away")
    assert run(tree, database_target) == 1
    capsys.readouterr()
    words = ["status", "--database", database_target, "--specprod", "sample", "--quiet", "--files"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("zpix lacks ix_zpix_") for line in lines)
    assert any("exposures done" in line for line in lines)
    # A name of a file stays whole.
    assert [line for line in lines if len(line) > 80 and " " in line.strip()] == []
    assert len(lines) > 30


def test_finished_load_given_again(tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, database_target) == 0
    assert "Nothing was left to be loaded." not in capsys.readouterr().out
    assert run(tree, database_target) == 0
    assert "Nothing was left to be loaded." in capsys.readouterr().out
    words = ["status", "--database", database_target, "--specprod", "sample", "--quiet", "--root", str(tree)]
    assert main(words) == 0
    assert "Nothing is left to be loaded." in capsys.readouterr().out


@pytest.mark.parametrize("how", ["variable", "option", "configuration", "none"])
def test_dry_run_touches_nothing(
    how: str,
    tree: Path,
    database_target: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("work", "scratch"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    words = ["run", str(tree), "--specprod", "sample", "--dry-run", "--json", "--quiet"]
    if how == "variable":
        monkeypatch.setenv("SPECPROD_DATABASE", database_target)
    elif how == "option":
        words += ["--database", database_target]
    elif how == "configuration":
        records = tmp_path / "work" / "records.jsonl"
        storage = f'["specprod.results.jsonlines.JsonLinesStorage", {{path = "{records}"}}]'
        (tmp_path / "specprod.toml").write_text(
            f'[database]\nurl = "{database_target}"\n\n[results]\nstorage = {storage}\n'
        )
        words += ["--config", str(tmp_path / "specprod.toml")]
    if not is_postgresql(database_target) and how != "none":
        assert run(tree, database_target, "--stage", "exposures") == 0
    before = content(database_target)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["total"]["rows"] > 1000
    assert printed["bytes"] > 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert content(database_target) == before


def content(target: str) -> list[tuple[Any, ...]]:
    """All that is in a database: its tables, and what was written to them."""
    if not is_postgresql(target):
        return [] if not Path(target).exists() else sql(target, "SELECT sql FROM sqlite_master ORDER BY sql")
    return sql(
        target,
        "SELECT schemaname, relname, n_tup_ins, n_tup_upd FROM pg_stat_user_tables ORDER BY 1, 2",
    ) + sql(target, "SELECT nspname FROM pg_namespace ORDER BY 1")


def test_dry_run_finds_what_fails(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_bad_rows(tree)
    rejects = tmp_path / "rejects.csv"
    words = ["run", str(tree), "--specprod", "sample", "--dry-run", "--quiet"]
    assert main(words) == 1
    assert "nowhere" in capsys.readouterr().err
    assert main([*words, "--rejects", str(rejects)]) == 3
    assert len(rejects.read_text().splitlines()) == 3
