"""Identifiers, casts and the binary stream, as properties."""

from __future__ import annotations

import decimal
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specprod.database.postgresql.copying import BinaryPacker
from specprod.errors import ValueRejectedError
from specprod.model import TABLES, table_of
from specprod.model.casting import cast
from specprod.model.converting import database_dtype
from specprod.survey import identifiers as ids

pytestmark = pytest.mark.compat
int64 = st.integers(-(2**63), 2**63 - 1)


def test_published_values() -> None:
    assert ids.targetphotid(123456789, 1234, "main") == 475368997848868212518973852949
    assert ids.zpixid(123456789, "main", "dark") == 237684487653473477223012617493
    assert ids.ztileid(123456789, "cumulative", 20220613, 1234) == 33503513911740049863153959922673896725
    assert ids.fiberassignid(123456789, 1234, 1234) == 97767552565365474777390944865557
    assert ids.targetphotid(39628267690397802, 81100, "special") == 158457821059512681299414356074
    assert ids.lsid(9011, 607466, 2657) == 9011 << 40 | 607466 << 16 | 2657
    assert ids.frameid(80613, "z9") == 8061329
    assert ids.decode_targetid(39633345008634465)["brickid"] == 607466


@given(st.lists(st.tuples(int64, int64), min_size=1, max_size=50))
def test_128_bits(words: list[tuple[int, int]]) -> None:
    numbers = ids.int128([high for high, _ in words], [low for _, low in words])
    expected = [(high % 2**64) << 64 | low % 2**64 for high, low in words]
    assert ids.as_integers(numbers).tolist() == expected
    small = [value for value in expected if value < 10**39]
    texts = [text.decode() for text in ids.as_decimal_text(numbers).tolist()]
    assert [text for text, value in zip(texts, expected, strict=True) if value < 10**39] == [f"{v:039d}" for v in small]
    assert sorted(f"{value:039d}" for value in small) == [f"{value:039d}" for value in sorted(small)]


@given(
    st.integers(0, 2**22 - 1), st.integers(0, 2**20 - 1), st.integers(0, 2**16 - 1), st.booleans(), st.integers(0, 3)
)
def test_targetid(objid: int, brickid: int, release: int, sky: bool, gaiadr: int) -> None:
    number = ids.encode_targetid(objid=objid, brickid=brickid, release=release, sky=int(sky), gaiadr=gaiadr)
    assert int(number) == objid | brickid << 22 | release << 42 | int(sky) << 59 | gaiadr << 60
    parts = {name: int(value) for name, value in ids.decode_targetid(number).items()}
    expected = {"objid": objid, "brickid": brickid, "release": release, "mock": 0, "sky": int(sky), "gaiadr": gaiadr}
    assert parts == expected
    assert bool(ids.is_sky(number)) == (sky or int(number) == 0)
    assert bool(ids.is_sky(-int(number) - 1))


@given(st.floats(0, 359.99999), st.floats(-90, 90))
def test_desiname(ra: float, dec: float) -> None:
    (name,) = ids.desiname([ra], [dec]).tolist()
    # Truncated, by decimal arithmetic on the product that the survey truncates.
    whole_ra, whole_dec = (int(decimal.Decimal(value * 10000)) for value in (ra, dec))
    sign = "-" if whole_dec < 0 else "+"
    shown = f"{whole_ra:07d}", f"{abs(whole_dec):06d}"
    assert name.decode() == f"DESI J{shown[0][:3]}.{shown[0][3:]}{sign}{shown[1][:2]}.{shown[1][2:]}"


def test_names_that_are_unknown() -> None:
    for function in (ids.surveyid, ids.programid, ids.spgrpid, ids.cameraid):
        with pytest.raises(ValueRejectedError, match="unknown"):
            function("nothing")
        known = {"surveyid": b"main", "programid": b"dark", "spgrpid": b"healpix", "cameraid": b"b0"}
        with pytest.raises(ValueRejectedError, match="row 1"):
            function(np.array([known[function.__name__], b"nothing"]))
    assert ids.programid(np.array([b"dark", b"bright1b  "])).tolist() == [3, 6]
    assert ids.surveyid(np.array(["sv1", "main"])).tolist() == [3, 6]


@given(st.lists(int64, min_size=1, max_size=30), st.sampled_from(["i2", "i4", "i8"]))
def test_integers(values: list[int], kind: str) -> None:
    limits = np.iinfo(kind)
    done = cast(np.array(values, dtype=">i8"), np.dtype(kind), None, None, False)
    fits = [limits.min <= value <= limits.max for value in values]
    bad = np.zeros(len(values), dtype=bool) if done.bad is None else done.bad
    assert (~bad).tolist() == fits
    assert [v for v, good in zip(done.values.tolist(), fits, strict=True) if good] == [
        v for v, good in zip(values, fits, strict=True) if good
    ]


@given(st.lists(st.floats(width=64), min_size=1, max_size=30), st.sampled_from(["f4", "f8"]))
def test_floats(values: list[float], kind: str) -> None:
    done = cast(np.array(values), np.dtype(kind), None, None, False)
    for i, value in enumerate(values):
        if not np.isfinite(value):
            assert done.values[i] == -9999.0
        elif kind == "f4" and abs(value) > 3.4028235677973366e38:
            assert done.bad is not None
            assert done.bad[i]
        else:
            assert done.values[i] == np.dtype(kind).type(value)
    assert done.nonfinite == sum(not np.isfinite(value) for value in values)


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9), min_size=1, max_size=20))
def test_texts(values: list[str]) -> None:
    encoded = [value.encode() for value in values]
    done = cast(np.array(encoded, dtype="S40"), np.dtype("S"), 5, None, False)
    stripped = [value.rstrip(" ") for value in values]
    bad = np.zeros(len(values), dtype=bool) if done.bad is None else done.bad
    assert bad.tolist() == [len(value) > 5 for value in stripped]
    for value, stored, wrong in zip(stripped, done.values.tolist(), bad, strict=True):
        assert wrong or stored.decode() == value


def field(value: Any, kind: Any) -> bytes:
    """One field of the stream, by struct and by hand."""
    if isinstance(value, bytes):
        return struct.pack(">i", len(value)) + value
    if kind == ids.INT128:
        digits = []
        number = int(value[0]) << 64 | int(value[1])
        for _ in range(10):
            number, digit = divmod(number, 10000)
            digits.append(digit)
        return struct.pack(">i4h10h", 28, 10, 9, 0, 0, *reversed(digits))
    code = {"i2": "h", "i4": "i", "i8": "q", "f4": "f", "f8": "d", "b1": "?", "M8": "q"}[kind.str[1:3]]
    if kind.kind == "M":
        value = int((value - np.datetime64("2000-01-01", "us")) / np.timedelta64(1, "us"))
    packed = struct.pack(f">{code}", value)
    return struct.pack(">i", len(packed)) + packed


@pytest.mark.parametrize("cls", TABLES, ids=lambda cls: cls.__name__)
def test_stream_is_that_of_struct(cls: Any) -> None:
    generator = np.random.default_rng(11)
    size = 60
    columns = {}
    for item in table_of(cls).columns:
        dtype = database_dtype(item)
        if dtype == ids.INT128:
            columns[item.name] = ids.int128(generator.integers(0, 2**40, size), generator.integers(0, 2**62, size))
        elif dtype.kind == "S":
            texts = np.array([b"", b"a", "é".encode(), b"main", b"DESI J000"], dtype="S22")
            columns[item.name] = generator.choice(texts, size)
        elif dtype.kind == "M":
            columns[item.name] = generator.integers(0, 2**50, size).astype("M8[us]")
        else:
            columns[item.name] = generator.integers(0, 2, size).astype(dtype)
    packer = BinaryPacker(table_of(cls))
    rows = []
    for i in range(size):
        values = [(columns[name][i], columns[name].dtype) for name in packer.columns]
        parts = [field(value.item() if kind.kind not in "VM" else value, kind) for value, kind in values]
        rows.append(struct.pack(">h", len(parts)) + b"".join(parts))
    stream = b"".join(bytes(piece) for piece in packer.stream(packer.pack(columns)))
    assert stream[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    assert stream[-2:] == b"\xff\xff"
    body = stream[19:-2]
    assert len(body) == sum(map(len, rows))
    # Rows whose texts have other lengths may stand in another order.
    for row in rows:
        assert row in body
