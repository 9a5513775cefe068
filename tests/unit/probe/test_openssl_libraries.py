"""OpenSSL: kernel and user side agree, and processes' mappings are read."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from flows.agent.probe.cgroup import Subtree
from flows.agent.probe.compile import one_text
from flows.agent.probe.openssl_library import PROBES
from flows.agent.probe.openssl_processes import Mapping, mappings, processes, tls_mappings
from flows.agent.probe.openssl_source import SOURCE, Decision, OpenSslSettings, PlaintextCounter, constants

TEXT = one_text(Path(str(resources.files("flows.bpf"))), SOURCE.name)


def test_counters_have_one_name_on_both_sides() -> None:
    body = re.search(r"enum plaintext_counter \{(.*?)\n\};", TEXT, re.DOTALL)
    assert body is not None
    names = re.findall(r"^\tPLAINTEXT_(\w+),", body[1], re.MULTILINE)
    assert names == [*(counter.name for counter in PlaintextCounter), "COUNTERS"]
    assert [int(counter) for counter in PlaintextCounter] == list(range(len(PlaintextCounter)))


def test_decisions_have_one_number_on_both_sides() -> None:
    assert "enum decision { OBSERVED = 1, EXCLUDED };" in TEXT
    assert (Decision.OBSERVED, Decision.EXCLUDED) == (1, 2)


def test_offsets_are_exactly_those_that_are_used() -> None:
    assert set(re.findall(r"\bOFFSET_(\w+)", TEXT)) == set(SOURCE.offsets)


def test_maps_and_programs_exist() -> None:
    for name in SOURCE.programs:
        assert re.search(rf"^int {name}\(", TEXT, re.MULTILINE), name
    for name in SOURCE.maps:
        assert re.search(rf"\b{name}[,)]", TEXT), name


def test_every_program_that_is_attached_exists() -> None:
    assert {program for pair in PROBES.values() for program in pair if program} == SOURCE.programs.keys()


def test_every_constant_that_the_source_wants_is_passed() -> None:
    passed = set(constants(OpenSslSettings(), Subtree(Path("/x"), Path("/"), 1, 7), hold=True))
    assert set(re.findall(r"!defined\((\w+)\)", TEXT)) == passed - {"SOURCE", "UPROBES"}


MAPS = b"""\
5581aa0000-5581ab0000 r-xp 00001000 fe:00 131 /usr/bin/curl
7f1200000000-7f1200100000 r--p 00000000 fe:00 77 /usr/lib/libssl.so.3
7f1200100000-7f1200160000 r-xp 0001e000 fe:00 77 /usr/lib/libssl.so.3
7f1200200000-7f1200210000 r-xp 00002000 00:2b 12 /opt/a dir/libgnutls.so.30 (deleted)
7f1200300000-7f1200310000 rwxp 00000000 00:00 0
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0 [vdso]
7f1200400000-7f1200410000 rwxp 00000000 00:01 9 anon
"""


def test_code_of_files_is_found_in_mappings() -> None:
    assert mappings(MAPS) == [
        Mapping(0x5581AA0000, 0x1000, b"/usr/bin/curl"),
        Mapping(0x7F1200100000, 0x1E000, b"/usr/lib/libssl.so.3"),
        Mapping(0x7F1200200000, 0x2000, b"/opt/a dir/libgnutls.so.30 (deleted)"),
    ]
    assert [mapping.name for mapping in tls_mappings(MAPS)] == ["libssl.so.3", "libgnutls.so.30"]


@pytest.mark.parametrize("text", [b"", b"\0\xff", b"7f-8f r-xp", b"zz-yy r-xp 0 0 1 /a\n" * 3, b"7f-8f r-xp 0 0:0 1 /\n"])
def test_odd_mappings_raise_nothing(text: bytes) -> None:
    assert tls_mappings(text) == []


def test_processes_of_a_subtree_come_with_their_cgroups(tmp_path: Path) -> None:
    (tmp_path / "pod" / "container").mkdir(parents=True)
    (tmp_path / "cgroup.procs").write_text("0\n7\n")  # 0: of another pid namespace
    (tmp_path / "pod" / "container" / "cgroup.procs").write_text("8\n9\n")
    container = (tmp_path / "pod" / "container").stat().st_ino
    assert dict(processes(str(tmp_path))) == {7: tmp_path.stat().st_ino, 8: container, 9: container}
