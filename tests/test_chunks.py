"""Rows of a file as a mapping, as filters and conversions take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.table import Table

from specprod.errors import MissingColumnError, ValueRejectedError
from specprod.files.opening import open_table
from specprod.files.tables import Chunk

pytestmark = pytest.mark.compat

DATA = {"TARGETID": np.arange(50) + 100, "z": np.linspace(0, 2, 50), "NAME": np.array(["a", "b"] * 25, dtype="S3")}


def fits(tmp_path: Path) -> Path:
    path = tmp_path / "rows.fits"
    fitsio.write(str(path), Table(DATA).as_array(), extname="ROWS")
    return path


def csv(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    Table(DATA | {"NAME": DATA["NAME"].astype(str)}).write(path, format="ascii.csv")
    return path


@pytest.fixture(params=["read", "view", "taken", "csv"])
def chunk(request: pytest.FixtureRequest, tmp_path: Path) -> Chunk:
    with open_table(csv(tmp_path) if request.param == "csv" else fits(tmp_path)) as reader:
        if request.param == "taken":
            # The first column is read before rows are taken, the others after.
            whole = reader.view()
            return whole.take(np.flatnonzero((whole["TARGETID"] >= 110) & (whole["TARGETID"] < 130)))
        return reader.view(10, 30) if request.param == "view" else reader.read(10, 30)


def test_a_chunk_is_a_mapping(chunk: Chunk) -> None:
    assert isinstance(chunk, Mapping)
    assert list(chunk) == chunk.colnames == list(DATA) == list(chunk.keys())
    assert len(chunk) == 3
    assert chunk.nrows == 20
    assert "z" in chunk
    assert "X" not in chunk
    assert 5 not in chunk
    assert chunk.get("X") is None
    assert {name: values.tolist() for name, values in chunk.items()} == {
        name: [v.decode() if isinstance(v, bytes) and isinstance(chunk[name][0], str) else v for v in values[10:30]]
        for name, values in DATA.items()
    }
    with pytest.raises(KeyError) as caught:
        chunk["X"]
    assert isinstance(caught.value, MissingColumnError)
    assert "rows." in str(caught.value)
    assert "column X: there is no such column" in str(caught.value)


def test_names_in_any_case(chunk: Chunk) -> None:
    assert chunk["targetid"].tolist() == chunk["TARGETID"].tolist() == list(range(110, 130))
    assert "Z" in chunk
    assert chunk["Z"].tolist() == chunk["z"].tolist()


def test_names_that_differ_only_in_case(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("z,Z\n1,2\n")
    with open_table(path) as reader:
        chunk = reader.read(0, 1)
        assert (chunk["z"].tolist(), chunk["Z"].tolist()) == ([1], [2])


@pytest.mark.parametrize("again", [False, True])
def test_rows_of_rows(chunk: Chunk, again: bool) -> None:
    some = chunk.take(np.array([3, 0, 19, 3]))
    if again:
        assert some["z"].tolist() == DATA["z"][[13, 10, 29, 13]].tolist()
    last = some.take(np.array([2, 1]))
    assert last.rows.tolist() == [29, 10]
    assert last["TARGETID"].tolist() == [129, 110]
    assert last.nrows == 2
    assert last.take(np.zeros(0, dtype=np.int64))["NAME"].size == 0
    assert chunk["TARGETID"].size == 20


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (lambda v: v.astype(str).astype("S9"), "expected integers, found text"),
        (lambda v: v.astype("f8"), "expected integers, found floating-point numbers"),
        (lambda v: v > 120, "expected integers, found logical values"),
        (lambda v: np.where(v == 125, np.uint64(2**64 - 1), v.astype("u8")), "no value, or beyond 64 bits"),
    ],
)
def test_integers(kind: Callable[[np.ndarray], np.ndarray], says: str, tmp_path: Path) -> None:
    path = tmp_path / "ids.fits"
    Table({"targetid": kind(DATA["TARGETID"]), "I": DATA["TARGETID"].astype("i2")}).write(path)
    with open_table(path) as reader:
        chunk = reader.view(5, 40)
        assert chunk.integers("I").dtype == np.int64
        assert chunk.numbers("I").tolist() == list(range(105, 140))
        with pytest.raises(ValueRejectedError, match=rf"ids\.fits, HDU 1, column TARGETID.*: {says}") as caught:
            chunk.integers("TARGETID")
        assert caught.value.row == (25 if "beyond" in says else None)
        if "text" in says:
            with pytest.raises(ValueRejectedError, match=r"ids\.fits, HDU 1, column targetid: expected numbers"):
                chunk.numbers("targetid")


def test_a_large_table_row_by_row_and_column_by_column(tmp_path: Path) -> None:
    """Rows of 12 MB are not held: columns pass through a buffer, and rows far apart are read one by one."""
    path = tmp_path / "large.fits"
    generator = np.random.default_rng(3)
    data = np.zeros(30_000, dtype=[("A", "f8"), ("PAD", "S380"), ("B", "i4"), ("V", "f4", (3,))])
    data["A"], data["B"] = generator.normal(size=data.size), np.arange(data.size)
    data["V"] = generator.normal(size=(data.size, 3))
    fitsio.write(str(path), data)
    with open_table(path) as reader:
        view = reader.view()
    for rows in (
        np.arange(data.size),
        generator.permutation(data.size),
        np.array([29_999, 0, 5, 5, 17_000]),
        np.arange(0, data.size, 997),
        np.flatnonzero(generator.random(data.size) < 0.9),
        np.zeros(0, dtype=np.int64),
    ):
        part = view.take(rows)
        for name in ("A", "B", "V"):
            assert np.array_equal(part[name], data[name][rows]), (rows, name)
    for name in ("A", "B", "V"):
        assert np.array_equal(view[name], data[name])
