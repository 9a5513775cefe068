"""Asks a name server from inside a pod; run there with the system's Python, so the standard library has to do.

`SERVER pace RATE TOTAL TAG`: questions at a pace, each with a name of its own; prints how many were asked and answered.
`SERVER ask TYPE NAME SECONDS`: one question, once; prints the answer's code, or what went wrong.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time

TYPES = {"A": 1, "AAAA": 28}
SOCKETS = 16
TICK_SECONDS = 0.005
WAIT_SECONDS = 2.0  # for the last answers
MOST_AT_ONCE = 50  # after a pause: a server's socket has room for some 280


def message(number: int, name: str, qtype: str) -> bytes:
    """A query with recursion desired."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", TYPES[qtype], 1)


def question(number: int, tag: str) -> tuple[str, str]:
    """Name and type: some names exist, some do not, and those of type AAAA have no addresses."""
    zone = ("any.test", "demo.svc.cluster.local", "any.test")[number % 3]
    return f"{tag}-{number}.{zone}", "AAAA" if number % 5 == 0 else "A"


def pace(server: str, rate: int, total: int, tag: str) -> None:
    """Ask, read what comes, and keep the pace."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
    for sock in sockets:
        sock.connect((server, 53))
        sock.setblocking(False)
    begun, asked, answered, ended = time.monotonic(), 0, 0, 0.0
    while answered < total and not (ended and time.monotonic() > ended):
        due = min(total, asked + MOST_AT_ONCE, int((time.monotonic() - begun) * rate))
        for number in range(asked, due):
            sockets[number % SOCKETS].send(message(number & 0xFFFF, *question(number, tag)))
        asked = due
        if asked == total and not ended:
            ended = time.monotonic() + WAIT_SECONDS
        for sock in select.select(sockets, (), (), TICK_SECONDS)[0]:
            answered += drain(sock)
    print(json.dumps({"asked": asked, "answered": answered}))


def drain(sock: socket.socket) -> int:
    """How many answers waited."""
    count = 0
    try:
        while sock.recv(4096):
            count += 1
    except BlockingIOError:
        return count
    return count


def ask(server: str, qtype: str, name: str, seconds: float) -> None:
    """One question."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        try:
            sock.connect((server, 53))
            sock.send(message(int(time.time_ns()) & 0xFFFF, name, qtype))
            print(sock.recv(4096)[3] & 15)
        except OSError as error:
            print(error)


if __name__ == "__main__":
    if sys.argv[2] == "pace":
        pace(sys.argv[1], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    else:
        ask(sys.argv[1], sys.argv[3], sys.argv[4], float(sys.argv[5]))
