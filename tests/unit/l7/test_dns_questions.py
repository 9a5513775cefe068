"""Questions of DNS messages, read as arrays: the same names as dnspython reads, and each bad one with its reason."""

from __future__ import annotations

import dns.message
import dns.name
import numpy as np
import pytest
from dns_samples import query
from hypothesis import given
from hypothesis import strategies as st

from flows.agent.l7.dns_questions import Questions, Reason, read
from flows.agent.store.request_columns import TEXT_BYTES

HEADER = bytes([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0])
TAIL = b"\0\1\0\1"


def reading(*messages: bytes, width: int = 208, length: int | None = None) -> Questions:
    text = np.full((len(messages), width), 0xAA, np.uint8)
    for row, message in zip(text, messages, strict=True):
        row[: len(message)] = np.frombuffer(message[:width], np.uint8)
    captured = np.array([min(width, len(message)) for message in messages], np.uint16)
    lengths = np.array([length or len(message) for message in messages], np.uint32)
    return read(text, captured, lengths)


def name(questions: Questions, row: int = 0) -> bytes:
    return bytes(questions.texts()[0][row]).rstrip(b"\0")


def cut(questions: Questions) -> list[bool]:
    return [bool(each) for each in questions.texts()[1]]


def wire(*labels: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ((b"Web", b"SHOP", b"svc"), b"web.shop.svc"),
        ((), b""),
        ((b"_http", b"_tcp", b"a-b"), b"_http._tcp.a-b"),
        ((b"a.b", b"c"), rb"a\.b.c"),
        ((b"\0\x1b[31m", b"c"), rb"\000\027[31m.c"),
        ((b"\xff\xfe", b"a b"), rb"\255\254.a\032b"),
        ((b"back\\slash", b'"q"'), rb"back\\slash.\"q\""),
        ((b"x" * 63,) * 2, b"x" * 63 + b"." + b"x" * 63),
    ],
)
def test_names_are_lower_case_dotted_and_escaped(labels: tuple[bytes, ...], text: bytes) -> None:
    questions = reading(HEADER + wire(*labels) + TAIL)
    assert questions.reason.tolist() == [Reason.TAKEN]
    assert name(questions) == text
    assert cut(questions) == [False]
    assert questions.qtype[0] == 1


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", Reason.MALFORMED_SHORT),
        (HEADER[:11], Reason.MALFORMED_SHORT),
        (HEADER, Reason.MALFORMED_SHORT),
        (HEADER + b"\3web", Reason.MALFORMED_SHORT),
        (HEADER + b"\3web\0\0\1\0", Reason.MALFORMED_SHORT),
        (HEADER + b"\xc0\x0c" + TAIL, Reason.MALFORMED_POINTER),
        (HEADER + b"\3web\xc0\x0c" + TAIL, Reason.MALFORMED_POINTER),
        (HEADER + b"\x41a\0" + TAIL, Reason.MALFORMED_LABEL),
        (HEADER + b"\x80a\0" + TAIL, Reason.MALFORMED_LABEL),
        (HEADER + wire(*[b"x" * 63] * 4) + TAIL, Reason.MALFORMED_NAME),
        (HEADER + wire(*[b"x"] * 128) + TAIL, Reason.MALFORMED_NAME),
        (HEADER[:4] + b"\0\0" + HEADER[6:], Reason.QUESTION_COUNT),
        (HEADER[:4] + b"\0\2" + HEADER[6:] + (wire(b"a") + TAIL) * 2, Reason.QUESTION_COUNT),
        (HEADER[:2] + b"\x28" + HEADER[3:] + wire(b"a") + TAIL, Reason.OTHER_OPCODE),
        (HEADER + wire(b"a") + TAIL, Reason.TAKEN),
    ],
)
def test_each_bad_message_has_its_reason(message: bytes, reason: Reason) -> None:
    assert Reason(reading(message, width=300).reason[0]) is reason


def test_a_question_that_goes_on_unseen_is_not_malformed() -> None:
    message = HEADER + wire(*[b"x" * 62] * 4) + TAIL
    assert Reason(reading(message, width=208).reason[0]) is Reason.QUESTION_CUT
    assert Reason(reading(message, width=1928).reason[0]) is Reason.TAKEN


def test_long_names_are_cut_and_marked() -> None:
    questions = reading(HEADER + wire(*[b"y" * 62] * 4) + TAIL, HEADER + wire(*[b"\xff" * 50] * 1) + TAIL, width=1928)
    assert name(questions) == b".".join([b"y" * 62] * 4)[:TEXT_BYTES]
    assert name(questions, 1) == (rb"\255" * 50)[:TEXT_BYTES]
    assert cut(questions) == [True, True]


def test_longest_names_are_read_whole() -> None:
    labels = [b"z"] * 127  # 254 bytes and the root
    questions = reading(HEADER + wire(*labels) + TAIL, width=1928)
    assert Reason(questions.reason[0]) is Reason.TAKEN
    assert questions.qtype[0] == 1


def test_hash_tells_questions_apart_and_knows_no_case() -> None:
    hashes = reading(
        query("web.shop."), query("WEB.Shop."), query("web.shop.", number=9),
        query("web.shop.", "AAAA"), query("web.shap."), query("shop.web."), HEADER + wire(b"web.shop") + TAIL,
    ).hash  # fmt: skip
    assert hashes[0] == hashes[1] == hashes[2]
    assert len(set(hashes.tolist())) == 5


def test_hash_does_not_depend_on_the_batch() -> None:
    alone = reading(query("a.b."))
    beside = reading(query("a.b."), query("x" * 60 + "." + "y" * 60 + "."))
    assert alone.hash[0] == beside.hash[0]


LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=6).filter(lambda labels: sum(map(len, labels)) + len(labels) < 255)


@given(st.lists(LABELS, min_size=1, max_size=5))
def test_any_name_reads_as_dnspython_reads_it(names: list[list[bytes]]) -> None:
    questions = reading(*(HEADER + wire(*labels) + TAIL for labels in names), width=1928)
    assert set(questions.reason.tolist()) == {Reason.TAKEN}
    for row, labels in enumerate(names):
        lowered = [bytes(label).lower() for label in labels]
        expected = dns.name.Name([*lowered, b""]).to_text().encode() if labels else b""
        assert name(questions, row) == expected.removesuffix(b".")[:TEXT_BYTES]
        assert cut(questions)[row] == (len(expected.removesuffix(b".")) > TEXT_BYTES)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=8), st.sampled_from([16, 208, 1928]))
def test_arbitrary_bytes_have_a_reason_or_a_name(messages: list[bytes], width: int) -> None:
    questions = reading(*messages, width=width)
    for row, message in enumerate(messages):
        if Reason(questions.reason[row]) is not Reason.TAKEN:
            continue
        parsed = dns.name.from_wire(message, 12)[0]
        assert name(questions, row) or parsed == dns.name.root
