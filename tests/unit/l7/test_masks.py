"""What is done to whole batches at once: masks, keys in order, digits that are added up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flows.agent.l7.dns_pairing import _in_order
from flows.agent.l7.http1_keys import Keys
from flows.agent.l7.http1_lengths import content_length
from flows.agent.l7.http1_text import Text
from flows.agent.l7.masks import all_of, any_of


@pytest.mark.parametrize("mask", [[], [True], [False], [True, False], [[True, True], [False, True]], [[False], [False]]])
def test_masks_say_what_numpy_says(mask: list[Any]) -> None:
    array = np.array(mask, bool)
    assert (any_of(array), all_of(array)) == (bool(array.any()), bool(array.all()))


@pytest.mark.parametrize("bits", [1, 3, 12, 63])
def test_order_is_by_key_and_then_by_moment(bits: int) -> None:
    """Also of keys that differ in their lowest bits only, which give way to the place."""
    random = np.random.default_rng(bits)
    keys, moments = random.integers(0, 1 << bits, 1_000, np.uint64), random.integers(0, 500, 1_000, np.uint64)
    order = _in_order(keys, moments)
    expected = np.lexsort((moments, keys))
    assert sorted(order.tolist()) == list(range(1_000))
    assert (keys[order] == keys[expected]).all()
    assert (moments[order] == moments[expected]).all()


@pytest.mark.parametrize("several", [False, True])
def test_keys_that_share_a_slot_are_found_with_their_equals(several: bool) -> None:
    keys = np.array([5, 1 << 63, 6, 7, 1 << 63 | 1, *([6, 7, 7] if several else [])], np.uint64)
    index = Keys(keys)
    assert index.twice == several
    at, found = index.find(np.array([7, 6, 5, 4, 1 << 63 | 1, 1 << 62], np.uint64))
    assert found.tolist() == [True, True, True, False, True, False]
    assert keys[at[found]].tolist() == [7, 6, 5, 1 << 63 | 1]
    equal = index.equal()
    assert (keys[equal] == keys).all()
    assert all(len(set(equal[keys == key].tolist())) == 1 for key in keys)


LENGTHS = {
    b"0": 0, b"7": 7, b"12345678": 12_345_678, b"123456789": 123_456_789, b"00000012": 12, b"999999999999999": 10**15 - 1,
    b"1234567890123456": -1, b"12a": -1, b"": -1, b"-1": -1, b"1/": -1, b"1:": -1, b"\xb1": -1, b"1234567890a": -1, b"9 ": 9,
}  # fmt: skip


def test_content_lengths_are_digits_and_nothing_else() -> None:
    heads = [b"HTTP/1.1 200 OK\r\nContent-Length: " + each + b"\r\n\r\n12345678" for each in LENGTHS]
    width = max(map(len, heads))
    matrix = np.array(heads, f"S{width}").view(np.uint8).reshape(len(heads), width)
    text = Text.of(matrix, np.array([len(head) for head in heads], np.uint16))
    assert content_length(text, np.arange(len(heads))).tolist() == list(LENGTHS.values())
