"""TLS hellos: names, ALPN, versions and ciphers, whatever the bytes are."""

from __future__ import annotations

import datetime as dt
import ssl
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from tls_samples import (
    MS,
    T0,
    WALL,
    Seen,
    client_hello,
    extension,
    hellos,
    payload,
    payloads,
    records,
    server_hello,
    server_name,
    vector,
)

from flows.agent.l7.tls_hello import MalformedError, parse
from flows.agent.probe.payload import SHORT_PAYLOAD
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Flag, Kind, State
from flows.flow.grpc_words import service_and_method, status_name
from flows.flow.tls_words import cipher_name, version_name

if TYPE_CHECKING:
    from pathlib import Path

RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
WHOLE = client_hello(server_name(b"web.example.com"), extension(16, vector(vector(b"h2", 1) + vector(b"http/1.1", 1), 2)))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Files of a certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web")])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(1))
    folder: Path = tmp_path_factory.mktemp("tls")
    (folder / "crt").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key").write_bytes(key.private_bytes(pem, pkcs8, plain))
    return str(folder / "crt"), str(folder / "key")


@pytest.mark.parametrize(
    ("version", "number", "cipher", "chosen"),
    [
        (ssl.TLSVersion.TLSv1_3, 0x0304, "TLS_AES_256_GCM_SHA384", ""),
        (ssl.TLSVersion.TLSv1_2, 0x0303, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "alpn: http/1.1\n"),
    ],
)
@pytest.mark.parametrize("client_end", [True, False])
def test_a_handshake_of_openssl(
    certificate: tuple[str, str], version: ssl.TLSVersion, number: int, cipher: str, chosen: str, client_end: bool
) -> None:
    made = payloads(hellos(certificate, version=version, alpn=("h2", "http/1.1")), client_end=client_end)
    seen = Seen().take(made)
    (row,) = seen.rows()
    assert (row["kind"], row["state"], row["client"], row["pid"]) == (Kind.TLS, State.ANSWERED, client_end, 12)
    assert (row["text"], row["host"], row["headers"]) == ("web.example.com", "h2,http/1.1", chosen)
    assert (row["version"], cipher_name(row["status"]), row["flags"]) == (number, cipher, 0)
    assert (row["time"], row["answered"]) == (T0 + WALL, T0 + WALL + MS)
    assert (seen.events, seen.handler.counts()) == ([(0, Event.HELLO, 0)], {})


def test_a_retry_is_not_the_end(certificate: tuple[str, str]) -> None:
    made = payloads(hellos(certificate, curve="secp384r1"))
    seen = Seen().take(made)
    assert len(made) == 3  # OpenSSL's second ClientHello has a ChangeCipherSpec before it
    assert seen.handler.counts() == {"tls_hello_retries": 1}
    assert (seen.column("state"), len(seen.events)) == ([State.ANSWERED], 1)
    assert seen.column("answered") == [T0 + WALL + 3 * MS]


def test_without_a_name_the_text_is_empty(certificate: tuple[str, str]) -> None:
    (row,) = Seen().take(payloads(hellos(certificate, name=None))).rows()
    assert (row["text"], row["host"], row["flags"], row["state"]) == ("", "", 0, State.ANSWERED)


def versions(*offered: int) -> bytes:
    return extension(43, vector(b"".join(version.to_bytes(2, "big") for version in offered), 1))


@pytest.mark.parametrize(
    ("text", "name", "alpn", "version"),
    [
        (WHOLE, b"web.example.com", (b"h2", b"http/1.1"), 0x0303),
        (client_hello(), None, (), 0x0303),
        (client_hello(version=0x0301), None, (), 0x0301),
        (client_hello(versions(0x0304, 0x0303)), None, (), 0x0304),
        (client_hello(versions(0x0302, 0x0303)), None, (), 0x0303),
        (client_hello(versions(0xFAFA, 0x0304)), None, (), 0x0304),  # GREASE, RFC 8701
        (client_hello(versions(0xFAFA)), None, (), 0x0303),
        (client_hello(versions(0x7F1C, 0x0303)), None, (), 0x0303),  # a draft of TLS 1.3
        (client_hello(server_name(b"UPPER.Case.")), b"upper.case", (), 0x0303),
        (client_hello(server_name(b"other", kind=1)), None, (), 0x0303),
        (client_hello(server_name(b"web"), record=1), b"web", (), 0x0303),
        (client_hello(server_name(b"web"), record=20), b"web", (), 0x0303),
    ],
)
def test_what_a_client_hello_says(text: bytes, name: bytes | None, alpn: tuple[bytes, ...], version: int) -> None:
    hello = parse(text)
    assert (hello.client, hello.name, hello.alpn, hello.version, hello.cut) == (True, name, alpn, version, False)


@pytest.mark.parametrize(
    ("text", "version", "cipher", "retry"),
    [
        (server_hello(), 0x0303, 0xC02F, False),
        (server_hello(extension(43, b"\x03\x04"), cipher=0x1301), 0x0304, 0x1301, False),
        (server_hello(extension(43, b"\x03\x04"), cipher=0x1301, random=RETRY), 0x0304, 0x1301, True),
    ],
)
def test_what_a_server_hello_says(text: bytes, version: int, cipher: int, retry: bool) -> None:
    hello = parse(text)
    assert (hello.client, hello.version, hello.cipher, hello.retry) == (False, version, cipher, retry)


@pytest.mark.parametrize("captured", range(len(WHOLE)))
def test_a_cut_hello_gives_what_is_there_and_nothing_else(captured: int) -> None:
    seen = Seen().take(payload(WHOLE[:captured], length=len(WHOLE)))
    for row in seen.rows():
        assert row["text"] in ("", "web.example.com")
        assert row["host"] in ("", "h2", "h2,http/1.1")
        assert row["flags"] & Flag.CUT or row["text"]
        assert row["flags"] & Flag.HOST_CUT or row["host"]
    assert seen.handler.counts() == {"tls_hellos_cut" if seen.rows() else "tls_hellos_malformed": 1}


def test_a_hello_longer_than_a_short_record_is_cut_by_it() -> None:
    text = client_hello(extension(51, bytes(300)), server_name(b"web"))
    (row,) = Seen().take(payload(text, dtype=SHORT_PAYLOAD)).rows()
    assert (row["text"], row["flags"], row["request_bytes"]) == ("", Flag.CUT | Flag.HOST_CUT, len(text))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x16\x03\x01",
        b"\x16\x03\x01\x00\x00",
        b"\x17" + WHOLE[1:],
        records(b"\x0b" + vector(bytes(50), 3), 99),  # a certificate
        records(b"\x01" + vector(b"\x03\x03", 3), 99),  # ends after its version
        client_hello(extension(0, b"\x00\xff\x00\x00\x03web")),  # longer than its extension
        client_hello(b"\x00\x00\xff\xff"),
        client_hello(extension(16, vector(b"\x09h2", 2))),
        client_hello(extension(43, b"\x03\x03\x04\x03")),
    ],
)
def test_malformed_hellos_are_counted(text: bytes) -> None:
    seen = Seen().take(payload(text))
    assert (seen.rows(), seen.handler.counts()) == ([], {"tls_hellos_malformed": 1})


@pytest.mark.parametrize("name", [b"a b", b"a\0", b"\x1b[2J", "bücher".encode(), b"a\nb"])
def test_a_name_of_other_bytes_is_none(name: bytes) -> None:
    seen = Seen().take(payload(client_hello(server_name(name))))
    assert (seen.column("text"), seen.handler.counts()) == ([""], {"tls_names_malformed": 1})


def test_long_names_and_lists_are_cut_and_marked() -> None:
    alpn = extension(16, vector(b"".join(vector(b"p" * 20, 1) for _ in range(9)), 2))
    (row,) = Seen().take(payload(client_hello(server_name(b"n" * 250), alpn))).rows()
    assert (len(row["text"]), len(row["host"]), row["flags"]) == (160, 64, Flag.CUT | Flag.HOST_CUT)


def test_an_encrypted_client_hello_is_counted() -> None:
    seen = Seen().take(payload(client_hello(server_name(b"outer.example"), extension(0xFE0D, bytes(8)))))
    assert (seen.column("text"), seen.handler.counts()) == (["outer.example"], {"tls_encrypted_client_hellos": 1})


@pytest.mark.parametrize("together", [True, False])
def test_hellos_of_two_rings_meet_in_any_order(together: bool) -> None:
    asked, answered = payload(WHOLE), payload(server_hello(), sent=0, time_ns=T0 + MS)
    seen = Seen().take(*([np.concatenate([answered, asked])] if together else [answered, asked]))
    assert (seen.column("state"), seen.column("status")) == ([State.ANSWERED], [0xC02F])
    assert (seen.column("answered"), seen.handler.counts()) == ([T0 + WALL + MS], {})


def test_a_second_hello_replaces_nothing() -> None:
    seen = Seen().take(payload(WHOLE), payload(client_hello(server_name(b"other")), time_ns=T0 + 1))
    assert (seen.column("text"), seen.handler.counts()) == (["web.example.com"], {"tls_hellos_repeated": 1})


def test_hellos_without_a_connection_are_counted() -> None:
    assert Seen().take(payload(WHOLE, conn_id=0)).handler.counts() == {"tls_hellos_without_connection": 1}


def test_a_server_hello_alone_is_counted() -> None:
    seen = Seen().take(payload(server_hello(), sent=0)).expire(99 * 10**9)
    assert (seen.rows(), seen.handler.counts()) == ([], {"tls_server_hellos_alone": 1})


def test_a_hello_from_the_same_side_is_no_answer() -> None:
    seen = Seen().take(payload(WHOLE), payload(server_hello()))
    assert (seen.column("state"), seen.handler.counts()) == ([State.ASKED], {"tls_hellos_repeated": 1})


@pytest.mark.parametrize(("after_s", "state"), [(9, State.ANSWERED), (10, State.ASKED)])
def test_who_stops_waiting_says_nothing(after_s: int, state: State) -> None:
    seen = Seen().take(payload(WHOLE)).expire(after_s * 10**9).take(payload(server_hello(), sent=0, time_ns=T0 + after_s))
    assert (seen.column("state"), len(seen.events)) == ([state], 1)


def test_connections_that_ended_are_forgotten() -> None:
    seen = Seen().take(payload(WHOLE))
    assert not len(seen.handler.ended(np.array([7], np.uint64), np.array([T0], np.uint64), WALL).request)
    assert (seen.column("state"), len(seen.handler._waiting)) == ([State.ASKED], 0)


def test_waiting_connections_are_bounded_and_batches_may_be_larger_than_the_store() -> None:
    made = np.repeat(payload(WHOLE), 20)
    made["conn_id"] = np.arange(1, 21)
    seen = Seen(capacity=8, max_waiting=5).take(made)
    assert (seen.store.written, len(seen.events), len(seen.handler._waiting)) == (20, 20, 5)
    assert seen.handler.counts() == {"tls_connections_over_limit": 15}


@settings(max_examples=200)
@given(st.binary(max_size=300), st.integers(0, len(WHOLE)), st.booleans())
def test_arbitrary_bytes_do_no_harm(noise: bytes, at: int, spliced: bool) -> None:
    text = WHOLE[:at] + noise + WHOLE[at + len(noise) :] if spliced else noise
    try:
        hello = parse(text)
    except MalformedError:
        hello = None
    seen = Seen().take(payload(text), payload(server_hello(), sent=0)).expire(99 * 10**9)
    assert (hello is not None and hello.client) == bool(seen.rows())


def test_cipher_names_are_those_of_openssl() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ECDHE+AESGCM:DHE+AESGCM:ECDHE+CHACHA20:!PSK:!DSS:!ARIA")
    for cipher in context.get_ciphers():
        name = cipher_name(cipher["id"] & 0xFFFF)
        if not cipher["name"].startswith("TLS_"):
            name = name.removeprefix("TLS_").replace("WITH_", "").replace("_", "-").replace("AES-", "AES")
        assert name.removesuffix("-SHA256") == cipher["name"].removesuffix("-SHA256")


@pytest.mark.parametrize(("version", "name"), [(0x0304, "TLS 1.3"), (0x0303, "TLS 1.2"), (0x0300, "SSL 3.0"), (0x7F1C, "0x7F1C")])
def test_version_names(version: int, name: str) -> None:
    assert version_name(version) == name


def test_what_has_no_name_is_its_number() -> None:
    assert (cipher_name(0x1301), cipher_name(0xABCD)) == ("TLS_AES_128_GCM_SHA256", "0xABCD")
    assert (status_name(0), status_name(16), status_name(17), status_name(-1)) == ("OK", "UNAUTHENTICATED", "17", "-1")


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/pkg.Echo/Say", ("pkg.Echo", "Say")),
        ("/a/b/c", ("a/b", "c")),
        ("/x", ("", "/x")),
        ("x/y", ("", "x/y")),
        ("", ("", "")),
    ],
)
def test_service_and_method_of_a_path(path: str, parts: tuple[str, str]) -> None:
    assert service_and_method(path) == parts
