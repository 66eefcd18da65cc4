"""Tables whose headers or cells are odd: one line that says where, little memory, and no wrong value."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from specprod.cli.main import main
from specprod.errors import FormatError, InputError, ValueRejectedError
from specprod.files.opening import open_table
from specprod.load import Tile
from support.digests import digests

REDUX = "spectro/redux/sample"
EXPOSURES, TILES = f"{REDUX}/exposures-sample.fits", f"{REDUX}/tiles-sample.fits"
ZPIX = f"{REDUX}/zcatalog/zall-pix-sample.fits"


@pytest.fixture
def tree(sample_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample_root, tmp_path / "tree"))


@pytest.fixture(scope="module")
def clean(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    target = str(tmp_path_factory.mktemp("clean") / "specprod.db")
    assert run(sample_root, target) == 0
    return digests(target)


def run(tree: Path, target: str, *more: str) -> int:
    return main(["run", str(tree), "--specprod", "sample", "--database", target, "--quiet", *more])


def rewrite(path: Path, hdu: str, change: Callable[[Table], Any]) -> None:
    with fitsio.FITS(str(path)) as file:
        tables = [(item.get_extname(), item.read()) for item in list(file)[1:]]
    path.unlink()
    with fitsio.FITS(str(path), "rw") as file:
        for name, rows in tables:
            file.write(change(Table(rows)).as_array() if name == hdu else rows, extname=name)


def renamed(table: Table, change: Callable[[str], str]) -> Table:
    table.rename_columns(table.colnames, [change(name) for name in table.colnames])
    return table


def with_text(table: Table) -> Table:
    table["TARGETID"] = np.array([f"{value}" for value in table["TARGETID"]])
    return table


def number(path: Path, hdu: str, column: str) -> int:
    with fits.open(path) as file:
        return file[hdu].columns.names.index(column) + 1


@pytest.mark.parametrize(("keyword", "value"), [("TZERO", 32768), ("TSCAL", 2.5)])
def test_scales_of_text(
    keyword: str, value: float, tree: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fitsio.FITS(str(tree / EXPOSURES), "rw") as file:
        file["EXPOSURES"].write_key(f"{keyword}{number(tree / EXPOSURES, 'EXPOSURES', 'SURVEY')}", value)
    assert run(tree, str(sqlite_file)) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    expected = f"{tree / EXPOSURES}, HDU EXPOSURES, column SURVEY: TSCAL and TZERO have no meaning for text"
    assert lines == [f"specprod-load: {expected}"]


def test_names_of_columns_in_lower_case(tree: Path, sqlite_file: Path, clean: dict[str, tuple[int, str]]) -> None:
    for path, hdu in (
        *((path, "TARGETPHOT") for path in (tree / "vac").rglob("targetphot-*.fits")),
        *((path, "TRACTORPHOT") for path in (tree / "vac").rglob("tractorphot*.fits")),
        (tree / ZPIX, "ZCATALOG"),
    ):
        rewrite(path, hdu, lambda table: renamed(table, str.lower))
    assert run(tree, str(sqlite_file)) == 0
    assert digests(str(sqlite_file)) == clean


@pytest.mark.parametrize(
    ("pattern", "hdu"),
    [("vac/**/targetphot-*.fits", "TARGETPHOT"), ("vac/**/tractorphot*.fits", "TRACTORPHOT"), (ZPIX, "ZCATALOG")],
)
def test_targets_as_text(
    pattern: str, hdu: str, tree: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sorted(tree.glob(pattern))[0]
    rewrite(path, hdu, with_text)
    assert run(tree, str(sqlite_file)) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == [f"specprod-load: {path}, HDU {hdu}, column TARGETID: expected integers, found text"]


@pytest.mark.parametrize("hdu", ["FIBERASSIGN", "POTENTIAL_ASSIGNMENTS", "TARGETS"])
def test_targets_of_a_tile_as_text(hdu: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "tree"
    assert main(["sample", str(root), "--specprod", "daily", "--tile-inputs", "--tiles", "1", "--assigned", "40"]) == 0
    tiles = Table.read(root / "spectro/redux/daily/tiles-daily.csv")
    tileid = int(tiles["TILEID"][tiles["EFFTIME_SPEC"] > 0][0])
    path = sorted((root / "target/fiberassign").rglob(f"fiberassign-{tileid:06d}.fits*"))[0]
    with fits.open(path) as file:
        hdus = [item.copy() for item in file]
    place = next(i for i, item in enumerate(hdus) if item.name == hdu)
    hdus[place] = fits.BinTableHDU(with_text(Table(hdus[place].data)), name=hdu)
    fits.HDUList(hdus).writeto(path, overwrite=True)
    capsys.readouterr()
    words = ["tile", str(root), str(tileid), "--specprod", "daily", "--database", str(tmp_path / "s.db")]
    assert main(words) == 1
    assert f"{path}, HDU {hdu}, column TARGETID: expected integers, found text" in capsys.readouterr().err


# ---- sizes that headers or cells claim


def header(**values: Any) -> bytes:
    cards = {"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2} | values
    text = "".join(fits.Card(name, value).image for name, value in cards.items()) + "END".ljust(80)
    primary = "".join(fits.Card(n, v).image for n, v in {"SIMPLE": True, "BITPIX": 8, "NAXIS": 0}.items())
    return b"".join(part.ljust(-(-len(part) // 2880) * 2880).encode() for part in (primary + "END".ljust(80), text))


def table(path: Path, size: int, **values: Any) -> Path:
    """A file with holes: as large as its header says, on a disk that need not be."""
    default = {"NAXIS1": 8, "NAXIS2": 1, "PCOUNT": 0, "GCOUNT": 1, "TFIELDS": 1, "TTYPE1": "A", "TFORM1": "K"}
    path.write_bytes(header(**default | values))
    os.truncate(path, path.stat().st_size + size)
    return path


@pytest.mark.parametrize(
    ("size", "values", "says"),
    [
        (6 * 10**9, {"NAXIS1": 3 * 10**9, "NAXIS2": 2, "TFORM1": "3000000000A"}, "NAXIS1 is 3000000000: rows"),
        (0, {"NAXIS1": 0, "NAXIS2": 10**15, "TFIELDS": 0}, "NAXIS1 is 0: rows of so many bytes are not read"),
        (2880, {"NAXIS2": 10**15}, "truncated: "),
        (2880, {"NAXIS2": True}, "NAXIS2 is True, expected a number"),
        (2880, {"TFIELDS": 10**12}, "the header lacks 'TTYPE2'"),
        (2880, {"TTYPE1": ""}, "TTYPE1 is ''"),
        (2880, {"TTYPE1": 5}, "TTYPE1 is 5"),
        (2880, {"TFORM1": True}, "TFORM1 is True"),
        (2880, {"TSCAL1": "NAN"}, "TSCAL1 is no number: 'NAN'"),
        (2880, {"TZERO1": True}, "TZERO1 is no number: True"),
        (2880, {"TZERO1": 10**60}, ""),
        (2880, {"TNULL1": 10**60}, ""),
        (2880, {"TSCAL1": 1e300}, ""),
    ],
)  # fmt: skip
def test_headers_that_claim_much(size: int, values: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = table(tmp_path / "x.fits", size, **values)
    if says:
        with pytest.raises(FormatError, match=rf"x\.fits, HDU 1(, column A)?: {says}"):
            open_table(path)
        return
    with open_table(path) as reader:
        assert reader.read(0, 1)["A"].astype(float).tolist() == [float(values.get("TZERO1", 0))]


@pytest.mark.parametrize("value", ["1_0", "0x10", "1 0", "--1"])
def test_numbers_of_python_are_none_of_fits(value: str, tmp_path: Path) -> None:
    path = table(tmp_path / "x.fits", 2880)
    content = path.read_bytes()
    place = content.index(b"NAXIS2  =")
    path.write_bytes(content[:place] + f"NAXIS2  = {value:>20}".ljust(80).encode() + content[place + 80 :])
    with pytest.raises(FormatError, match=rf"NAXIS2 is '{value}', expected a number"):
        open_table(path)


def test_a_header_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(header()[:2880] + b"XTENSION= 'BINTABLE'".ljust(80) + b" " * 20_000_000)
    with pytest.raises(FormatError, match="the header of HDU 1 has more than 65536 cards"):
        open_table(path)


def test_other_kinds_of_hdus_before_the_table(tmp_path: Path) -> None:
    """Images, text tables, random groups, heaps: the place of what follows is as astropy and CFITSIO have it."""
    path = tmp_path / "x.fits"
    groups = fits.GroupsHDU(
        fits.GroupData(np.zeros((3, 1, 2, 4), dtype=">f4"), parnames=["A"], pardata=[np.ones(3)], bitpix=-32)
    )
    long = np.array([np.arange(n) for n in (3, 0, 700)], dtype=object)
    parts = [
        fits.ImageHDU(np.zeros((7, 11, 3), dtype=">f8"), name="CUBE"),
        fits.TableHDU.from_columns([fits.Column("A", "F10.4", array=np.arange(90.0))], name="TEXT"),
        fits.BinTableHDU.from_columns([fits.Column("P", "PK()", array=long)], name="HEAP"),
        fits.CompImageHDU(np.arange(900, dtype="i4").reshape(30, 30), name="PACKED"),
        fits.BinTableHDU(Table({"A": [1, 2, 3]}), name="ROWS"),
    ]
    for first in (groups, fits.PrimaryHDU(np.zeros((5, 9), dtype=">i2")), fits.PrimaryHDU()):
        fits.HDUList([first, *parts]).writeto(path, overwrite=True)
        with fits.open(path) as file:
            expected = [item.fileinfo()["datLoc"] for item in file]
        with open_table(path, "ROWS") as reader:
            assert reader.read(0, 3)["A"].tolist() == [1, 2, 3]
            assert fitsio.read(str(path), "ROWS")["A"].tolist() == [1, 2, 3] or first is groups
        with open_table(path, "rows") as reader:
            data = path.read_bytes()[expected[-1] : expected[-1] + 24]
            assert np.frombuffer(data, ">i8").tolist() == reader.read(0, 3)["A"].tolist()


def memory_of(code: str) -> tuple[str, int]:
    """Run something in a process of its own that may have 3 GB of addresses."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))  # noqa: E731
    words = [
        sys.executable,
        "-c",
        code + "\nimport resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 0, done.stderr
    text, _, size = done.stdout.strip().rpartition("\n")
    return text, int(size) // 1024


@pytest.mark.parametrize("quoted", [False, True])
def test_a_cell_of_a_megabyte(quoted: bool, tmp_path: Path) -> None:
    path = tmp_path / "tiles.csv"
    cell = '"' + "x, " * (1 << 18) + '"' if quoted else "x" * (1 << 20)
    path.write_text("TILEID,SURVEY\n" + "1,main\n" * 2900 + f"2,{cell}\n")
    text, size = memory_of(f"""
from specprod.errors import InputError
from specprod.files.opening import open_table
try:
    open_table({str(path)!r})
except InputError as error:
    print(error)
""")
    length = (3 << 18) if quoted else (1 << 20)
    expected = f"{path}, column SURVEY, row 2900: a cell of {length} characters; more than 1000 are not read"
    assert text == expected
    assert size < 400


def test_a_text_that_does_not_end_in_its_line(tmp_path: Path) -> None:
    path = tmp_path / "tiles.csv"
    path.write_text('TILEID,SURVEY\n1,main\n2,"ma\nin"\n')
    with pytest.raises(FormatError, match=r"tiles\.csv, row 1: a quoted text does not end in its line"):
        open_table(path)


def test_long_lines_of_short_cells(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    names = [f"COLUMN_{i}" for i in range(400)]
    path.write_text(",".join(names) + "\n" + ",".join('"a, b"' for _ in names) + "\n")
    with open_table(path) as reader:
        assert reader.read(0, 1)["COLUMN_399"].tolist() == ["a, b"]


# ---- text


@pytest.mark.parametrize("name", ["x.csv", "x.ecsv"])
@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (b"ma\xffin", "text that is neither ASCII nor UTF-8"),
        (b"\xed\xa0\x80", "text that is neither ASCII nor UTF-8"),
        (b"ma\0in", "text with a NUL character"),
        ("Größe".encode("utf-16"), "text "),
    ],
)
def test_bytes_that_are_no_text(name: str, cell: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    Table({"TILEID": [1, 2], "SURVEY": ["main", "PLACE"]}).write(path, format=f"ascii.{path.suffix[1:]}")
    path.write_bytes(path.read_bytes().replace(b"PLACE", cell))
    with pytest.raises(FormatError, match=rf"x\.\w+, column SURVEY, row 1: {says}"):
        open_table(path)


@pytest.mark.parametrize("name", ["x.csv", "x.ecsv"])
def test_text_in_utf_8(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    kind = f"ascii.{path.suffix[1:]}"
    Table({"TILEID": [1, 2], "SURVEY": ["main", "Größe\u2028x"]}).write(path, format=kind)
    for mark in (b"", b"\xef\xbb\xbf"):
        if mark and name == "x.ecsv":
            continue
        path.write_bytes(mark + path.read_bytes())
        with open_table(path) as reader:
            chunk = reader.read(0, 2)
            assert chunk.colnames == ["TILEID", "SURVEY"]
            assert chunk["SURVEY"].tolist() == ["main", "Größe\u2028x"]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_ends_of_lines(end: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(end.join(["A,B", "1,x", "2,é", ""]).encode())
    with open_table(path) as reader:
        assert reader.read(0, 2)["B"].tolist() == ["x", "é"]


def test_text_of_fits_that_is_no_utf_8(tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    def change(table: Table) -> Table:
        table["OBSSTATUS"] = [b"obsend", b"obsend", b"obs\xe9", *[b"obsend"] * (len(table) - 3)]
        return table

    rewrite(tree / TILES, "TILE_COMPLETENESS", change)
    assert run(tree, database_target) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert f"{tree / TILES}, HDU TILE_COMPLETENESS, column OBSSTATUS, row 2: text that is neither ASCII nor" in lines[0]


def test_the_row_of_a_bad_text_of_a_converted_file() -> None:
    data = {item.name.upper(): np.array([1, 2]) for item in Tile.__table__.columns}
    data = {
        name: np.array([b"x", b"\xff"]) if item.type.python_type is str else values.astype(item.type.python_type)
        for (name, values), item in zip(data.items(), Tile.__table__.columns, strict=True)
    }
    with pytest.raises(ValueRejectedError, match="row 1: text that is neither ASCII nor UTF-8"):
        Tile.convert(data)


def test_what_has_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for text in ("", "\n\n", " "):
        path.write_text(text)
        with pytest.raises(InputError, match=r"x\.csv: has no line with the names of columns"):
            open_table(path)
