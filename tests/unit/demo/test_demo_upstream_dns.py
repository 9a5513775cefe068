"""The demo's upstream name server: what a name makes of its answer, and that no bytes end it."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.demo.node import image

if TYPE_CHECKING:
    from types import ModuleType


def load() -> ModuleType:
    """The program, as a module."""
    path = image.IMAGES / "upstream-dns" / "opt" / "upstream-dns" / "server.py"
    spec = importlib.util.spec_from_file_location("upstream_dns", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


server: Any = load()


def ask(name: str, qtype: str = "A", *, udp: bool = True) -> dns.message.Message | None:
    wire = dns.message.make_query(name, qtype).to_wire()
    reply = asyncio.run(server.answer(wire, udp=udp, asker="test"))
    return None if reply is None else dns.message.from_wire(reply)


@pytest.mark.parametrize(
    ("name", "qtype", "code", "data"),
    [
        ("www.example.test", "A", "NOERROR", ["192.0.2.80"]),
        ("WWW.Example.TEST", "AAAA", "NOERROR", ["2001:db8::80"]),
        ("www.example.test", "TXT", "NOERROR", []),
        ("alias.example.test", "A", "NOERROR", ["www.example.test.", "192.0.2.80"]),
        ("x.servfail.example.test", "A", "SERVFAIL", []),
        ("refused.example.test", "A", "REFUSED", []),
        ("missing.example.test", "A", "NXDOMAIN", []),
        ("www.example.com", "A", "REFUSED", []),
    ],
)
def test_the_label_before_the_zone_says_how_it_answers(name: str, qtype: str, code: str, data: list[str]) -> None:
    reply = ask(name, qtype)
    assert reply is not None
    assert dns.rcode.to_text(reply.rcode()) == code
    assert [str(item) for answer in reply.answer for item in answer] == data


def test_silence_is_no_answer() -> None:
    assert ask("x.silent.example.test") is None


def test_what_is_too_big_for_udp_is_whole_by_tcp() -> None:
    short, whole = ask("big.example.test"), ask("big.example.test", udp=False)
    assert short is not None
    assert whole is not None
    assert short.flags & dns.flags.TC
    assert not short.answer
    assert len(whole.answer[0]) == server.BIG_RECORDS


@given(st.binary(max_size=600))
def test_any_bytes_get_an_answer_or_none(message: bytes) -> None:
    try:
        question = server.parse(message)
    except ValueError:
        return
    server.respond(question, question.labels[-3] if len(question.labels) > 2 else "", udp=True)
