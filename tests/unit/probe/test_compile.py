"""What the compiler is given: one text, and an offset for every OFFSET_ name that it uses."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from flows.agent.probe.cgroup import Subtree
from flows.agent.probe.compile import MAPS, OFFSETS, PROGRAMS, SOURCES, one_text
from flows.agent.probe.probe import constants
from flows.agent.probe.settings import ProbeSettings

SOURCE = Path(str(resources.files("flows.bpf")))
TEXT = one_text(SOURCE, "flows.c")


def test_every_header_is_taken_once_by_some_source() -> None:
    texts = [one_text(SOURCE, source.name) for source in SOURCES.values()]
    assert ['#include "' in text for text in texts] == [False] * len(SOURCES)
    for header in SOURCE.glob("*.h"):
        second_line = header.read_text().splitlines()[1]
        assert max(text.count(second_line) for text in texts) == 1, header.name


def test_offsets_are_exactly_those_that_are_used() -> None:
    used = set(re.findall(r"\bOFFSET_(\w+)", TEXT))
    assert used - {""} == set(OFFSETS)


def test_maps_and_programs_exist() -> None:
    for name in PROGRAMS:
        assert re.search(rf"^int {name}\(", TEXT, re.MULTILINE), name
    for name in MAPS:
        assert re.search(rf"\b{name}[,)]", TEXT), name


def test_every_constant_that_the_source_wants_is_passed() -> None:
    wanted = set(re.findall(r"!defined\((\w+)\)", TEXT))
    assert wanted == set(constants(ProbeSettings(), Subtree(Path("/x"), Path("/"), 1, 7)))
