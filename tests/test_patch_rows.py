"""Which rows of two tables belong together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from specprod.patch import match_rows

pytestmark = pytest.mark.compat

integers = arrays.arrays(np.int64, st.integers(0, 30), elements=st.integers(-5, 5) | st.integers(-(2**62), 2**62))
names = arrays.arrays("U4", st.integers(0, 30), elements=st.text("ab1", max_size=3))


@given(left=integers, right=integers)
def test_each_pair_of_equal_keys_is_there_once(left: np.ndarray, right: np.ndarray) -> None:
    rows, others = match_rows(left, right)
    expected = {(i, j) for i, x in enumerate(left.tolist()) for j, y in enumerate(right.tolist()) if x == y}
    found = list(zip(rows.tolist(), others.tolist(), strict=True))
    assert len(found) == len(expected)
    assert set(found) == expected


@given(left=names, right=names, one=st.sampled_from("SU"), two=st.sampled_from("SU"))
def test_text_matches_whether_bytes_or_not(left: np.ndarray, right: np.ndarray, one: str, two: str) -> None:
    rows, others = match_rows(left.astype(f"{one}7"), right.astype(f"{two}4"))
    expected = {(i, j) for i, x in enumerate(left.tolist()) for j, y in enumerate(right.tolist()) if x == y}
    assert set(zip(rows.tolist(), others.tolist(), strict=True)) == expected


@given(left=integers, right=integers)
def test_pairs_are_in_the_order_of_the_keys_then_of_the_rows(left: np.ndarray, right: np.ndarray) -> None:
    rows, others = match_rows(left, right)
    order = list(zip(left[rows].tolist(), rows.tolist(), others.tolist(), strict=True))
    assert order == sorted(order)


@given(left=integers, right=integers)
def test_sides_can_be_exchanged(left: np.ndarray, right: np.ndarray) -> None:
    rows, others = match_rows(left, right)
    back, forth = match_rows(right, left)
    assert sorted(zip(rows, others, strict=True)) == sorted(zip(forth, back, strict=True))


@given(keys=integers.map(np.unique), data=st.data())
def test_unique_keys_in_any_order_find_themselves(keys: np.ndarray, data: st.DataObject) -> None:
    order = np.array(data.draw(st.permutations(range(keys.size))), dtype=np.int64)
    rows, others = match_rows(keys[order], keys)
    assert np.array_equal(order[rows], others)
    assert rows.size == keys.size


def test_masked_keys_match_nothing() -> None:
    left = np.ma.MaskedArray([1, 2, 3], [False, True, False])
    right = np.ma.MaskedArray([3, 2, 1], [False, False, True])
    rows, others = match_rows(left, right)
    assert (rows.tolist(), others.tolist()) == ([2], [0])
