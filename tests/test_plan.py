"""Plans: what a load takes, compared with loads; what is missing, all of it; what is to be fetched."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fitsio
import psycopg
import pytest

from specprod.cli.main import main
from specprod.sample import write_sample
from specprod.stages import TABLE_NAMES


def plan(capsys: pytest.CaptureFixture[str], root: Path, *more: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["plan", str(root), "--specprod", "sample", "--json", *more]) == code
    return json.loads(capsys.readouterr().out)


def files(capsys: pytest.CaptureFixture[str], root: Path, *more: str, specprod: str = "sample") -> list[str]:
    capsys.readouterr()
    assert main(["plan", str(root), "--specprod", specprod, "--files", *more]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample in which the last pages of tables do not count for much, with more tiles than are looked into."""
    root = tmp_path_factory.mktemp("larger") / "tree"
    write_sample(root, tiles=15, targets_per_tile=400, potentials_per_tile=1200)
    return root


def test_rows_and_sizes_of_a_load(larger: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, larger, "--database", database_target)
    assert found["missing"] == []
    assert main(["run", str(larger), "--specprod", "sample", "--database", database_target, "--quiet", "--json"]) == 0
    loaded: dict[str, int] = {}
    for item in json.loads(capsys.readouterr().out)["tables"]:
        loaded[item["table"]] = loaded.get(item["table"], 0) + item["rows"]
    tables = {item["table"]: item for item in found["tables"]}
    assert set(tables) == set(TABLE_NAMES)
    for name in ("tile", "exposure", "frame", "target"):
        assert tables[name]["rows"] == loaded[name]
        assert not tables[name]["estimated"]
    assert tables["photometry"]["rows"] <= loaded["photometry"]
    assert loaded["photometry"] <= tables["photometry"]["rows"] + tables["photometry"]["more_rows"]
    for name in ("ztile", "zpix", "fiberassign", "potential"):
        # Sky is in the files only.
        assert tables[name]["rows"] == pytest.approx(loaded[name], rel=0.1)
        assert tables[name]["file_rows"] > loaded[name]
        assert tables[name]["estimated"]
    if database_target.startswith("postgresql"):
        with psycopg.connect(database_target) as connection:
            query = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname = ANY(%s)"
            size = int(connection.execute(query, [list(TABLE_NAMES)]).fetchone()[0])
    else:
        size = os.path.getsize(database_target)
    assert 0.75 * size < found["database_bytes"] < 1.25 * size
    assert found["kind"] == ("postgresql" if database_target.startswith("postgresql") else "sqlite")
    assert found["seconds"] == pytest.approx(found["rows"] / found["rate"])
    assert plan(capsys, larger, "--database", database_target, "--rate", "1000")["rate"] == 1000


def test_rows_are_those_of_headers(larger: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {item["table"]: item for item in plan(capsys, larger, "--database", str(sqlite_file))["tables"]}
    tiles = sorted((larger / "target").rglob("fiberassign-*.fits*"))
    assert sum(path.suffix == ".gz" for path in tiles) > 5
    assert len(tiles) == found["fiberassign"]["files"] == found["potential"]["files"]
    for table, hdu in (("fiberassign", "FIBERASSIGN"), ("potential", "POTENTIAL_ASSIGNMENTS")):
        rows = sum(fitsio.read_header(str(path), hdu)["NAXIS2"] for path in tiles)
        assert found[table]["estimated"]
        assert found[table]["file_rows"] == pytest.approx(rows, rel=0.1)
        assert found[table]["file_bytes"] == sum(path.stat().st_size for path in tiles)
    catalogue = next((larger / "spectro").rglob("zall-pix-sample.fits"))
    assert found["zpix"]["file_rows"] == fitsio.read_header(str(catalogue), "ZCATALOG")["NAXIS2"]
    assert not sqlite_file.exists()


def test_next_to_no_rows_are_read(larger: Path, sqlite_file: Path) -> None:
    """The system is asked how much was read: next to nothing of files of some MB that are not packed."""
    plain = sum(path.stat().st_size for path in larger.rglob("*.fits"))
    code = (
        "import sys; from specprod.cli.main import main; import specprod.production.plan; "
        "count = lambda: int(next(line.split()[1] for line in open('/proc/self/io') if line.startswith('rchar'))); "
        "main(['--version']); before = count(); main(sys.argv[1:]); print(count() - before)"
    )
    words = ["plan", str(larger), "--specprod", "sample", "--database", str(sqlite_file), "--table", "zpix"]
    words += ["--table", "ztile", "--table", "photometry", "--table", "target"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 0.5 * plain


def test_all_that_is_missing(sample_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "tree"
    shutil.copytree(sample_root, root)
    tiles = sorted((root / "target").rglob("fiberassign-*.fits.gz"))
    gone = [*tiles[:2], next((root / "spectro").rglob("zall-pix-sample.fits"))]
    names = [path.relative_to(root).as_posix() for path in gone]
    for path in gone:
        path.unlink()
    exposures = root / "spectro/redux/sample/exposures-sample.fits"
    exposures.write_bytes(exposures.read_bytes()[:4000])
    shutil.rmtree(next((root / "vac").rglob("tractorphot")))
    found = plan(capsys, root, "--database", str(tmp_path / "x.db"), code=3)["missing"]
    assert len(found) == 5 + 1
    for name in [*names, "exposures-sample.fits, HDU EXPOSURES", "exposures-sample.fits, HDU FRAMES", "tractorphot"]:
        assert sum(name in line for line in found) == 1, (name, found)
    listed = files(capsys, root)
    assert listed[0].endswith("tractorphot/tractorphot*.fits")
    assert sorted(listed[1:]) == sorted(names)


def test_files_of_a_production_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert files(capsys, tmp_path / "none", "--table", "zpix", specprod="iron") == [
        "spectro/redux/iron/zcatalog/v1/zall-pix-iron.fits"
    ]
    names = files(capsys, tmp_path / "none", specprod="iron")
    assert names == [
        "spectro/redux/iron/tiles-iron.fits",
        "spectro/redux/iron/exposures-iron.fits",
        "vac/dr1/lsdr9-photometry/iron/v1.1/potential-targets/tractorphot/tractorphot*.fits",
        "vac/dr1/lsdr9-photometry/iron/v1.1/potential-targets/targetphot-potential-*.fits",
        "spectro/redux/iron/zcatalog/v1/zall-tilecumulative-iron.fits",
        "spectro/redux/iron/zcatalog/v1/zall-pix-iron.fits",
        "target/fiberassign/tiles/tags/1.1/???/fiberassign-??????.fits.gz",
    ]


def test_what_is_fetched_can_be_loaded(
    sample_root: Path, sqlite_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names, fetched in two rounds (the tiles file says which tiles there are), are all that a load needs."""
    root = tmp_path / "fetched"
    for _ in range(2):
        for name in files(capsys, root):
            # Some of the sample's fiber assignments are not packed.
            found = sorted(sample_root.glob(name)) or sorted(sample_root.glob(name.removesuffix(".gz")))
            assert found, name
            for path in found:
                place = root / path.relative_to(sample_root)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, place)
    assert files(capsys, root) == []
    assert plan(capsys, root, "--database", str(sqlite_file))["missing"] == []
    assert main(["run", str(root), "--specprod", "sample", "--database", str(sqlite_file), "--quiet"]) == 0


def test_as_a_person_reads_it(sample_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that is not there is not asked; what is free is that of the file system of a file."""
    words = ["plan", str(sample_root), "--specprod", "sample", "--database"]
    assert main([*words, "postgresql://nobody@127.0.0.1:1/none"]) == 0
    out = capsys.readouterr().out
    assert "not seen from here" in out
    assert " rows/s, as measured on this machine)" in out
    assert main([*words, str(tmp_path / "x.db")]) == 0
    free = float(re.search(r"^Free +([\d.,]+) GB$", capsys.readouterr().out, re.MULTILINE)[1].replace(",", ""))
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free / 1e9, rel=0.1)
    assert main(["plan", str(tmp_path), "--specprod", "sample", "--database", str(tmp_path / "x.db")]) == 3
    missing = capsys.readouterr().out.split("Missing:\n")[1].splitlines()
    assert len(missing) >= 7
    assert all(str(tmp_path) not in line for line in missing)


def test_the_time_is_that_of_this_machine(sample_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small load says how fast it is, unless --rate does."""
    measured = plan(capsys, sample_root, "--database", "prod.db")
    # Of any machine that could run this.
    assert 500 < measured["rate"] < 5_000_000
    assert measured["seconds"] == pytest.approx(measured["rows"] / measured["rate"])
    said = plan(capsys, sample_root, "--database", "prod.db", "--rate", "100")
    assert (said["rate"], said["seconds"]) == (100, measured["rows"] / 100)
    assert not Path("prod.db").exists()
