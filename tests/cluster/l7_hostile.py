"""Bytes that no well-meaning program sends, to real servers: `l7_hostile.py HTTP TLS GRPC DNS SEED`, addresses; run inside a pod.

What servers make of them does not matter here: they are on the wire, and an agent looks at them.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_SECONDS = 0.05
MUTATIONS = 50
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
QUESTION = b"\x03www\x04any\x04test\0\0\x01\0\x01"


def tcp(address: str, port: int, *parts: bytes, pause: float = 0.0) -> None:
    """Send, and listen a little."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), 2) as sock:
        sock.settimeout(TIMEOUT_SECONDS)
        for part in parts:
            sock.sendall(part)
            time.sleep(pause)
        sock.recv(65536)


def udp(address: str, *messages: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for message in messages:
            with contextlib.suppress(OSError):
                sock.sendto(message, (address, 53))


def mutated(message: bytes, chance: random.Random) -> Iterator[bytes]:
    """The message with bytes changed, cut, and repeated."""
    for _ in range(MUTATIONS):
        changed = bytearray(message)
        for _ in range(chance.randint(1, 8)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        cut = chance.randint(1, len(changed))
        yield bytes(changed[:cut]) * chance.choice((1, 1, 1, 3))


def http(address: str, chance: random.Random) -> None:
    """HTTP/1."""
    host = b" HTTP/1.1\r\nHost: cache\r\n"
    heads = [
        b"GET /null\0byte" + host + b"\r\n",
        b"GET /\xff\xfe\xc0\x80" + host + b"\r\n",
        b"GET /\x1b[31mred\x1b]0;title\x07" + host + b"\r\n",
        b"GET /line\rbreak" + host + b"\r\n",
        b"GET /" + b"a" * 7000 + host + b"\r\n",
        b"GET /big" + host + b"X: " + b"h" * 60_000 + b"\r\n\r\n",
        b"GET /many" + host + b"".join(b"X-%d: 1\r\n" % n for n in range(3000)) + b"\r\n",
        b"GET " + b"/" * 100 + b"\r\n\r\n",
        b"GET /host HTTP/1.1\r\nHost: \x1b[2J\0\xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 999999999999 \xff\r\n\r\n",
        b"OPTIONS * HTTP/9.9\r\n\r\n",
    ]
    for head in heads:
        tcp(address, 8080, head)
    tcp(address, 8080, *(bytes([byte]) for byte in b"GET /slowloris" + host), pause=0.01)
    for head in mutated(heads[0] + b"X: y\r\n\r\n", chance):
        tcp(address, 8080, head)


def http2(address: str, chance: random.Random) -> None:
    """Frames and HPACK (RFC 9113, RFC 7541)."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload

    one = b"\x83\x86\x44\x05/home\x41\x04host"
    indexed = b"\x40\x01a\x7f\x81\x1f" + b"x" * 4000  # a large entry for the table, then it again and again
    bodies = [
        frame(1, 5, 1, b"\xff" * 16_000),
        frame(1, 5, 1, b"\x3f\xff\xff\xff\xff\xff\xff\x7f"),
        frame(1, 5, 1, indexed + b"\xbe" * 12_000),
        frame(1, 1, 1, one) + frame(9, 0, 1, b"\0" * 100) * 200,
        frame(1, 5, 0, one) + frame(1, 5, 2**31 - 1, one),
        b"".join(frame(1, 5, stream, one) for stream in range(1, 4001, 2)),
        b"\xff\xff\xff\x01\x05\x7f\xff\xff\xff" + b"z" * 1000,
        frame(1, 0x2D, 1, b"\xff" + one),
        frame(3, 0, 1, b"\0" * 4) * 500,
    ]
    for body in bodies:
        tcp(address, 50051, PREFACE + SETTINGS + body)
        tcp(address, 50051, body)
    for body in mutated(PREFACE + SETTINGS + frame(1, 5, 1, one), chance):
        tcp(address, 50051, body)


def tls(address: str, chance: random.Random) -> None:
    """ClientHellos."""
    names = b"\0\0\0\x10\0\x0e\0\0\x0bexample.com"
    body = b"\x03\x03" + os.urandom(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0" + struct.pack("!H", len(names)) + names
    hello = b"\x01" + struct.pack("!I", len(body))[1:] + body
    record = b"\x16\x03\x01" + struct.pack("!H", len(hello)) + hello
    evil = record.replace(b"example.com", b"\x1b[2J\0\xff/../")
    for message in (record, evil, record[:20], b"\x16\x03\x01\xff\xff\x01\xff\xff\xff", *mutated(record, chance)):
        tcp(address, 8443, message)
    tcp(address, 8443, *(bytes([byte]) for byte in record), pause=0.005)


def dns(address: str, chance: random.Random) -> None:
    """Messages with loops of pointers, of the largest size, and such."""
    header = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"
    messages = [
        header + b"\xc0\x0c\0\x01\0\x01",
        header + b"\xc0\x0e\xc0\x0c\0\x01\0\x01",
        header + b"\x3f" + b"x" * 63 + b"\xc0\x0c\0\x01\0\x01",
        header + b"\x40" * 200,
        header[:4] + b"\xff\xff" * 4 + QUESTION,
        header + b"".join(b"\x01" + bytes([byte]) for byte in range(120)) + b"\0\0\x01\0\x01",
        header + b"\x08\x1b[2J\x07\r\n\0\x04any\x04test\0\0\x01\0\x01"[:-1],
        header[:11],
        b"",
    ]
    udp(address, *messages, *mutated(header + QUESTION, chance))
    whole = header + QUESTION
    whole += b"\0" * (65_535 - len(whole))
    for message in (whole, *messages[:6]):
        tcp(address, 53, struct.pack("!H", len(message)) + message)
    tcp(address, 53, b"\xff\xff" + header)
    tcp(address, 53, *(bytes([byte]) for byte in struct.pack("!H", 30) + header + QUESTION), pause=0.005)


def main() -> None:
    at_http, at_tls, at_grpc, at_dns, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    http(at_http, chance)
    http2(at_grpc, chance)
    tls(at_tls, chance)
    dns(at_dns, chance)


if __name__ == "__main__":
    main()
