"""Numbers are stable while used and given again only after two calls said that nobody needs them."""

from __future__ import annotations

import numpy as np

from flows.agent.enrich.entities import PodEntity
from flows.agent.enrich.names import Names
from flows.agent.enrich.numbering import BY_ADDRESS, Numbering

NONE = np.zeros(0, np.uint32)


def test_an_entity_has_one_number_and_back() -> None:
    numbering = Numbering()
    number = numbering.number(PodEntity("a"))
    assert number > BY_ADDRESS
    assert numbering.number(PodEntity("a")) == number
    assert numbering.entity(number) == PodEntity("a")
    assert numbering.number(PodEntity("b")) == number + 1
    assert (numbering.entity(0), numbering.entity(BY_ADDRESS), numbering.entity(10**6)) == (None, None, None)


def test_a_number_is_freed_when_twice_in_a_row_not_used() -> None:
    numbering = Numbering()
    a, b = numbering.number(PodEntity("a")), numbering.number(PodEntity("b"))
    used = np.array([b], np.uint32)
    assert numbering.retain(used, lambda *_: False) == []
    assert numbering.retain(used, lambda *_: False) == [(a, PodEntity("a"))]
    assert numbering.entity(a) is None
    assert numbering.number(PodEntity("c")) == a


def test_use_in_between_keeps_it() -> None:
    numbering = Numbering()
    a = numbering.number(PodEntity("a"))
    numbering.retain(NONE, lambda *_: False)
    numbering.number(PodEntity("a"))
    assert numbering.retain(NONE, lambda *_: False) == []
    numbering.retain(np.array([a, 999], np.uint32), lambda *_: False)
    assert numbering.retain(NONE, lambda *_: False) == []


def test_what_is_kept_is_not_freed() -> None:
    numbering = Numbering()
    numbering.number(PodEntity("a"))
    for _ in range(3):
        assert numbering.retain(NONE, lambda number, entity: entity == PodEntity("a")) == []


def test_a_number_that_is_given_again_is_a_new_generation() -> None:
    names = Names("node-1", "default")
    number, before = names.number(PodEntity("a")), names.generation
    for _ in range(2):
        names.free(NONE, ())
    assert names.generation == before
    assert names.number(PodEntity("b")) == number
    assert names.generation == before + 1
