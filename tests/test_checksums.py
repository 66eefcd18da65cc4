"""CHECKSUM and DATASUM of FITS files: right where astropy or CFITSIO wrote them, and wrong after any flip of a bit."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from specprod.errors import ChecksumError, InputError
from specprod.files.opening import open_table
from specprod.files.tables import TableReader

pytestmark = pytest.mark.compat

ROWS = 97


def table() -> np.ndarray:
    generator = np.random.default_rng(5)
    data = {"TARGETID": generator.integers(0, 2**60, ROWS), "Z": generator.normal(size=ROWS), "B": np.ones(ROWS, bool)}
    return Table(data | {"NAME": np.full(ROWS, b"abc")}).as_array()


def by_astropy(path: Path) -> None:
    second = fits.BinTableHDU(Table({"A": np.arange(5)}), name="OTHER")
    hdus = [fits.PrimaryHDU(), second, fits.BinTableHDU(table(), name="ROWS")]
    hdus[2].header["OBJECT"] = ("M31", "with a comment")
    fits.HDUList(hdus).writeto(path, checksum=True)


def by_cfitsio(path: Path) -> None:
    with fitsio.FITS(str(path), "rw") as file:
        file.write(table(), extname="ROWS", header={"OBJECT": "M31", "NIGHT": 20210324})
        file["ROWS"].write_checksum()


def with_heap(path: Path) -> None:
    values = np.array([np.arange(n) for n in range(ROWS)], dtype=object)
    column = fits.Column("P", "PJ()", array=values)
    fits.BinTableHDU.from_columns([*fits.BinTableHDU(table()).columns, column], name="ROWS").writeto(
        path, checksum=True
    )


@pytest.fixture(params=[by_astropy, by_cfitsio, with_heap])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    place = tmp_path / "sums.fits"
    request.param(place)
    return place


def check(reader: TableReader) -> None:
    reader.check_header()
    reader.check_data(reader.datasum())


def wrong(path: Path) -> str:
    """What is wrong with a file; nothing, if it passes."""
    try:
        with open_table(path, "ROWS") as reader:
            check(reader)
    except InputError as error:
        return str(error)
    return ""


def places(path: Path) -> tuple[int, int, int]:
    """Bytes at which header, data and the end of the HDU are, as astropy finds them."""
    with fits.open(path) as file:
        info = file["ROWS"].fileinfo()
    return info["hdrLoc"], info["datLoc"], info["datLoc"] + info["datSpan"]


def test_sums_that_are_right(path: Path) -> None:
    with fits.open(path) as file:
        claimed = int(file["ROWS"].header["DATASUM"])
    with open_table(path, "ROWS") as reader:
        assert reader.claimed_datasum == claimed
        assert reader.has_heap == (bool(reader.header["PCOUNT"]))
        check(reader)


def test_any_flip_in_the_data_is_found(path: Path) -> None:
    _, data, end = places(path)
    with path.open("r+b") as stream:
        chance = random.Random(1)
        for place in chance.sample(range(data, end), 400):
            byte = os.pread(stream.fileno(), 1, place)
            os.pwrite(stream.fileno(), bytes([byte[0] ^ 1 << chance.randrange(8)]), place)
            message = wrong(path)
            assert "sums.fits, HDU ROWS: its data have the checksum" in message
            assert "but its header says DATASUM" in message
            os.pwrite(stream.fileno(), byte, place)
    assert wrong(path) == ""


def test_any_flip_in_the_header_is_found(path: Path) -> None:
    """But in the name of CHECKSUM itself, without which there is none."""
    header, data, _ = places(path)
    card = path.read_bytes().index(b"CHECKSUM=", header)
    by_sum = 0
    with path.open("r+b") as stream:
        chance = random.Random(2)
        for place in range(header, data):
            byte = os.pread(stream.fileno(), 1, place)
            os.pwrite(stream.fileno(), bytes([byte[0] ^ 1 << chance.randrange(8)]), place)
            message = wrong(path)
            if not card <= place < card + 10:
                assert message, (place - header) % 80
            by_sum += "its header is not what CHECKSUM" in message
            os.pwrite(stream.fileno(), byte, place)
    assert by_sum > 0.8 * (data - header)
    assert wrong(path) == ""


def test_rows_that_change_their_places_are_not_found(path: Path) -> None:
    """The sum does not know the order of words: what it cannot see is known."""
    _, data, _ = places(path)
    content = bytearray(path.read_bytes())
    content[data : data + 4], content[data + 4 : data + 8] = content[data + 4 : data + 8], content[data : data + 4]
    path.write_bytes(content)
    assert wrong(path) == ""


def edited(path: Path, **values: object) -> Path:
    """Change keywords of the last HDU without computing sums anew, as astropy would."""
    content = path.read_bytes()
    for name, value in values.items():
        place = content.rindex(f"{name:8}=".encode())
        content = content[:place] + fits.Card(name, value).image.encode() + content[place + 80 :]
    path.write_bytes(content)
    return path


def test_a_card_that_was_edited(path: Path) -> None:
    with pytest.raises(
        ChecksumError, match=r"sums\.fits, HDU ROWS: its header is not what CHECKSUM '.{16}' and DATASUM"
    ):
        check(open_table(edited(path, TTYPE1="TARGETIE"), "ROWS"))


def test_only_one_of_the_sums(path: Path, tmp_path: Path) -> None:
    with fits.open(path) as file:
        del file["ROWS"].header["CHECKSUM"], file["ROWS"].header["DATASUM"]
        file.writeto(tmp_path / "none.fits")
        assert file["ROWS"].add_datasum()
        file.writeto(tmp_path / "data.fits")
    for name in ("none.fits", "data.fits"):
        with open_table(tmp_path / name, "ROWS") as reader:
            assert (reader.claimed_datasum is None) == (name == "none.fits")
            check(reader)
            reader.check_data(reader.datasum())
            if name == "data.fits":
                with pytest.raises(ChecksumError):
                    reader.check_data(reader.datasum() ^ 1)
    # Without DATASUM the sum of the data themselves counts.
    content = path.read_bytes()
    place = content.rindex(b"DATASUM =")
    path.write_bytes(content[:place] + b"DATASUN" + content[place + 7 :])
    assert "its header is not what CHECKSUM" in wrong(path)


@pytest.mark.parametrize("text", ["x", "-5", "١٢"])
def test_a_sum_that_is_none(text: str, path: Path) -> None:
    content = path.read_bytes()
    place = content.rindex(b"DATASUM =")
    path.write_bytes(content[:place] + f"DATASUM = '{text}'".encode().ljust(80) + content[place + 80 :])
    assert "DATASUM is " in wrong(path)


def test_blank_sums_say_nothing(path: Path) -> None:
    edited(path, CHECKSUM="", DATASUM="")
    with open_table(path, "ROWS") as reader:
        assert reader.claimed_datasum is None
        check(reader)


def test_the_files_of_a_production(sample_root: Path, realdata: Path) -> None:
    """None that the survey wrote, nor ours, is taken for damaged."""
    checked = 0
    for path in [*sorted(sample_root.rglob("*.fits*")), *sorted(realdata.rglob("*.fits"))]:
        with fits.open(path) as file:
            numbers = [i for i, hdu in enumerate(file) if isinstance(hdu, fits.BinTableHDU)]
            sums = [i for i in numbers if "CHECKSUM" in file[i].header]
        for number in numbers:
            with open_table(path, number) as reader:
                check(reader)
        checked += len(sums)
    assert checked > 5


def test_text_has_no_sums(tmp_path: Path) -> None:
    path = tmp_path / "x.ecsv"
    data = Table({"A": [1]}, meta={"DATASUM": "5", "CHECKSUM": "x", "PCOUNT": 1})
    data.write(path, format="ascii.ecsv")
    with open_table(path) as reader:
        assert (reader.claimed_datasum, reader.has_heap) == (None, False)
        check(reader)
    shutil.rmtree(tmp_path)
