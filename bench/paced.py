"""Connections at a fixed pace: `paced.py ADDRESS PORT RATE SECONDS`, one HTTP request each; prints how many it made.

A program of its own because it runs in the client pod.
"""

from __future__ import annotations

import socket
import sys
import time

TICK_SECONDS = 0.01  # connections are made in small groups this often
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"


def one(address: tuple[str, int]) -> None:
    """Connect, ask, read to the end, close."""
    with socket.create_connection(address, 5) as channel:
        channel.sendall(REQUEST)
        while channel.recv(4096):
            pass


def main() -> None:
    """Keep the pace; what one tick could not do, the next ones make up for."""
    address = (sys.argv[1], int(sys.argv[2]))
    rate, seconds = int(sys.argv[3]), float(sys.argv[4])
    start, made = time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds:
        for _ in range(int(passed * rate) - made):
            one(address)
            made += 1
        time.sleep(TICK_SECONDS)
    print(made)


if __name__ == "__main__":
    main()
