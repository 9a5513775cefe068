"""The name server of example.test: the label before the zone says how it fails. Standard library only, as it runs in a pod.

    slowN       answers after N seconds (1 to 60)       servfail, refused, missing      answers with that code
    silent      does not answer                         big                             does not fit UDP: truncated, whole by TCP
    alias       is a CNAME of www.example.test          anything else                   has addresses

`x.y.slow6.example.test` is as slow as `slow6.example.test`, so that one can ask again and no cache knows it.
"""

# ruff: noqa: INP001 - a program in an image, not part of a package

from __future__ import annotations

import asyncio
import re
import socket
import struct
import sys
from ipaddress import ip_address
from typing import NamedTuple

ZONE = ("example", "test")
A, CNAME, AAAA, CLASS_IN = 1, 5, 28, 1
FORMERR, REFUSED = 1, 5
CODES = {"servfail": 2, "missing": 3, "refused": REFUSED}
ADDRESSES = {A: ip_address("192.0.2.80").packed, AAAA: ip_address("2001:db8::80").packed}
WWW = b"\x03www\x07example\x04test\x00"
TTL_SECONDS = 30
BIG_RECORDS = 60  # 16 bytes each: more than the 512 of UDP (RFC 1035 section 4.2.1)
QUESTION_AT = b"\xc0\x0c"  # a pointer to the question's name
AUTHORITATIVE, RESPONSE, TRUNCATED, RECURSION_DESIRED = 0x0400, 0x8000, 0x0200, 0x0100
_SLOW = re.compile(r"slow([1-9]|[1-5][0-9]|60)")


class Question(NamedTuple):
    """What a message asks."""

    number: int
    flags: int
    labels: tuple[str, ...]  # lower case
    qtype: int
    raw: bytes  # name, type and class as they came


def parse(message: bytes) -> Question:
    """The question of a query; ValueError for anything else."""
    if len(message) < 12:
        raise ValueError("shorter than a header")
    number, flags, questions = struct.unpack_from("!HHH", message)
    if flags & RESPONSE or questions != 1:
        raise ValueError("not one question")
    labels, at = [], 12
    while at < len(message) and message[at]:
        length = message[at]
        if length > 63 or at + 1 + length >= len(message):
            raise ValueError("a bad label")
        labels.append(message[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    if at + 5 > len(message):
        raise ValueError("cut within the question")
    (qtype,) = struct.unpack_from("!H", message, at + 1)
    return Question(number, flags, tuple(labels), qtype, message[12 : at + 5])


def record(name: bytes, kind: int, data: bytes) -> bytes:
    """A resource record."""
    return name + struct.pack("!HHIH", kind, CLASS_IN, TTL_SECONDS, len(data)) + data


def answers(question: Question, behaviour: str) -> list[bytes]:
    """The records of a name that exists."""
    if behaviour == "big" and question.qtype == A:
        return [record(QUESTION_AT, A, bytes([192, 0, 2, last])) for last in range(1, BIG_RECORDS + 1)]
    addresses = [(kind, data) for kind, data in ADDRESSES.items() if kind == question.qtype]
    if behaviour == "alias":
        return [record(QUESTION_AT, CNAME, WWW), *(record(WWW, kind, data) for kind, data in addresses)]
    return [record(QUESTION_AT, kind, data) for kind, data in addresses]


def respond(question: Question, behaviour: str, *, udp: bool) -> bytes:
    """The answer's bytes."""
    code = CODES.get(behaviour, 0)
    if question.labels[-2:] != ZONE:
        code = REFUSED
    records = [] if code else answers(question, behaviour)
    flags = RESPONSE | AUTHORITATIVE | (question.flags & RECURSION_DESIRED) | code
    if udp and sum(map(len, records)) > 512 - 12 - len(question.raw):
        records, flags = [], flags | TRUNCATED
    return struct.pack("!HHHHHH", question.number, flags, 1, len(records), 0, 0) + question.raw + b"".join(records)


async def answer(message: bytes, *, udp: bool, asker: str) -> bytes | None:
    """What to send back, in its time; None: nothing. Each query is a line of the log."""
    try:
        question = parse(message)
    except ValueError as error:
        sys.stdout.write(f"from {asker}: {error}\n")
        return message[:2] + struct.pack("!HHHHH", RESPONSE | FORMERR, 0, 0, 0, 0) if len(message) >= 2 else None
    behaviour = question.labels[-3] if len(question.labels) > 2 else ""
    sys.stdout.write(f"query[{question.qtype}] {'.'.join(question.labels)} from {asker}\n")
    if behaviour == "silent":
        return None
    if slow := _SLOW.fullmatch(behaviour):
        await asyncio.sleep(int(slow[1]))
    return respond(question, behaviour, udp=udp)


class Datagrams(asyncio.DatagramProtocol):
    """UDP."""

    def __init__(self) -> None:
        self.working: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self.serve(data, addr))
        self.working.add(task)
        task.add_done_callback(self.working.discard)

    async def serve(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = await answer(data, udp=True, asker=f"{addr[0]}#{addr[1]}")
        if reply is not None:
            self.transport.sendto(reply, addr)


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """TCP: messages with two bytes of length before them (RFC 7766), one after the other."""
    asker = "{}#{}".format(*writer.get_extra_info("peername")[:2])
    try:
        while True:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            reply = await answer(await reader.readexactly(length), udp=False, asker=asker)
            if reply is not None:
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return  # it has no more questions
    finally:
        writer.close()


def bound(kind: socket.SocketKind) -> socket.socket:
    """Port 53 of both address families."""
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 53))
    return sock


async def main() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Datagrams, sock=bound(socket.SOCK_DGRAM))
    server = await asyncio.start_server(stream, sock=bound(socket.SOCK_STREAM))
    await server.serve_forever()


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    asyncio.run(main())
