"""Databases that numpy makes in memory: SQLite itself says whether they are whole, and what is in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from specprod.database.sqlite.pages import PagePacker
from specprod.errors import DatabaseError
from specprod.model.base import Int128
from specprod.survey.identifiers import int128

pytestmark = pytest.mark.compat


def make(key: bool = False, length: int = 200) -> PagePacker:
    table = sa.Table(
        "things",
        sa.MetaData(),
        sa.Column("number", sa.BigInteger),
        sa.Column("small", sa.SmallInteger),
        sa.Column("value", sa.Double),
        sa.Column("flag", sa.Boolean),
        sa.Column("id", Int128),
        sa.Column("when", sa.DateTime),
        sa.Column("word", sa.String(10)),
        sa.Column("text", sa.String(length)),
    )
    return PagePacker(table, "number" if key else None)


def columns(rows: int, number: Sequence[int] | None = None, length: int = 200) -> dict[str, np.ndarray]:
    random = np.random.default_rng(rows)
    words = np.array([b"", b"a", "\N{LATIN SMALL LETTER E WITH ACUTE}t\N{LATIN SMALL LETTER E WITH ACUTE}".encode()])
    texts = np.array([b"x" * size for size in (0, length // 4, length)])
    high = random.integers(0, 1 << 58, rows)
    return {
        "number": random.permutation(rows) * 7919 - rows if number is None else np.array(number, dtype=np.int64),
        "small": random.integers(-32768, 32768, rows).astype(np.int16),
        "value": random.choice([0.0, -0.0, 1.5, -9999.0, 1e300, 5e-324], rows),
        "flag": random.random(rows) < 0.5,
        "id": int128(high, random.integers(0, 1 << 58, rows)),
        "when": np.datetime64("2024-02-29T23:59:59.123456", "us") + random.integers(0, 10**12, rows),
        "word": words[random.integers(0, 3, rows)],
        "text": texts[random.integers(0, 3, rows)],
    }


def expected(data: dict[str, np.ndarray]) -> list[tuple[Any, ...]]:
    """The rows as Python objects, by the simplest means."""
    words = zip(data["id"]["high"].tolist(), data["id"]["low"].tolist(), strict=True)
    identifiers = [(high << 64) + low for high, low in words]
    names = ("number", "small", "value", "flag", "when", "word", "text")
    return sorted(
        (
            int(number),
            int(small),
            repr(float(value)),
            int(flag),
            f"{identifier:039}",
            str(when).replace("T", " "),
            word.decode(),
            text.decode(),
        )
        for identifier, number, small, value, flag, when, word, text in zip(
            identifiers, *(data[name] for name in names), strict=True
        )
    )


def unpacked(images: Sequence[memoryview]) -> list[tuple[Any, ...]]:
    found = []
    for image in images:
        connection = sqlite3.connect(":memory:")
        connection.deserialize(image)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute('SELECT number, small, value, flag, id, "when", word, text FROM piece').fetchall()
        found += [(*row[:2], repr(row[2]), *row[3:]) for row in rows]
        # Numbers and texts have the types that SQLite itself would have given them.
        kinds = "SELECT DISTINCT typeof(number), typeof(small), typeof(value), typeof(flag), typeof(id), typeof(text)"
        kind = ("integer", "integer", "real", "integer", "text", "text")
        assert connection.execute(f"{kinds} FROM piece").fetchall() == [kind]
        connection.close()
    return sorted(found)


@pytest.mark.parametrize("key", [False, True], ids=["rows", "keys"])
@pytest.mark.parametrize("rows", [1, 2, 100, 5000])
def test_every_value_is_there(rows: int, key: bool) -> None:
    data = columns(rows)
    assert unpacked(make(key).pack(data)) == expected(data)


def test_keys_of_all_sizes() -> None:
    numbers = [limit + step for limit in (1 << bits for bits in range(7, 63, 7)) for step in (-1, 0)]
    numbers += [0, 1, -1, (1 << 63) - 1, -(1 << 63)]
    data = columns(len(numbers), numbers)
    assert unpacked(make(key=True).pack(data)) == expected(data)
    assert unpacked(make().pack(data)) == expected(data)


@pytest.mark.parametrize("limit", [1 << 7, 1 << 15, 1 << 31, 1 << 63])
def test_integers_at_the_limits_of_their_sizes(limit: int) -> None:
    for numbers in ([limit - 1, 5], [-limit, 5], [min(limit, (1 << 63) - 1), 5]):
        data = columns(2, numbers)
        assert unpacked(make().pack(data)) == expected(data)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 2.0])
def test_columns_of_one_value(value: float) -> None:
    data = columns(50) | {"value": np.full(50, value), "flag": np.ones(50, dtype=bool), "small": np.zeros(50, np.int16)}
    assert unpacked(make().pack(data)) == expected(data)


def test_more_pages_than_a_root_has_room_for() -> None:
    rows, length = 7000, 10_000
    data = columns(rows, range(1 << 21, (1 << 21) + rows), length)
    data |= {"word": np.full(rows, b"a"), "text": np.full(rows, b"x" * length)}
    for key in (False, True):
        images = make(key, length).pack(data)
        assert len(images) == 2
        assert unpacked(images) == expected(data)


def test_no_rows() -> None:
    assert make().pack(columns(0)) == []


def test_a_row_longer_than_a_page() -> None:
    data = columns(3, length=40_000) | {"text": np.array([b"x" * 40_000] * 3)}
    with pytest.raises(DatabaseError, match="does not fit a page"):
        make(length=40_000).pack(data)
