"""What the hosts do: small programs with known outcomes, which count what they sent and received.

Each takes `say` first: it sends a value to the test while the program goes on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Event

Say = "Callable[[object], None]"
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
LINGER_ZERO = struct.pack("ii", 1, 0)


def word(say: Any) -> Any:
    """What the test says next, in answer to what was said: bounded."""
    channel = say.__self__
    assert channel.poll(20), "the test said nothing"
    return channel.recv()


def listener(version: int) -> socket.socket:
    server = socket.create_server(("", 0), family=FAMILY[version], backlog=64)
    server.settimeout(20)
    return server


def receive_all(connection: socket.socket) -> int:
    count = 0
    while data := connection.recv(65536):
        count += len(data)
    return count


def serve_ok(say: Callable[[object], None], version: int, number: int, answer: int) -> tuple[int, int]:
    """Accept so many, read to the end, answer, close. Gives bytes (sent, received)."""
    received = 0
    with listener(version) as server:
        say(server.getsockname()[1])
        for _ in range(number):
            connection, _ = server.accept()
            with connection:
                received += receive_all(connection)
                connection.sendall(bytes(answer))
    return number * answer, received


def connect_ok(say: Callable[[object], None], address: str, port: int, number: int, question: int) -> tuple[int, int]:
    """Connect so many times, ask (a byte more each time), read the answer. Gives bytes (sent, received)."""
    sent = received = 0
    for index in range(number):
        with socket.create_connection((address, port), timeout=20) as connection:
            connection.sendall(bytes(question + index))
            connection.shutdown(socket.SHUT_WR)
            received += receive_all(connection)
            sent += question + index
    return sent, received


def free_port(say: Callable[[object], None], version: int) -> int:
    """A port that nobody listens on."""
    with listener(version) as server:
        return int(server.getsockname()[1])


def connect_refused(say: Callable[[object], None], address: str, port: int, number: int) -> int:
    """Give how many of so many connections were refused."""
    refused = 0
    for _ in range(number):
        try:
            socket.create_connection((address, port), timeout=20).close()
        except ConnectionRefusedError:
            refused += 1
    return refused


def serve_reset(say: Callable[[object], None], version: int, number: int) -> int:
    """Accept so many, read what came first, abort. Gives bytes received."""
    received = 0
    with listener(version) as server:
        say(server.getsockname()[1])
        for _ in range(number):
            connection, _ = server.accept()
            received += len(connection.recv(65536))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            connection.close()
    return received


def connect_reset(say: Callable[[object], None], address: str, port: int, number: int) -> tuple[int, int]:
    """Give (bytes sent, how many of the connections were reset)."""
    resets = 0
    for _ in range(number):
        with socket.create_connection((address, port), timeout=20) as connection:
            connection.sendall(b"hello")
            try:
                connection.recv(1)
            except ConnectionResetError:
                resets += 1
    return 5 * number, resets


def connect_unanswered(say: Callable[[object], None], address: str, port: int, number: int, seconds: float) -> int:
    """Open so many at once and give up after a time. Gives how many were still unanswered."""
    sockets = []
    for _ in range(number):
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            connection.connect((address, port))
        sockets.append(connection)
    time.sleep(seconds)
    waiting = 0
    for connection in sockets:
        waiting += connection.connect_ex((address, port)) != 0
        connection.close()
    return waiting


def serve_kept(say: Callable[[object], None], version: int, number: int) -> int:
    """Accept so many, then read all until each is closed. Gives bytes received."""
    with listener(version) as server:
        say(server.getsockname()[1])
        connections = [server.accept()[0] for _ in range(number)]
    return sum(receive_all(connection) for connection in connections)


def connect_kept(say: Callable[[object], None], address: str, port: int, number: int, pause: float) -> int:
    """Open so many, send on each, pause, send again, close. Says when all are open. Gives bytes sent."""
    connections = [socket.create_connection((address, port), timeout=20) for _ in range(number)]
    for connection in connections:
        connection.sendall(b"first")
    say("open")
    time.sleep(pause)
    for connection in connections:
        connection.sendall(b"second")
    time.sleep(pause)
    for connection in connections:
        connection.close()
    return len(b"firstsecond") * number


def connect_until(say: Callable[[object], None], address: str, port: int, number: int, over: Event) -> int:
    """Open so many, send on each, say so, close when told. Gives bytes sent."""
    connections = [socket.create_connection((address, port), timeout=20) for _ in range(number)]
    for connection in connections:
        connection.sendall(b"first")
    say("open")
    over.wait(60)
    for connection in connections:
        connection.close()
    return len(b"first") * number


def serve_udp(say: Callable[[object], None], version: int, number: int, answer: int) -> int:
    """Answer so many datagrams. Gives payload bytes received."""
    with socket.socket(FAMILY[version], socket.SOCK_DGRAM) as server:
        server.bind(("", 0))
        server.settimeout(20)
        say(server.getsockname()[1])
        received = 0
        for _ in range(number):
            data, peer = server.recvfrom(65536)
            received += len(data)
            server.sendto(bytes(answer), peer)
    return received


def ask_udp(say: Callable[[object], None], address: str, port: int, number: int, question: int) -> int:
    """Ask so many times, from a new port each. Gives payload bytes sent.

    All stay open to the end: else two in turn may get the same port, and are one exchange.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            client = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            client.settimeout(20)
            client.sendto(bytes(question), (address, port))
            client.recvfrom(65536)
    return number * question


def send_raw(say: Callable[[object], None], source: str, destination: str, packets: list[tuple[int, bytes]]) -> int:
    """Send IPv4 packets from a raw socket: (protocol, what follows the IP header) each. Gives how many left."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for protocol, payload in packets:
            header = struct.pack(
                "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0,
                socket.inet_aton(source), socket.inet_aton(destination),
            )  # fmt: skip
            raw.sendto(header + payload, (destination, 0))
    return len(packets)


def send_raw_ipv6(say: Callable[[object], None], destination: str, packets: list[bytes]) -> int:
    """Send whole IPv6 packets from a raw socket, headers included. Gives how many left."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for packet in packets:
            raw.sendto(packet, (destination, 0))
    return len(packets)


def ask_connected_udp(say: Callable[[object], None], address: str, port: int, number: int) -> int:
    """Ask so many times, each from a new connected socket, as resolvers do. Gives how many answers came.

    As `ask_udp`, all stay open to the end.
    """
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.settimeout(20)
            client.connect((address, port))
            client.send(b"question")
            client.recv(65536)
    return number


def serve_with_worker(say: Callable[[object], None], version: int) -> int:
    """Listen on both families, let a forked worker serve one connection. Says (port, own pid)."""
    with listener(4) as ipv4:
        port = ipv4.getsockname()[1]
        with socket.create_server(("", port), family=socket.AF_INET6) as ipv6:
            ipv6.settimeout(20)
            worker = os.fork()
            if worker == 0:
                connection, _ = (ipv4 if version == 4 else ipv6).accept()
                receive_all(connection)
                connection.close()
                os._exit(0)
            say((port, os.getpid()))
            os.waitpid(worker, 0)
    return 1


def connect_failing(say: Callable[[object], None], address: str, port: int, number: int) -> list[int]:
    """Give the errno of each of so many connections; 0 where one succeeded."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    errors = []
    for _ in range(number):
        with socket.socket(family) as connection:
            connection.settimeout(20)
            errors.append(connection.connect_ex((address, port)))
    return errors


def send_into_silence(say: Callable[[object], None], address: str, port: int) -> int:
    """Connect, say so, wait for a word, send what nobody will acknowledge. Gives the errno that ended it."""
    with socket.create_connection((address, port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
        say("open")
        word(say)
        connection.sendall(b"lost")
        try:
            connection.recv(1)
        except OSError as error:
            return error.errno or 0
    return 0
