"""A tile is in the ledger, in the transaction of its rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from astropy.io import fits
from astropy.table import Table

from specprod.cli.main import main
from specprod.database import connect
from specprod.results.orm import OrmPipelineResultsStorage
from support.digests import digests


def test_tile_in_the_ledger(tmp_path: Path, database_target: str) -> None:
    root = tmp_path / "tree"
    assert main(["sample", str(root), "--specprod", "daily", "--tile-inputs", "--tiles", "2", "--assigned", "40"]) == 0
    tiles = Table.read(root / "spectro/redux/daily/tiles-daily.csv")
    tileid = int(tiles["TILEID"][tiles["EFFTIME_SPEC"] > 0][0])
    words = ["tile", str(root), str(tileid), "--specprod", "daily", "--database", database_target, "--schema", "s"]
    assert main(words) == 0
    with connect(database_target, schema="s") as database:
        storage = OrmPipelineResultsStorage(database)
        (result,) = storage.get_pipeline_results()
        assert (result.name, result.state) == (f"tile {tileid}", "done")
        files = {item["file"]: item for item in result.input_data["files"]}
        assert any("redrock" in name or "zbest" in name for name in files)
        assert any("fiberassign" in name for name in files)
        assert {"spectro/redux/daily/tiles-daily.fits", "spectro/redux/daily/exposures-daily.fits"} <= set(files)
        for name, item in files.items():
            assert (item["size"], item["mtime_ns"]) == (
                (root / name).stat().st_size,
                (root / name).stat().st_mtime_ns,
            )
        tasks = {item.name: item.input_data for item in storage.get_task_executions(parent_id=result.id)}
        with database.session() as session:
            for table in ("ztile", "target", "potential"):
                cls = getattr(database.classes, table.capitalize())
                assert tasks[table]["inserted"] == session.query(cls).count() > 0


def test_a_tile_that_failed_is_in_the_ledger(
    tmp_path: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "tree"
    assert main(["sample", str(root), "--specprod", "daily", "--tile-inputs", "--tiles", "2", "--assigned", "40"]) == 0
    tiles = Table.read(root / "spectro/redux/daily/tiles-daily.csv")
    tileid = int(tiles["TILEID"][tiles["EFFTIME_SPEC"] > 0][0])
    for path in (root / "spectro/redux/daily/tiles/cumulative" / str(tileid)).rglob("*.fits*"):
        path.unlink()
    words = ["tile", str(root), str(tileid), "--specprod", "daily", "--database", database_target, "--schema", "s"]
    assert main(words) == 1
    with connect(database_target, schema="s") as database:
        (result,) = OrmPipelineResultsStorage(database).get_pipeline_results()
        assert (result.name, result.state) == (f"tile {tileid}", "failed")
        assert result.message.startswith("MissingFileError: ")
        assert "no redrock-" in result.message
        with database.session() as session:
            assert session.query(database.classes.Tile).count() == 0
    where = ["--database", database_target, "--schema", "s"]
    capsys.readouterr()
    assert main(["status", *where]) == 0
    said = capsys.readouterr().out
    assert "tiles loaded one by one: 1, of which 1 failed the last time" in said
    # A name of a file that is too long for a line begins the next one.
    assert f"tile {tileid}: MissingFileError:" in said
    assert main(["status", *where, "--json"]) == 0
    (tile,) = json.loads(capsys.readouterr().out)["tiles"]
    assert (tile["tileid"], tile["state"], tile["tables"]) == (tileid, "failed", {})


@pytest.fixture
def whole_tree(tmp_path: Path) -> Path:
    """A production whose tiles can be loaded one by one, too."""
    root = tmp_path / "whole"
    assert main(["sample", str(root), "--tile-inputs", "--tiles", "2", "--assigned", "40"]) == 0
    return root


def test_run_and_tile_in_one_schema(
    whole_tree: Path, tmp_path: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run does not meet the rows of tiles half-way, nor a tile those of a run that did not end."""
    tileid = next(int(path.name) for path in sorted((whole_tree / "spectro/redux/sample/tiles/cumulative").iterdir()))
    own = ["--specprod", "sample", "--database", database_target, "--schema", "sample", "--quiet"]
    assert main(["tile", str(whole_tree), str(tileid), *own]) == 0
    before = digests(database_target)
    capsys.readouterr()
    assert main(["run", str(whole_tree), *own]) == 1
    message = capsys.readouterr().err
    assert f"tile {tileid} were loaded" in message or f"tile {tileid} was loaded" in message
    assert digests(database_target) == before
    assert main(["run", str(whole_tree), *own, "--overwrite", "--yes"]) == 0
    whole = digests(database_target)
    # The tile has the same rows, and the run still has nothing left to do.
    assert main(["tile", str(whole_tree), str(tileid), *own]) == 0
    assert main(["run", str(whole_tree), *own]) == 0
    assert {name: count for name, (count, _) in digests(database_target).items()} == {
        name: count for name, (count, _) in whole.items()
    }


def test_a_tile_waits_for_a_run_that_did_not_end(
    whole_tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = whole_tree
    catalogue = tree / "spectro/redux/sample/zcatalog/zall-pix-sample.fits"
    whole = catalogue.read_bytes()
    catalogue.write_bytes(whole[:-20000])
    own = ["--specprod", "sample", "--database", database_target, "--schema", "sample", "--quiet"]
    assert main(["run", str(tree), *own]) == 1
    tileid = next(int(path.name) for path in sorted((tree / "spectro/redux/sample/tiles/cumulative").iterdir()))
    before = digests(database_target)
    capsys.readouterr()
    assert main(["tile", str(tree), str(tileid), *own]) == 1
    assert "the last run into" in capsys.readouterr().err
    assert digests(database_target) == before
    catalogue.write_bytes(whole)
    assert main(["run", str(tree), *own]) == 0
    assert main(["tile", str(tree), str(tileid), *own]) == 0


@pytest.mark.parametrize("name", ["redrock", "fiberassign", "exposures"])
def test_a_damaged_file_of_a_tile(
    whole_tree: Path, database_target: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong DATASUM or CHECKSUM keeps a tile out, unless they are not to be looked at."""
    tileid = next(int(path.name) for path in sorted((whole_tree / "spectro/redux/sample/tiles/cumulative").iterdir()))
    own = ["--specprod", "sample", "--database", database_target, "--schema", "sample", "--quiet"]
    pattern = f"{name}*{tileid}*.fits*" if name != "exposures" else "exposures-sample.fits"
    path = sorted(whole_tree.rglob(pattern))[0]
    with fits.open(path) as hdus:
        content = fits.HDUList([hdu.copy() for hdu in hdus])
    for hdu in content:
        hdu.add_checksum()
    # A sum that was right for other bytes.
    content[1].header["DATASUM"] = str((int(content[1].header["DATASUM"]) + 1) % (1 << 32))
    content.writeto(path, overwrite=True, output_verify="ignore")
    assert main(["tile", str(whole_tree), str(tileid), *own]) == 1
    message = capsys.readouterr().err
    assert path.name in message
    assert "DATASUM" in message
    assert main(["tile", str(whole_tree), str(tileid), *own, "--ignore-checksums"]) == 0


@pytest.mark.parametrize("source", ["production", "catalogues"])
def test_verify_of_tiles(
    whole_tree: Path, database_target: str, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tiles are compared value by value, from either source of photometry, alone and beside a run."""
    own = ["--specprod", "sample", "--database", database_target, "--schema", "sample", "--quiet"]
    tileids = [path.name for path in sorted((whole_tree / "spectro/redux/sample/tiles/cumulative").iterdir())]
    assert main(["tile", str(whole_tree), *tileids, *own, "--source", source, "--primary"]) == 0
    capsys.readouterr()
    assert main(["verify", str(whole_tree), *own]) == 0
    said = capsys.readouterr().out
    assert "ztile" in said
    with connect(database_target, schema="sample") as database, database.begin() as connection:
        ztile = database.name("ztile")
        first = connection.exec_driver_sql(f"SELECT min(targetid) FROM {ztile}").scalar_one()
        connection.exec_driver_sql(f"UPDATE {ztile} SET z = z + 0.5 WHERE targetid = {first}")
        photometry = database.name("photometry")
        connection.exec_driver_sql(f"UPDATE {photometry} SET ebv = 0.25 WHERE targetid = {first}")
    assert main(["verify", str(whole_tree), *own]) == 3
    said = capsys.readouterr().out
    assert "column z:" in said
    assert "column ebv:" in said
    assert main(["tile", str(whole_tree), *tileids, *own, "--source", source, "--update"]) == 0
    capsys.readouterr()
    assert main(["verify", str(whole_tree), *own]) == 3
    said = capsys.readouterr().out
    assert "column z:" not in said
    assert "column ebv:" in said


def test_verify_of_tiles_after_a_run(
    whole_tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a tile brought stands in the place of what the run did; nothing is a difference that is none."""
    own = ["--specprod", "sample", "--database", database_target, "--schema", "sample", "--quiet"]
    tileid = sorted(path.name for path in (whole_tree / "spectro/redux/sample/tiles/cumulative").iterdir())[0]
    assert main(["run", str(whole_tree), *own]) == 0
    assert main(["verify", str(whole_tree), *own]) == 0
    assert main(["tile", str(whole_tree), tileid, *own]) == 0
    capsys.readouterr()
    assert main(["verify", str(whole_tree), *own]) == 0, capsys.readouterr().out
    with connect(database_target, schema="sample") as database, database.begin() as connection:
        fiberassign = database.name("fiberassign")
        connection.exec_driver_sql(f"DELETE FROM {fiberassign} WHERE tileid = {tileid} AND location < 1000")
    assert main(["verify", str(whole_tree), *own]) == 3
    assert f"tile {tileid}" in capsys.readouterr().out
