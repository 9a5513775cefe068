"""Two programs that talk by a script over TCP or UDP, so that each packet's bytes and sender are known."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

from traffic import FAMILY, word

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# True: the client says it. Each is one write to a socket without Nagle's delay: one packet, if it fits.
Script = list[tuple[bool, bytes]]
SO_COOKIE = 57


def cookie(connection: socket.socket) -> int:
    """Id of the connection, as the kernel's records have it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
    return int(struct.unpack("<Q", raw)[0])


def tell(connection: socket.socket, script: Script, *, client: bool) -> None:
    """Say one's own part when it is its turn, and read the other's."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(20)
    for speaker, text in script:
        if speaker == client:
            connection.sendall(text)
        else:
            read(connection, len(text))


def read(connection: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise OSError(errno.EPIPE, "the other side has gone")
        parts += part
    return parts


def serve(say: Callable[[object], None], version: int, scripts: Sequence[Script], port: int) -> list[int]:
    """Accept a connection for each script and play the server. Says its port. Gives the connections' ids."""
    ids = []
    with socket.create_server(("", port), family=FAMILY[version], backlog=64) as server:
        server.settimeout(20)
        say(server.getsockname()[1])
        for script in scripts:
            connection, _ = server.accept()
            with connection:
                tell(connection, script, client=False)
                ids.append(cookie(connection))
                connection.recv(1)  # the client closes first
    return ids


def ask(say: Callable[[object], None], address: str, port: int, scripts: Sequence[Script], mss: int) -> list[int]:
    """Connect for each script, one after another, and play the client. mss: bytes of a packet at most, 0: as it comes."""
    ids = []
    for script in scripts:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as connection:
            if mss:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
            connection.settimeout(20)
            connection.connect((address, port))
            tell(connection, script, client=True)
            ids.append(cookie(connection))
    return ids


def ask_late(say: Callable[[object], None], address: str, port: int, first: Script, then: Script) -> int:
    """The other end of it: says so when the first part is over, and waits for a word."""
    with socket.create_connection((address, port), timeout=20) as connection:
        tell(connection, first, client=True)
        say("waiting")
        word(say)
        tell(connection, then, client=True)
        return cookie(connection)


def serve_datagrams(say: Callable[[object], None], version: int, answers: Sequence[bytes], port: int) -> int:
    """Answer each datagram with the next of the answers. Gives how many came."""
    with socket.socket(FAMILY[version], socket.SOCK_DGRAM) as server:
        server.bind(("", port))
        server.settimeout(20)
        say(server.getsockname()[1])
        for answer in answers:
            _, peer = server.recvfrom(65_536)
            server.sendto(answer, peer)
    return len(answers)


def ask_datagrams(say: Callable[[object], None], address: str, port: int, questions: Sequence[bytes]) -> list[bytes]:
    """Ask from one socket; gives the answers."""
    answers = []
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        for question in questions:
            client.sendto(question, (address, port))
            answers.append(client.recvfrom(65_536)[0])
    return answers
