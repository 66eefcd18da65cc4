"""Readers against astropy and fitsio, on files of every form of column that FITS has."""

from __future__ import annotations

import gzip
import shutil
from itertools import pairwise
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from specprod.errors import FormatError, InputError, MissingFileError, MissingHDUError, ValueRejectedError
from specprod.files.checksums import add, datasum
from specprod.files.fits import read_header
from specprod.files.headers import parse_header
from specprod.files.opening import open_table
from specprod.files.unpacking import Unpacker

pytestmark = pytest.mark.compat

ROWS = 37


def columns() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(20)
    data: dict[str, np.ndarray] = {}
    for kind in ("u1", "i2", "u2", "i4", "u4", "i8", "u8"):
        limits = np.iinfo(kind)
        values = generator.integers(limits.min, limits.max, ROWS, dtype=kind, endpoint=True)
        values[:2] = limits.min, limits.max
        data[kind.upper()] = values
    for kind in ("f4", "f8"):
        values = generator.normal(size=ROWS).astype(kind)
        values[3:6] = np.nan, np.inf, -np.inf
        data[kind.upper()] = values
    data["FLAG"] = generator.integers(0, 2, ROWS).astype(bool)
    data["TEXT"] = np.array(["", "b", "main", "DESI J0", " lead"])[generator.integers(0, 5, ROWS)].astype("S9")
    data["VECTOR"] = generator.normal(size=(ROWS, 5)).astype("f4")
    return data


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reading") / "table.fits"
    first = fits.BinTableHDU(Table(columns()), name="ALL")
    second = fits.BinTableHDU(Table({"A": np.arange(5)}), name="OTHER")
    first.header["NIGHT"] = 20210324
    fits.HDUList([fits.PrimaryHDU(), first, second]).writeto(path, checksum=True)
    return path


@pytest.fixture(scope="module", params=["plain", "gzip"])
def path(request: pytest.FixtureRequest, plain: Path) -> Path:
    if request.param == "plain":
        return plain
    packed = plain.with_name("packed.fits.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    return packed


def equal(found: np.ndarray, expected: np.ndarray) -> bool:
    if expected.dtype.kind == "S":
        return [value.rstrip() for value in found.tolist()] == expected.tolist()
    return bool(np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f"))


@pytest.mark.parametrize("size", [1, 7, ROWS, 1000])
def test_every_form_in_chunks(path: Path, size: int) -> None:
    with open_table(path, "ALL") as reader:
        assert reader.nrows == ROWS
        assert reader.header["NIGHT"] == 20210324
        chunks = list(reader.chunks(size))
        assert [chunk.start for chunk in chunks] == list(range(0, ROWS, size))
        for name, expected in columns().items():
            found = np.concatenate([chunk[name] for chunk in chunks])
            assert found.dtype.kind == expected.dtype.kind, name
            assert found.dtype.itemsize == expected.dtype.itemsize, name
            assert equal(found, expected), name
        rows = [chunk.rows for chunk in reader.chunks(size, start=5)]
        assert np.concatenate(rows).tolist() == list(range(5, ROWS))


def test_rows_that_are_taken(path: Path) -> None:
    with open_table(path, 1) as reader:
        chunk = reader.read(10, 30).take(np.array([1, 4, 9])).take(np.array([2, 0]))
        assert chunk.nrows == 2
        assert chunk.rows.tolist() == [19, 11]
        for name, expected in columns().items():
            assert equal(chunk[name], expected[[19, 11]]), name


def test_names_of_hdus(path: Path) -> None:
    with open_table(path, ("NONE", "OTHER")) as reader:
        assert (reader.hdu, reader.names, reader.nrows) == ("OTHER", ["A"], 5)
    with pytest.raises(MissingHDUError, match=r"no HDU NONE or NEVER; the file has .*ALL, OTHER"):
        open_table(path, ("NONE", "NEVER"))
    with pytest.raises(FormatError, match="expected a binary table"):
        open_table(path, 0)
    assert read_header(path, "ALL")["NIGHT"] == 20210324
    with pytest.raises(MissingHDUError, match="no HDU NONE"):
        read_header(path, "NONE")
    with pytest.raises(MissingFileError, match="no such file"):
        open_table(path.with_name("nothing.fits"))


@pytest.mark.parametrize("size", [1, 8, 1000])
def test_shares_of_the_checksum(path: Path, plain: Path, size: int) -> None:
    """The checksums of ranges of rows, of any width, add up to the DATASUM that astropy computed."""
    with fits.open(plain) as file:
        expected = int(file["ALL"].header["DATASUM"])
    with open_table(path, "ALL") as reader:
        assert reader.row_bytes % 4
        assert reader.datasum() == expected
        assert add(*(reader.checksum(first, first + size) for first in range(0, ROWS, size))) == expected


@given(st.binary(max_size=200), st.lists(st.integers(0, 50), max_size=5))
def test_checksum_of_bytes(data: bytes, cuts: list[int]) -> None:
    """By the definition: the sum of big-endian words, the carry added at the end."""
    padded = data + bytes(-len(data) % 4)
    total = 0
    for place in range(0, len(padded), 4):
        total += int.from_bytes(padded[place : place + 4], "big")
        total = (total & 0xFFFFFFFF) + (total >> 32)
    edges = [0, *sorted(4 * cut for cut in cuts if 4 * cut < len(data)), len(data)]
    assert datasum(data[first:last] for first, last in pairwise(edges)) == total


def test_missing_and_scaled_values(tmp_path: Path) -> None:
    path = tmp_path / "special.fits"
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("N", "J", null=-99, array=np.array([1, -99, 3])),
            fits.Column("S", "I", array=np.array([0, 3, -2])),
            fits.Column("B", "B", array=np.array([0, 128, 255])),
            fits.Column("C", "C", array=np.zeros(3, dtype="c8")),
            fits.Column("P", "PJ()", array=np.array([[1], [2, 3], []], dtype=object)),
            fits.Column("Z", "B", array=np.full(3, ord("y"), dtype="u1")),
            fits.Column("Y", "A", array=np.array(["e", "o", ""])),
        ]
    )
    table.writeto(path)
    with fitsio.FITS(str(path), "rw") as file:
        # Physical values are 10 + 0.5 times what is stored; bytes with a sign are shifted by 128; the byte of Z, which
        # is text of no length now, is the first one of Y.
        for keyword, value in {"TSCAL2": 0.5, "TZERO2": 10.0, "TZERO3": -128, "TFORM6": "0A", "TFORM7": "2A"}.items():
            file[1].write_key(keyword, value)
    with open_table(path) as reader:
        chunk = reader.read(0, 3)
        assert chunk["B"].tolist() == [-128, 0, 127]
        assert chunk["B"].dtype == np.int8
        assert np.ma.getmaskarray(chunk["N"]).tolist() == [False, True, False]
        assert np.ma.getdata(chunk["N"])[[0, 2]].tolist() == [1, 3]
        assert chunk["S"].tolist() == [10.0, 11.5, 9.0]
        assert chunk["Z"].tolist() == [b"", b"", b""]
        assert chunk["Y"].tolist() == [b"ye", b"yo", b"y"]
        for name in "CP":
            with pytest.raises(ValueRejectedError, match=f"columns of the form {name} are not supported"):
                chunk[name]


def test_logical_values_that_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "logical.fits"
    fitsio.write(str(path), np.array([(True,), (False,), (True,)], dtype=[("L", "?")]))
    data = path.read_bytes()
    place = data.rindex(b"TFT")
    path.write_bytes(data[:place] + b"TF\0" + data[place + 3 :])
    with open_table(path) as reader:
        found = reader.read(0, 3)["L"]
    assert np.ma.getmaskarray(found).tolist() == [False, False, True]
    assert found[:2].tolist() == [True, False]


def test_files_with_compressed_images(tmp_path: Path, plain: Path) -> None:
    """Raw exposures (.fz) hold images that are compressed in tiles, and tables that are not."""
    path = tmp_path / "raw.fits.fz"
    image = fits.CompImageHDU(np.arange(10000, dtype="i4").reshape(100, 100), name="IMAGE")
    with fits.open(plain) as file:
        fits.HDUList([fits.PrimaryHDU(), image, file["ALL"]]).writeto(path)
    with open_table(path, "ALL") as reader:
        assert reader.read(0, ROWS)["I8"].tolist() == columns()["I8"].tolist()


def test_compressed_tables_are_named(tmp_path: Path, plain: Path) -> None:
    path = tmp_path / "table.fits"
    shutil.copy(plain, path)
    with fitsio.FITS(str(path), "rw") as file:
        file["ALL"].write_key("ZTABLE", True)
    with pytest.raises(FormatError, match="funpack"):
        open_table(path, "ALL")


@pytest.mark.parametrize("keyword", ["NAXIS1", "NAXIS2", "TFIELDS"])
@pytest.mark.parametrize("value", ["", "nothing", "'1'", "1.5", "-1"])
def test_sizes_that_are_none(keyword: str, value: str, tmp_path: Path, plain: Path) -> None:
    path = tmp_path / "sizes.fits"
    data = plain.read_bytes()
    place = data.index(keyword.encode(), data.index(b"XTENSION"))
    path.write_bytes(data[:place] + f"{keyword:8}= {value:>20}".ljust(80).encode() + data[place + 80 :])
    with pytest.raises(InputError, match=rf"sizes\.fits, HDU ALL: {keyword} is .*, expected a number"):
        open_table(path, "ALL")


def test_a_heap_that_is_not_there(tmp_path: Path, plain: Path) -> None:
    """A header may claim any number of bytes after the rows; the checksum is of those that the file has."""
    path = tmp_path / "heap.fits"
    data = plain.read_bytes()
    place = data.index(b"PCOUNT")
    path.write_bytes(data[:place] + f"PCOUNT  = {10**15:>20}".ljust(80).encode() + data[place + 80 :])
    rest = data[data.index(b"XTENSION") :]
    with open_table(path, "ALL") as reader:
        assert reader.read(0, ROWS)["I8"].tolist() == columns()["I8"].tolist()
        size = (reader.nrows * reader.row_bytes + 2879) // 2880 * 2880
        first = len(data) - len(rest) + rest.index(b"END".ljust(80)) // 2880 * 2880 + 2880
        words = np.frombuffer(data[first : first + size], dtype=">u4")
        assert add(reader.checksum(0, ROWS)) == add(*words.tolist())
        assert reader.datasum() == datasum([data[first:]])


def test_a_file_that_grows_shorter_while_it_is_read(tmp_path: Path, plain: Path) -> None:
    path = tmp_path / "table.fits"
    shutil.copy(plain, path)
    with open_table(path, "ALL") as reader:
        reader.read(0, 5)
        with path.open("r+b") as stream:
            stream.truncate(len(plain.read_bytes()) // 2)
        with pytest.raises(FormatError, match=rf"table\.fits, HDU ALL: truncated at row \d+ of {ROWS}"):
            reader.read(20, ROWS)


@pytest.mark.parametrize("keyword", ["TSCAL3", "TZERO3", "TNULL3"])
def test_numbers_that_are_none(keyword: str, tmp_path: Path, plain: Path) -> None:
    path = tmp_path / "table.fits"
    shutil.copy(plain, path)
    with fitsio.FITS(str(path), "rw") as file:
        file["ALL"].write_key(keyword, "nothing")
    with pytest.raises(FormatError, match=rf"table\.fits, HDU ALL.*: ({keyword} is no number|cannot be read as FITS)"):
        open_table(path, "ALL")


@pytest.mark.parametrize("form", ["csv", "ecsv"])
@pytest.mark.parametrize("packed", [False, True])
def test_text(form: str, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / f"table.{form}"
    data = Table({"A": [1, 2, 3], "B": [0.5, np.nan, -1e300], "C": ["x", "a b", "#y"]})
    data.write(path, format=f"ascii.{form}")
    if packed:
        packed_path = path.with_name(f"{path.name}.gz")
        packed_path.write_bytes(gzip.compress(path.read_bytes()))
        path = packed_path
    with open_table(path) as reader:
        assert (reader.nrows, reader.names, reader.hdu) == (3, ["A", "B", "C"], None)
        for name in data.colnames:
            found = np.concatenate([np.ma.getdata(chunk[name]) for chunk in reader.chunks(2)])
            assert np.array_equal(found, data[name], equal_nan=name == "B")
        assert reader.read(0, 3).take(np.array([2]))["C"].tolist() == ["#y"]
        assert reader.checksum(0, 1) == reader.datasum() == datasum([path_bytes(path)])


def path_bytes(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def test_a_short_line_is_no_row_with_missing_values(tmp_path: Path) -> None:
    path = tmp_path / "exposures.csv"
    path.write_text("EXPID,NIGHT,EXPTIME\n1,20210324,900.5\n2,20210324\n")
    with pytest.raises(FormatError, match=r"exposures\.csv: cannot be read as csv: .*data line 1"):
        open_table(path)
    path.write_text("EXPID,NIGHT,EXPTIME\n1,20210324,900.5\n2,20210324,\n")
    with open_table(path) as reader:
        assert np.ma.getmaskarray(reader.read(0, 2)["EXPTIME"]).tolist() == [False, True]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(width=32), st.text("abc é", max_size=6), st.booleans()),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 8),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float, str, bool]], size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "property.fits"
    kinds = [("K", "i8"), ("E", "f4"), ("A", "S16"), ("L", "?")]
    data = np.array([(k, e, a.rstrip().encode(), flag) for k, e, a, flag in rows], dtype=kinds)
    fitsio.write(str(path), data, clobber=True)
    with open_table(path) as reader:
        for name in data.dtype.names:
            found = np.concatenate([chunk[name] for chunk in reader.chunks(size)])
            assert equal(found, data[name]), name


def test_keywords_of_all_kinds(tmp_path: Path) -> None:
    """What fitsio and astropy read out of a header that they wrote."""
    path = tmp_path / "keywords.fits"
    values = {
        "TEXT": "it's / no comment",
        "EMPTY": "",
        "YES": True,
        "NO": False,
        "COUNT": -(2**40),
        "SMALL": 1.5e-300,
        "LONG": "a long text " * 12 + "with an end",
        "AMPER": "ends with &",
    }
    header = fits.Header({"OBJECT": "x", **values})
    header["UNDEF"] = None
    header["COMMENT"] = "= no value"
    header["HIERARCH ESO DET ID"] = 7
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(Table({"A": [1]}), header=header, name="ALL")]).writeto(path)
    expected = {name: value for name, value in fits.getheader(path, "ALL").items() if name in {*values, "NAXIS1"}}
    assert expected == {**values, "NAXIS1": 8}
    with open_table(path, "ALL") as reader:
        assert {name: reader.header[name] for name in expected} == expected
        assert reader.header["UNDEF"] is None
        assert {"COMMENT", "CONTINUE", "HIERARCH", "END"}.isdisjoint(reader.header)
    assert parse_header(b"DOUBLE  = 1.25D+02 / with an exponent of FORTRAN".ljust(80)) == {"DOUBLE": 125.0}


def test_a_packed_file_is_unpacked_once_for_all_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "two.fits.gz"
    tables = [fits.BinTableHDU(Table({name: [1, 2]}), name=name) for name in ("ONE", "TWO")]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)
    with Unpacker() as unpacker:
        plain = unpacker.open(path)
        for name in ("ONE", "TWO"):
            with open_table(path, name, unpacker=unpacker) as reader:
                assert reader.read(0, 2)[name].tolist() == [1, 2]
        assert unpacker.open(path) is plain
        fits.HDUList([fits.PrimaryHDU(), tables[1]]).writeto(path, overwrite=True)
        with pytest.raises(MissingHDUError):
            open_table(path, "ONE", unpacker=unpacker)
        assert unpacker.open(path) is not plain
