"""Calls demo.Inventory: `client.py TARGET` for ever, `client.py TARGET CALL...` each call once, on one connection.

A call is `Get ITEM` or `Watch ITEM` in one word with a colon: Get:apple. Each prints `METHOD ITEM STATUS MICROSECONDS`.
"""

# ruff: noqa: INP001 - a program in an image, not part of a package

from __future__ import annotations

import sys
import time
from itertools import cycle

import grpc

TIMEOUT_SECONDS = 10.0
PAUSE_SECONDS = 1.0
EVERYDAY = ("Get:apple", "Get:pear", "Get:missing", "Get:slow-30", "Watch:fruit")


def call(channel: grpc.Channel, method: str, item: str) -> str:
    """The status' name of one call."""
    path = f"/demo.Inventory/{method}"
    try:
        if method == "Watch":
            list(channel.unary_stream(path, str.encode, bytes.decode)(item, timeout=TIMEOUT_SECONDS, wait_for_ready=True))
        else:
            channel.unary_unary(path, str.encode, bytes.decode)(item, timeout=TIMEOUT_SECONDS, wait_for_ready=True)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def report(channel: grpc.Channel, word: str) -> None:
    """Make a call and print what became of it."""
    method, _, item = word.partition(":")
    began = time.monotonic_ns()
    status = call(channel, method, item)
    sys.stdout.write(f"{method} {item} {status} {(time.monotonic_ns() - began) // 1000}\n")
    sys.stdout.flush()


def main() -> None:
    with grpc.insecure_channel(sys.argv[1]) as channel:
        for word in sys.argv[2:]:
            report(channel, word)
        for word in cycle(EVERYDAY) if len(sys.argv) == 2 else ():
            report(channel, word)
            time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
