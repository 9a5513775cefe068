"""`flows encryption`: each connection once, by the best that is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from answer_feeds import fed, rows
from answer_samples import A, B, Call, Pod, Query, connection

from flows.flow.answers import encryption
from flows.flow.answers.encryption import EncryptionAnswer
from flows.flow.answers.told import extension_of
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from flows.proto.flow_pb2 import Flow

SERVICE = Pod("", "10.96.0.20", service="demo/svc-b")


def hello(server_name: str = "svc-b.demo", version: str = "TLS 1.3") -> Flow:
    """A ClientHello."""
    flow = connection(A, B, spoken=extension_pb2.SPOKEN_TLS)
    extension = extension_of(flow)
    extension.connection.event = extension_pb2.HELLO
    extension.connection.request.kind = extension_pb2.TLS
    tls = extension.connection.request.tls
    tls.server_name, tls.version, tls.cipher = server_name, version, "TLS_AES_128_GCM_SHA256"
    flow.extensions.Pack(extension)
    return flow


def hubble_encrypted() -> Flow:
    flow = connection(A, B)
    flow.ClearField("extensions")
    flow.IP.encrypted = True
    return flow


@pytest.mark.parametrize(
    ("flows", "expected"),
    [
        ([connection(A, B, spoken=extension_pb2.SPOKEN_HTTP1)], ("plain", ["HTTP/1"])),
        ([connection(A, B, spoken=extension_pb2.SPOKEN_HTTP2)], ("plain", ["HTTP/2"])),
        ([connection(A, B, spoken=extension_pb2.SPOKEN_TLS)], ("encrypted", ["TLS"])),
        ([connection(A, B)], ("unknown", [])),
        ([connection(A, B), hello()], ("encrypted", ["TLS"])),
        ([hello(), connection(A, B)], ("encrypted", ["TLS"])),
        ([hubble_encrypted()], ("encrypted", [])),
        (Call().flows(), ("plain", ["HTTP/1"])),
        (Query("x").flows(), ("plain", ["DNS"])),
    ],
    ids=["HTTP/1", "HTTP/2", "TLS", "nothing", "later", "earlier", "Hubble's tunnel", "a request", "a query"],
)
def test_what_is_known_of_a_connection(flows: list[Flow], expected: tuple[str, list[str]]) -> None:
    (row,) = rows(fed(EncryptionAnswer(), flows))
    assert (row["encryption"], row["spoken"], row["connections"]) == (*expected, 1)


def test_a_pair_has_its_counts_names_and_versions() -> None:
    flows = [hello(), connection(A, B, source_port=2, spoken=extension_pb2.SPOKEN_DNS), connection(A, B, source_port=3)]
    (row,) = rows(fed(EncryptionAnswer(), flows))
    assert (row["client"], row["server"], row["port"], row["encryption"]) == ("demo/svc-a", "demo/svc-b", 443, "mixed")
    assert (row["encrypted"], row["plain"], row["unknown"], row["connections"]) == (1, 1, 1, 3)
    assert (row["server_names"], row["tls_versions"], row["ciphers"]) == (["svc-b.demo"], ["TLS 1.3"], ["TLS_AES_128_GCM_SHA256"])


def test_both_ends_of_a_connection_are_one_under_the_name_that_was_called() -> None:
    there = connection(A, SERVICE, spoken=extension_pb2.SPOKEN_TLS, port=80)
    here = connection(A, B, spoken=extension_pb2.SPOKEN_TLS, port=8080, at_client=False, node="node-2")
    for flows in ([there, here], [here, there]):
        (row,) = rows(fed(EncryptionAnswer(), flows))
        assert (row["server"], row["port"], row["connections"]) == ("demo/svc-b", 80, 1)


def test_a_port_that_is_used_again_later_is_another_connection() -> None:
    (row,) = rows(fed(EncryptionAnswer(), [connection(A, B), connection(A, B, at=60)]))
    assert row["connections"] == 2


def test_plain_comes_first() -> None:
    flows = [
        connection(A, B, spoken=extension_pb2.SPOKEN_TLS),
        connection(B, A, spoken=extension_pb2.SPOKEN_HTTP1),
        connection(A, SERVICE, source_port=9, port=1),
    ]
    assert [row["encryption"] for row in rows(fed(EncryptionAnswer(), flows))] == ["plain", "unknown", "encrypted"]


def test_connections_that_are_forgotten_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "MOST_CONNECTIONS", 2)
    answer = fed(EncryptionAnswer(), [connection(A, B, source_port=n) for n in range(1, 5)])
    assert any("2 connections were forgotten" in note for note in answer.tables()[0].notes)
