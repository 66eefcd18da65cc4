"""The files of a patch: their form, the checks before and after, and that there is never half of one."""

from __future__ import annotations

import csv
import datetime
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from specprod.cli.main import main
from specprod.errors import (
    ConfigurationError,
    FormatError,
    InputError,
    MissingFileError,
    MissingHDUError,
    ValueRejectedError,
)
from specprod.files.publishing import Publication
from specprod.patch import PatchOptions, Report, get_data, output_files, patch_production, write_report
from specprod.patch.files import production_files, write_csv, write_fits

pytestmark = pytest.mark.compat

NOW = datetime.datetime(2024, 10, 31, 12, 30, 15, tzinfo=datetime.UTC)
NAMES = {
    "tiles-daily-patched-with-jura-20241031.csv",
    "exposures-daily-patched-with-jura-20241031.fits",
    "exposures-daily-patched-with-jura-20241031.csv",
    "tiles-daily-original-20241031.csv",
    "exposures-daily-original-20241031.fits",
}
TILES = """\
TILEID,SURVEY,PROGRAM,FAPRGRM,FAFLAVOR,NEXP,EXPTIME,TILERA,TILEDEC,EFFTIME_SPEC,OBSSTATUS,GOALTYPE,LASTNIGHT
100,main,dark,dark,maindark,2,900.25,10.5,-1.5,800.5,obsend,dark,20210402
200,main,bright1b,bright1b,mainbright1b,1,300.0,20.5,-2.5,180.0,obsend,bright1b,20210403
"""


def write_production(root: Path, name: str, *, faults: bool = False, cards: bool = False) -> None:
    """A production of two tiles, three exposures, four frames, written by hand; `faults` plants one of many kinds."""
    directory = root / "spectro" / "redux" / name
    directory.mkdir(parents=True)
    tiles = TILES
    if faults:
        tiles = TILES.replace("dark,maindark,2,900.25", "unknown,maindark,2,").replace(
            "200,main,bright1b", "200,main,other"
        )
    (directory / f"tiles-{name}.csv").write_text(tiles)
    survey = np.array([b"main", b"", b"main"] if faults else [b"main"] * 3, dtype="S7")
    exposures = fits.BinTableHDU.from_columns(
        [
            fits.Column("NIGHT", "J", array=[20210401, 20210402, 20210403]),
            fits.Column("EXPID", "J", array=[7, 8, 9]),
            fits.Column("TILEID", "J", array=[100, 100, 200]),
            fits.Column("TILERA", "D", unit="deg", array=[10.5, 0.0 if faults else 10.5, 20.5]),
            fits.Column("TILEDEC", "D", unit="deg", array=[-1.5, 0.0 if faults else -1.5, -2.5]),
            fits.Column("MJD", "D", array=[0.0 if faults else 59305.1, 59306.2, 59307.3]),
            fits.Column("SURVEY", "7A", array=survey),
            fits.Column("PROGRAM", "6A", array=[b"dark", b"dark", b"bright"]),
            fits.Column("FAPRGRM", "16A", array=[b"dark", b"dark", b"bright1b"]),
            fits.Column("FAFLAVOR", "19A", array=[b"maindark", b"maindark", b"mainbright1b"]),
            fits.Column("EFFTIME_SPEC", "D", unit="s", array=[500.5, 300.0, 0.0 if faults else 180.0]),
            fits.Column("GOALTYPE", "8A", array=[b"dark", b"dark", b"bright1b"]),
            fits.Column("AIRMASS", "E", array=np.array([1.1, np.nan if faults else 1.2, 1.3], dtype=np.float32)),
            fits.Column("COUNT", "I", bzero=32768, array=np.array([1, 2, 65535], dtype=np.uint16)),
            fits.Column("GOOD", "L", array=np.array([True, False, True])),
        ],
        name="EXPOSURES",
    )
    exposures.header["NOTE"] = ("kept", "a card of the input")
    exposures.header["TDISP4"] = "F10.4"
    frames = fits.BinTableHDU.from_columns(
        [
            fits.Column("EXPID", "J", array=[7, 7, 8, 9]),
            fits.Column("MJD", "D", array=[0.0 if faults else 59305.1, 59305.1, 59306.2, 59307.3]),
            fits.Column("CAMERA", "2A", array=[b"b0", b"r0", b"b0", b"z9"]),
            fits.Column("TSNR2_ALPHA", "E", array=np.array([1, np.nan if faults else 2, 3, 4], dtype=np.float32)),
            fits.Column("EBV", "E", unit="mag", array=np.array([0.1, 0.2, np.nan if faults else 0.3, 0.4], np.float32)),
            fits.Column("SURVEY", "4A", array=[b"main", b"cmx" if faults else b"main", b"main", b"main"]),
        ],
        name="FRAMES",
    )
    frames.header["NULLS"] = "none"
    other = fits.ImageHDU(np.arange(12, dtype=np.int16), name="EXTRA")
    primary = fits.PrimaryHDU()
    primary.header["ORIGIN"] = "hand"
    path = directory / f"exposures-{name}.fits"
    fits.HDUList([primary, exposures, other, frames]).writeto(path, checksum=cards)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_production(tmp_path / "prod", "jura")
    write_production(tmp_path / "prod", "daily", faults=True)
    return tmp_path / "prod"


def options(root: Path, **changes: Any) -> PatchOptions:
    return PatchOptions(**{"root": root, "output": root.parent / "out", "timestamp": NOW} | changes)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def daily(root: Path) -> Path:
    return production_files(root, "daily")[1]


# Form


def test_files_and_their_values(root: Path) -> None:
    before = contents(root)
    report = patch_production(options(root))
    out = root.parent / "out"
    assert {path.name for path in out.iterdir()} == NAMES
    assert contents(root) == before
    assert (out / "tiles-daily-patched-with-jura-20241031.csv").read_text() == (
        "TILEID,SURVEY,PROGRAM,FAPRGRM,FAFLAVOR,NEXP,EXPTIME,TILERA,TILEDEC,EFFTIME_SPEC,OBSSTATUS,GOALTYPE,LASTNIGHT,"
        "UPDATED\n"
        "100,main,dark,dark,maindark,2,900.25,10.5,-1.5,800.5,obsend,dark,20210402,2024-10-31T12:30:15+0000\n"
        "200,main,bright1b,bright1b,mainbright1b,1,300.0,20.5,-2.5,180.0,obsend,bright1b,20210403,"
        "2024-10-31T12:30:15+0000\n"
    )
    assert (out / "exposures-daily-patched-with-jura-20241031.csv").read_text() == (
        "NIGHT,EXPID,TILEID,TILERA,TILEDEC,MJD,SURVEY,PROGRAM,FAPRGRM,FAFLAVOR,EFFTIME_SPEC,GOALTYPE,AIRMASS,COUNT,"
        "GOOD\n"
        "20210401,7,100,10.5,-1.5,59305.1,main,dark,dark,maindark,500.5,dark,1.100000023841858,1,True\n"
        "20210402,8,100,10.5,-1.5,59306.2,main,dark,dark,maindark,300.0,dark,1.2000000476837158,2,False\n"
        "20210403,9,200,20.5,-2.5,59307.3,main,bright1b,bright1b,mainbright1b,180.0,bright1b,1.2999999523162842,65535,"
        "True\n"
    )
    frames = fitsio.read(str(out / "exposures-daily-patched-with-jura-20241031.fits"), ext="FRAMES")
    assert frames["MJD"].tolist() == [59305.1, 59305.1, 59306.2, 59307.3]
    assert frames["TSNR2_ALPHA"].tolist() == [1.0, 0.0, 3.0, 4.0]
    assert frames["EBV"].tolist() == np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32).tolist()
    assert [str(name).strip() for name in frames["SURVEY"]] == ["main"] * 4
    for kind, source in (("tiles", ".csv"), ("exposures", ".fits")):
        original = root / f"spectro/redux/daily/{kind}-daily{source}"
        assert (out / f"{kind}-daily-original-20241031{source}").read_bytes() == original.read_bytes()
    found = {(change.table, change.column, row) for change in report.changes for row in change.rows.tolist()}
    assert found == {
        ("tiles", "FAPRGRM", 0), ("tiles", "EXPTIME", 0), ("tiles", "PROGRAM", 1),
        ("exposures", "TILERA", 1), ("exposures", "TILEDEC", 1), ("exposures", "MJD", 0), ("exposures", "SURVEY", 1),
        ("exposures", "AIRMASS", 1), ("exposures", "PROGRAM", 2), ("exposures", "EFFTIME_SPEC", 2),
        ("frames", "MJD", 0), ("frames", "TSNR2_ALPHA", 1), ("frames", "EBV", 2), ("frames", "SURVEY", 1),
    }  # fmt: skip


def test_fits_has_the_form_of_the_input(root: Path) -> None:
    patch_production(options(root))
    with fits.open(daily(root)) as old, fits.open(output_files(options(root))["exposures"]) as new:
        assert [hdu.name for hdu in new] == ["PRIMARY", "EXPOSURES", "EXTRA", "FRAMES"]
        for one, two in zip(old, new, strict=True):
            cards = [card.image for card in two.header.cards]
            # PROGRAM, the eighth column of EXPOSURES, has to be wider for bright1b, and a row with it.
            wider = {"TFORM8": "8A", "NAXIS1": old["EXPOSURES"].header["NAXIS1"] + 2} if one.name == "EXPOSURES" else {}
            assert {key: two.header[key] for key in wider} == wider
            expected = one.header.copy()
            for key, value in wider.items():
                expected[key] = value
            assert cards == [card.image for card in expected.cards]
        assert new["EXTRA"].data.tolist() == list(range(12))
        assert new["EXPOSURES"].data["COUNT"].tolist() == [1, 2, 65535]
        assert new["EXPOSURES"].data["GOOD"].tolist() == [True, False, True]
    assert output_files(options(root))["exposures"].stat().st_size % 2880 == 0


def test_checksums_of_the_input_are_made_anew(tmp_path: Path) -> None:
    write_production(tmp_path / "prod", "jura")
    write_production(tmp_path / "prod", "daily", faults=True, cards=True)
    patch_production(options(tmp_path / "prod"))
    with fits.open(output_files(options(tmp_path / "prod"))["exposures"], checksum=True) as hdus:
        for hdu in hdus:
            assert hdu.verify_checksum() == 1
            assert hdu.verify_datasum() == 1


def test_a_production_without_fault_is_copied_byte_by_byte(tmp_path: Path) -> None:
    write_production(tmp_path / "prod", "jura")
    write_production(tmp_path / "prod", "daily", cards=True)
    table = fits.getdata(daily(tmp_path / "prod"), "EXPOSURES")
    table["PROGRAM"][2] = b"bright"
    patch_production(options(tmp_path / "prod", src="jura"))
    with (
        fits.open(output_files(options(tmp_path / "prod"))["exposures"]) as new,
        fits.open(daily(tmp_path / "prod")) as old,
    ):
        assert new["FRAMES"].data.tobytes() == old["FRAMES"].data.tobytes()
        assert new["EXTRA"].header == old["EXTRA"].header


def test_scaled_column_is_stored_as_the_file_scales_it(tmp_path: Path) -> None:
    path = tmp_path / "scaled.fits"
    raw = fits.BinTableHDU.from_columns([fits.Column("A", "I", array=np.array([1, 2, 3], dtype=np.int16))], name="T")
    raw.header["TSCAL1"], raw.header["TZERO1"] = 0.5, 100.0
    fits.HDUList([fits.PrimaryHDU(), raw]).writeto(path)
    with (tmp_path / "new.fits").open("wb") as stream:
        write_fits(path, {"T": (Table({"A": [100.5, 107.5, 101.5]}), {"A"})}, stream)
    assert fits.getdata(tmp_path / "new.fits", "T")["A"].tolist() == [100.5, 107.5, 101.5]


def test_no_rows_at_all(tmp_path: Path) -> None:
    for name in ("jura", "daily"):
        write_production(tmp_path / "prod", name)
        tiles, exposures = production_files(tmp_path / "prod", name)
        tiles.write_text(
            TILES.splitlines(keepends=True)[0] + "100,main,dark,dark,maindark,0,0.0,1.5,1.5,0.0,obsend,dark,0\n"
        )
        with fits.open(exposures) as hdus:
            empty = [fits.BinTableHDU(hdu.data[:0], hdu.header) for hdu in (hdus["EXPOSURES"], hdus["FRAMES"])]
            fits.HDUList([fits.PrimaryHDU(), *empty]).writeto(exposures.with_suffix(".new"))
        exposures.with_suffix(".new").rename(exposures)
    patch_production(options(tmp_path / "prod", first_night=20210101))
    assert len(fitsio.read(str(output_files(options(tmp_path / "prod"))["exposures"]), ext="FRAMES")) == 0


def test_csv_numbers_are_those_of_the_table(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    table = Table({"D": random.normal(size=50) * 10.0 ** random.integers(-300, 300, 50)})
    table["E"] = random.normal(size=50).astype(np.float32)
    table["K"] = random.integers(-(2**63), 2**63 - 1, 50)
    table["T"] = [f'a,"{i}"' for i in range(50)]
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        write_csv(table, stream)
    back = Table.read(tmp_path / "t.csv", format="ascii.csv")
    for name in table.colnames:
        assert back[name].astype(table[name].dtype).tolist() == table[name].tolist()


def test_get_data_gives_tables_and_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Namespace:
        src, dst = "jura", "daily"

    monkeypatch.setenv("DESI_SPECTRO_REDUX", str(root / "spectro" / "redux"))
    source, destination = get_data(Namespace())
    assert set(source) == set(destination) == {"tiles", "tiles_file", "exposures", "frames", "exposures_file"}
    assert destination["exposures_file"] == daily(root)
    assert (len(source["tiles"]), len(source["exposures"]), len(source["frames"])) == (2, 3, 4)
    assert str(source["exposures"]["TILERA"].unit) == "deg"
    assert source["exposures"]["COUNT"].tolist() == [1, 2, 65535]
    assert np.isnan(destination["frames"]["EBV"][2])
    assert destination["tiles"]["EXPTIME"].mask.tolist() == [True, False]
    monkeypatch.delenv("DESI_SPECTRO_REDUX")
    with pytest.raises(ConfigurationError, match="DESI_SPECTRO_REDUX"):
        get_data(Namespace())


# Checks


@pytest.mark.parametrize("name", sorted(NAMES))
def test_nothing_is_overwritten_and_that_is_checked_first(name: str, root: Path) -> None:
    out = root.parent / "out"
    out.mkdir()
    (out / name).write_text("precious")
    # Were it not checked before the work, the absent input would be what is complained of.
    daily(root).unlink()
    with pytest.raises(ConfigurationError, match=f"overwrite.*{name}"):
        patch_production(options(root))
    assert contents(out) == {name: b"precious"}


def test_overwrite_replaces_what_is_there(root: Path) -> None:
    patch_production(options(root))
    out = root.parent / "out"
    first = contents(out)
    for path in out.iterdir():
        path.write_text("old")
    patch_production(options(root, overwrite=True))
    assert contents(out) == first


@pytest.mark.parametrize("name", ["tiles-jura.csv", "exposures-jura.fits", "tiles-daily.csv", "exposures-daily.fits"])
def test_absent_files_are_named(name: str, root: Path) -> None:
    next(root.rglob(name)).unlink()
    with pytest.raises(MissingFileError, match=name):
        patch_production(options(root))
    assert not (root.parent / "out").exists()


def test_absent_hdu_is_named(root: Path) -> None:
    with fits.open(daily(root)) as hdus:
        del hdus["FRAMES"]
        hdus.writeto(daily(root).with_suffix(".new"))
    daily(root).with_suffix(".new").rename(daily(root))
    with pytest.raises(MissingHDUError, match=r"exposures-daily\.fits.*FRAMES"):
        patch_production(options(root))


@pytest.mark.parametrize("content", [b"", b"no FITS at all", None])
def test_broken_fits(content: bytes | None, root: Path) -> None:
    daily(root).write_bytes(daily(root).read_bytes()[:-2800] if content is None else content)
    with pytest.raises(FormatError, match=r"exposures-daily\.fits"):
        patch_production(options(root))
    assert not (root.parent / "out").exists()


def test_broken_csv(root: Path) -> None:
    (root / "spectro/redux/daily/tiles-daily.csv").write_text(TILES + "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n")
    with pytest.raises(FormatError, match=r"tiles-daily\.csv"):
        patch_production(options(root))


@pytest.mark.parametrize(
    "changes",
    [
        {"src": "daily"},
        {"src": "../jura"},
        {"src": ""},
        {"report": Path("changes.txt")},
        {"report": Path("no/such/directory/changes.csv")},
        {"spectro_data": Path("no/such/directory")},
        {"timestamp": NOW.replace(tzinfo=None)},
    ],
)
def test_wrong_options(changes: dict[str, Any], root: Path) -> None:
    with pytest.raises(ConfigurationError):
        patch_production(options(root, **changes))
    assert not (root.parent / "out").exists()


def test_output_that_is_a_file(root: Path) -> None:
    (root.parent / "out").write_text("a file")
    with pytest.raises(ConfigurationError, match="out is a file"):
        patch_production(options(root))


def test_failure_leaves_nothing(root: Path) -> None:
    tiles = root / "spectro/redux/daily/tiles-daily.csv"
    tiles.write_text(tiles.read_text() + "300,sv9,dark,dark,maindark,2,900.25,10.5,-1.5,800.5,obsend,dark,20210402\n")
    with pytest.raises(ValueRejectedError, match=r"row 2 \(300\)"):
        patch_production(options(root, report=root.parent / "changes.csv"))
    assert sorted(path.name for path in root.parent.iterdir()) == ["prod"]


# Report


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_report_is_no_output_of_the_patch(root: Path, overwrite: bool) -> None:
    """However its name is written: the one would be written over the other."""
    for output in output_files(options(root)).values():
        output.parent.mkdir(exist_ok=True)
        if output.suffix == ".csv":
            for name in (output, output.parent / "." / output.name):
                with pytest.raises(ConfigurationError, match="which is an output of the patch"):
                    patch_production(options(root, report=name, overwrite=overwrite))
            assert not output.exists()


def test_report_files_agree(root: Path) -> None:
    out = root.parent
    for suffix in ("csv", "ecsv", "json"):
        patch_production(options(root, dry_run=True, report=out / f"changes.{suffix}"))
    assert sorted(path.name for path in out.iterdir()) == ["changes.csv", "changes.ecsv", "changes.json", "prod"]
    with (out / "changes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    place = [row for row in rows if row["table"] == "exposures" and row["column"] == "TILERA"]
    assert place == [
        {
            "table": "exposures", "column": "TILERA", "rule": "TILERA and TILEDEC are 0", "row": "1", "tileid": "",
            "expid": "8", "camera": "", "old": "0.0", "new": "10.5",
        }
    ]  # fmt: skip
    empty = [row for row in rows if (row["table"], row["column"]) == ("tiles", "EXPTIME")]
    assert [(row["old"], row["new"], row["tileid"]) for row in empty] == [("", "900.25", "100")]
    frame = [row for row in rows if (row["table"], row["column"]) == ("frames", "EBV")]
    assert [(row["old"], row["new"], row["expid"], row["camera"]) for row in frame] == [("nan", "0.3", "8", "b0")]
    ecsv = Table.read(out / "changes.ecsv")
    assert ecsv["new"].tolist() == [row["new"] for row in rows]
    assert ecsv["old"].filled("").tolist() == [row["old"] for row in rows]
    assert ecsv["row"].tolist() == [int(row["row"]) for row in rows]
    changes = json.loads((out / "changes.json").read_text())["changes"]
    assert sum(change["count"] for change in changes) == len(rows)
    flat = [
        (change["table"], change["column"], row, str("" if new is None else new))
        for change in changes
        for row, new in zip(change["row"], change["new"], strict=True)
    ]
    assert flat == [(row["table"], row["column"], int(row["row"]), row["new"]) for row in rows]


def test_report_of_nothing(tmp_path: Path) -> None:
    for suffix in (".csv", ".ecsv", ".json"):
        with (tmp_path / f"empty{suffix}").open("w") as stream:
            write_report(Report(), stream, suffix)
    assert (tmp_path / "empty.csv").read_text() == "table,column,rule,row,tileid,expid,camera,old,new\n"
    assert len(Table.read(tmp_path / "empty.ecsv")) == 0
    assert json.loads((tmp_path / "empty.json").read_text()) == {"changes": [], "unpatched": []}


# Command


def run(*words: str | Path, flags: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-m", "specprod.cli.main", "patch", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def test_command_prints_the_report(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = root.parent / "out"
    assert main(["patch", str(root), str(out), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "exposures TILERA, TILERA and TILEDEC are 0: 1 row\n    row 1, EXPID 8: 0.0 -> 10.5\n" in said.out
    assert "frames EBV, masked: 1 row\n    row 2, EXPID 8 CAMERA b0: nan -> 0.3\n" in said.out
    assert "tiles EXPTIME, not finite: 1 row\n    row 0, TILEID 100: (masked) -> 900.25\n" in said.out
    assert said.out.endswith("daily from jura: 14 values would change; nothing patched was written\n")
    assert not out.exists()
    assert main(["patch", str(root), str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert sum(change["count"] for change in result["changes"]) == 14
    assert sorted(result["files"]) == sorted(str(path) for path in out.iterdir())
    assert main(["patch", str(root), str(out)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "--overwrite" in said.err


def test_command_without_asserts(root: Path) -> None:
    """As `python -O` runs it, bad data are found all the same, and good data give the same files."""
    out = root.parent
    assert run(root, out / "one", flags=("-O",)).returncode == 0
    assert run(root, out / "two").returncode == 0
    for one, two in zip(sorted((out / "one").iterdir()), sorted((out / "two").iterdir()), strict=True):
        if not one.name.startswith("tiles-daily-patched"):  # with the time of the patch
            assert one.read_bytes() == two.read_bytes()
    tiles = root / "spectro/redux/daily/tiles-daily.csv"
    tiles.write_text(tiles.read_text() + tiles.read_text().splitlines()[1] + "\n")
    failed = run(root, out / "three", flags=("-O",))
    assert failed.returncode == 1
    assert failed.stderr == (
        "specprod-load: column TILEID, row 0: tiles to be patched: duplicate keys, in row 0 (100), row 2 (100)\n"
    )
    assert not (out / "three").exists()


@pytest.mark.parametrize("words", [["--first-night", "tomorrow"], ["--nothing"], ["one argument too many"]])
def test_wrong_words_are_usage(words: list[str], root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["patch", str(root), str(root.parent / "out"), *words]) == 2
    assert "Usage" in capsys.readouterr().err


# Atomicity

SLOW = """
import sys, time
from pathlib import Path
from specprod.files.publishing import Publication
with Publication(overwrite=True) as publication:
    for name in sys.argv[1:]:
        with publication.path(Path(name)).open("w") as stream:
            stream.write("new")
            stream.flush()
            print("written", flush=True)
    time.sleep(60)
"""


def test_killed_while_writing_leaves_no_file_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("old")
    names = [str(tmp_path / "there.csv"), str(tmp_path / "absent.csv")]
    process = subprocess.Popen([sys.executable, "-c", SLOW, *names], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert [process.stdout.readline() for _ in names] == [b"written\n"] * 2
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    visible = {path.name: path.read_text() for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert visible == {"there.csv": "old"}


def test_killed_command_leaves_whole_files_or_none(root: Path) -> None:
    """Killed while it copies, and while it writes: what is under a final name is always complete."""
    source, out = daily(root), root.parent / "out"
    with fits.open(source) as hdus:
        number = 80_000
        many = np.tile(hdus["FRAMES"].data.view(np.ndarray), number // 4)
        many["EXPID"] = 7 + np.arange(number) // 4
        many["CAMERA"] = np.tile([b"b0", b"r0", b"z0", b"b1"], number // 4)
        frames = fits.BinTableHDU(many, name="FRAMES")
        fits.HDUList([fits.PrimaryHDU(), hdus["EXPOSURES"], frames]).writeto(source.with_suffix(".new"))
    command = [sys.executable, "-m", "specprod.cli.main", "patch", str(root), str(out), "--overwrite"]
    environment = {**os.environ, "TZ": "UTC"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    whole = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith("tiles-daily-patched")}
    killed = 0
    for partial in ("original_tiles", "exposures"):
        for path in out.iterdir():
            path.unlink()
        # Waits for the temporary file of this output, so that the process dies while it is being written.
        today = datetime.datetime.now(datetime.UTC)
        wanted = "." + output_files(options(root, output=out, timestamp=today))[partial].name
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        while process.poll() is None and not any(path.name.startswith(wanted) for path in out.iterdir()):
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        for path in out.iterdir():
            if path.name in whole:
                assert path.read_bytes() == whole[path.name]
    # On a busy machine one of the two may have written its file between two looks.
    assert killed >= 1
    # And the next run is not hindered by what the killed ones left.
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert {name: (out / name).read_bytes() for name in whole} == whole


def write_and_fail(path: Path) -> None:
    with Publication(overwrite=False) as publication:
        publication.path(path).write_text("half")
        raise InputError("in the middle")


def write_too_late(path: Path) -> None:
    with Publication(overwrite=False) as publication:
        publication.path(path).write_text("mine")
        path.write_text("theirs")


def test_error_while_writing_removes_the_temporary_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in the middle"):
        write_and_fail(tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        write_too_late(tmp_path / "a.csv")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.csv": "theirs"}


def test_production_that_changes_meanwhile_is_an_error(root: Path) -> None:
    tiles, done = root / "spectro/redux/daily/tiles-daily.csv", threading.Event()

    def observe() -> None:
        for second in itertools.count(1_700_000_000):
            os.utime(tiles, (second, second))
            if done.wait(0.0002):
                break

    observer = threading.Thread(target=observe)
    observer.start()
    try:
        with pytest.raises(InputError, match=r"tiles-daily\.csv: this file changed"):
            patch_production(options(root))
    finally:
        done.set()
        observer.join()
    assert list((root.parent / "out").iterdir()) == []
