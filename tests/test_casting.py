"""Casts and conversion: what is refused, what is replaced, and where the values of a column come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import given
from hypothesis import strategies as st

from specprod.errors import MissingColumnError, ValueRejectedError
from specprod.load import Fiberassign, Frame, Photometry, Potential
from specprod.model.casting import cast, text_lengths
from specprod.model.converting import Converter, Rejects

pytestmark = pytest.mark.compat


def bad_of(
    values: Any, kind: str, length: int | None = None, choices: list[str] | None = None
) -> tuple[list[int], str]:
    done = cast(values, np.dtype(kind), length, choices, False)
    return ([] if done.bad is None else np.flatnonzero(done.bad).tolist()), done.describe(values)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=30))
def test_unsigned_numbers_do_not_wrap(values: list[int]) -> None:
    done = cast(np.array(values, dtype=np.uint64), np.dtype("i8"), None, None, False)
    for i, value in enumerate(values):
        wrong = done.bad is not None and done.bad[i]
        assert wrong == (value >= 2**63)
        assert wrong or done.values[i] == value


@pytest.mark.parametrize(
    ("values", "kind", "rows", "words"),
    [
        (np.array([1, 40000, -40000]), "i2", [1, 2], "beyond the range of the column, -32768 to 32767: '40000' (and 1"),
        (np.array([0, 1, 2]), "b1", [2], "neither 0 nor 1: '2'"),
        (np.array([1.0, 1e300]), "f4", [1], "beyond the range of the column, ±3.40282e+38: '1e+300'"),
        (np.array([b"a", b"b\0c"]), "S", [1], "text with a NUL character"),
        (np.array([b"a", b"\xff"]), "S", [1], "text that is neither ASCII nor UTF-8"),
        (np.ma.array([1, 999999, 3], mask=[0, 1, 0]), "i8", [1], "no value"),
        (np.ma.array([1, 70000, 70001], mask=[0, 1, 0]), "i2", [1, 2], "no value, or beyond the range"),
        (np.ma.array([True, True], mask=[0, 1]), "b1", [1], "no value"),
    ],
)
def test_values_that_are_refused(values: Any, kind: str, rows: list[int], words: str) -> None:
    found, message = bad_of(values, kind)
    assert found == rows
    assert message.startswith(words)
    # The number that stands below a mask is nobody's.
    assert "999999" not in message


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        (np.array([1.5]), "i4", "expected integers, found floating-point numbers"),
        (np.array([b"1"]), "i4", "expected integers, found text"),
        (np.array([b"1"]), "f8", "expected floating-point numbers, found text"),
        (np.array([0.0]), "b1", "expected logical values, found floating-point numbers"),
        (np.array([1]), "S", "expected text, found integers"),
        (np.array([[1, 2]]), "i4", r"expected one value a row, found an array of shape \(2,\)"),
    ],
)
def test_columns_of_another_type(values: Any, kind: str, words: str) -> None:
    with pytest.raises(ValueRejectedError, match=words):
        cast(values, np.dtype(kind), None, None, False)


@given(st.lists(st.tuples(st.floats(width=32), st.booleans()), min_size=1, max_size=20), st.booleans(), st.booleans())
def test_missing_numbers(items: list[tuple[float, bool]], nan_zero: bool, big_endian: bool) -> None:
    """NaN, infinity and masked numbers become -9999.0; NaN and masked ones 0 where that is asked for."""
    values = np.ma.array([value for value, _ in items], mask=[mask for _, mask in items], dtype=">f4"[not big_endian :])
    done = cast(values, np.dtype("f4"), None, None, nan_zero)
    assert done.bad is None
    for found, (value, mask) in zip(done.values.tolist(), items, strict=True):
        missing = mask or value != value
        expected = (0 if nan_zero else -9999.0) if missing else -9999.0 if np.isinf(value) else value
        assert found == expected
    assert np.isfinite(done.values).all()


def test_texts() -> None:
    masked = np.ma.array([b"dark  ", b"junk", b"  sky"], mask=[0, 1, 0])
    assert cast(masked, np.dtype("S"), 5, None, False).values.tolist() == [b"dark", b"", b"  sky"]
    assert cast(np.array(["é" * 5, ""]), np.dtype("S"), 5, None, False).bad is None
    found, message = bad_of(np.array(["é" * 6, ""]), "S", 5)
    assert found == [0]
    assert message.startswith("text longer than the 5 characters of the column: 'éééééé'")
    found, message = bad_of(np.array(["x" * 5000]), "S", 5)
    assert len(message) < 150
    found, message = bad_of(np.array([b"b0", b"q7", b"b0 "]), "S", 2, ["b0", "r0"])
    assert found == [1]
    assert message == "unknown name, expected one of b0, r0: 'q7'"
    assert cast(np.zeros(0, dtype="S4"), np.dtype("S"), 5, None, False).values.size == 0


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=20))
def test_lengths_of_texts(values: list[bytes]) -> None:
    array = np.array(values, dtype="S12")
    assert text_lengths(array).tolist() == [len(value.rstrip(b"\0")) for value in values]
    assert text_lengths(np.asfortranarray(array)[::-1]).tolist() == [len(v.rstrip(b"\0")) for v in reversed(values)]


# ---- conversion


def potentials(**more: Any) -> Table:
    data = {"TARGETID": [5, 6, 7], "FIBER": [0, 1, 2], "LOCATION": [100, 200, 300], "TILEID": [9, 9, 9]}
    return Table(data | more)


def test_the_caller_says_what_the_file_does_not() -> None:
    assert [item.tileid for item in Potential.convert(potentials())] == [9, 9, 9]
    data = potentials()
    data.remove_column("TILEID")
    (item,) = Potential.convert(data, tileid=80613, row_index=[1])
    assert (item.tileid, item.targetid, item.location) == (80613, 6, 200)
    assert item.id == 200 << 96 | 80613 << 64 | 6
    with pytest.raises(KeyError) as caught:
        Potential.convert(data)
    assert str(caught.value) == (
        "column TILEID: table potential needs TILEID, which the file lacks and the caller did not give"
    )


@pytest.mark.parametrize(
    "make", [lambda t: t, lambda t: t.as_array(), lambda t: {name: np.asarray(t[name]) for name in t.colnames}]
)
@pytest.mark.parametrize("rows", [None, [2, 0], [-1], np.array([1]), [False, True, True], []])
def test_every_kind_of_table_and_of_rows(make: Any, rows: Any) -> None:
    objects = Potential.convert(make(potentials()), row_index=rows)
    expected = (
        [5, 6, 7] if rows is None else np.array([5, 6, 7])[np.array(rows, dtype=None if len(rows) else int)].tolist()
    )
    assert [item.targetid for item in objects] == expected
    # The id is of the same rows as all else.
    assert [item.id & (2**64 - 1) for item in objects] == expected
    assert all(type(item.fiber) is int for item in objects)


def test_names_in_other_letters() -> None:
    data = potentials()
    data.rename_column("LOCATION", "location")
    assert [item.location for item in Potential.convert(data)] == [100, 200, 300]


def test_rows_and_columns_are_named() -> None:
    data = {"TARGETID": np.arange(4), "FIBER": np.array([1, 2, 3, 1 << 40]), "LOCATION": np.arange(4)}
    converter = Converter(Potential, data, {"tileid": 3}, file="f.fits", hdu="POTENTIAL_ASSIGNMENTS")
    with pytest.raises(ValueRejectedError) as caught:
        converter.convert(data, rows=1000)
    assert str(caught.value).startswith("f.fits, HDU POTENTIAL_ASSIGNMENTS, column FIBER, row 1003: beyond the range")


def test_rejected_rows_are_left_out_of_all_columns() -> None:
    data = {
        "TARGETID": np.arange(5),
        "FIBER": np.array([1, 1 << 40, 3, 4, -(1 << 40)]),
        "LOCATION": np.ma.array(np.arange(5), mask=[0, 1, 1, 0, 0]),
    }
    rejects = Rejects()
    columns, rows = Converter(Potential, data, {"tileid": 3}).convert_rows(data, 10, rejects)
    assert rows.tolist() == [10, 13]
    assert columns["targetid"].tolist() == [0, 3]
    assert {name: len(values) for name, values in columns.items()} == dict.fromkeys(columns, 2)
    # A row is rejected for the first reason that there is.
    assert sorted((row, column) for row, column, _ in rejects.rows) == [(11, "FIBER"), (12, "LOCATION"), (14, "FIBER")]


def test_vectors_and_other_names() -> None:
    names = {c.name: c for c in Photometry.__table__.columns}
    data: dict[str, Any] = {}
    for name, column in names.items():
        if name.startswith("dchisq") or name in ("ls_id", "brick_objid", "morphtype"):
            continue
        kind = column.type.python_type
        data[name.upper()] = np.array(["x"]) if kind is str else np.array([kind(1)])
    data |= {"DCHISQ": np.array([[1.0, 2, 3, 4, 5]]), "OBJID": np.array([2657]), "TYPE": np.array(["PSF"])}
    data |= {"RELEASE": np.array([9011]), "BRICKID": np.array([607466])}
    (row,) = Photometry.convert(data)
    assert [getattr(row, f"dchisq_{m}") for m in ("psf", "rex", "dev", "exp", "ser")] == [1, 2, 3, 4, 5]
    assert (row.brick_objid, row.morphtype, row.ls_id) == (2657, "PSF", 9011 << 40 | 607466 << 16 | 2657)
    (row,) = Photometry.convert(data | {"LS_ID": np.array([0])})
    assert row.ls_id == 0
    data["DCHISQ"] = np.array([[1.0, 2, 3, 4]])
    with pytest.raises(ValueRejectedError, match="column DCHISQ: expected a vector of more than 4 elements"):
        Photometry.convert(data)
    del data["DCHISQ"]
    with pytest.raises(MissingColumnError, match="needs DCHISQ, which"):
        Photometry.convert(data)


def test_an_unknown_camera() -> None:
    data = {c.name.upper(): np.ones(3) for c in Frame.__table__.columns if c.type.python_type is float}
    data |= {name: np.array([1, 2, 3]) for name in ("NIGHT", "EXPID", "TILEID")}
    frames = Frame.convert(data | {"CAMERA": np.array(["b0", "r5", "z9"])})
    assert [frame.frameid for frame in frames] == [100, 215, 329]
    with pytest.raises(ValueRejectedError, match=r"column CAMERA, row 1: unknown name.*: 'r10'|longer than the 2"):
        Frame.convert(data | {"CAMERA": np.array(["b0", "r10", "z9"])})


def test_masked_columns_of_astropy() -> None:
    data = {c.name.upper(): [1] * 3 for c in Fiberassign.__table__.columns if c.name not in ("id", "tileid")}
    data |= {c.name.upper(): [1.0] * 3 for c in Fiberassign.__table__.columns if c.type.python_type is float}
    table = Table(data)
    table["PMRA"] = MaskedColumn([1.0, 2.0, 3.0], mask=[False, True, False])
    rows = Fiberassign.convert(table, tileid=1)
    assert [row.pmra for row in rows] == [1.0, -9999.0, 3.0]
    converter = Converter(Fiberassign, table.colnames, {"tileid": 1}, nan_zero=True)
    assert converter.convert(table)["pmra"].tolist() == [1.0, 0.0, 3.0]
    table["FIBER"] = MaskedColumn([1, 2, 3], mask=[False, True, False])
    with pytest.raises(ValueRejectedError, match=r"column FIBER, row 1: no value$"):
        Fiberassign.convert(table, tileid=1)
