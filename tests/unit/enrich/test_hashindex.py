"""The hash index against a dict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.agent.enrich.hashindex import HashIndex


def keys_of(*values: int) -> np.ndarray:
    return np.array(values, np.uint64).reshape(-1, 1)


def numbers_of(*values: int) -> np.ndarray:
    return np.array(values, np.uint32)


@pytest.mark.parametrize("words", [1, 2])
def test_every_inserted_key_is_found_and_no_other(words: int) -> None:
    rng = np.random.default_rng(1)
    keys = np.unique(rng.integers(0, 1 << 63, (20_000, words), dtype=np.uint64), axis=0)
    numbers = np.arange(1, len(keys) + 1, dtype=np.uint32)
    index = HashIndex(words)
    index.insert(keys, numbers)
    assert (index.lookup(*keys.T) == numbers).all()
    assert not index.lookup(*(keys ^ np.uint64(1 << 63)).T).any()
    assert len(index) == len(keys)


def test_keys_that_share_one_word_are_told_apart() -> None:
    index = HashIndex(words=2)
    keys = np.array([[0, number] for number in range(1, 300)], np.uint64)
    index.insert(keys, np.arange(1, 300, dtype=np.uint32))
    assert (index.lookup(*keys.T) == np.arange(1, 300)).all()
    assert not index.lookup(*keys[:, ::-1].T).any()


def test_key_zero_is_unknown_until_inserted() -> None:
    index = HashIndex(words=1)
    assert index.lookup(keys_of(0)[:, 0]).tolist() == [0]
    index.insert(keys_of(0), numbers_of(9))
    assert index.lookup(keys_of(0)[:, 0]).tolist() == [9]


def test_last_of_equal_keys_wins() -> None:
    index = HashIndex(words=1)
    index.insert(keys_of(5, 5, 6), numbers_of(1, 2, 3))
    assert (index.lookup(keys_of(5, 6)[:, 0]).tolist(), len(index)) == ([2, 3], 2)


def test_strided_columns_are_looked_up() -> None:
    index = HashIndex(words=1)
    index.insert(keys_of(1, 2, 3), numbers_of(10, 20, 30))
    wide = np.zeros(3, [("a", "u1", (8,)), ("id", "<u8")])
    wide["id"] = [3, 9, 1]
    assert index.lookup(wide["id"]).tolist() == [30, 0, 10]


def test_empty_batches_are_fine() -> None:
    index = HashIndex(words=1)
    index.insert(keys_of(), numbers_of())
    index.remove(keys_of())
    assert index.lookup(keys_of()[:, 0]).size == 0


operations = st.lists(
    st.tuples(st.booleans(), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=30)),
    max_size=12,
)


@given(operations)
def test_index_behaves_as_a_dict(steps: list[tuple[bool, list[tuple[int, int]]]]) -> None:
    index, model = HashIndex(words=1, capacity=1), dict[int, int]()
    for insert, pairs in steps:
        keys = keys_of(*(key for key, _ in pairs))
        if insert:
            index.insert(keys, numbers_of(*(number for _, number in pairs)))
            model.update(pairs)
        else:
            index.remove(keys)
            for key, _ in pairs:
                model.pop(key, None)
        everything = np.arange(41, dtype=np.uint64)
        assert index.lookup(everything).tolist() == [model.get(key, 0) for key in range(41)]
        assert len(index) == len(model)
