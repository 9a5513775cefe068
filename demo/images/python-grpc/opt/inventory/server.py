"""demo.Inventory, a gRPC service by plain text HTTP/2: Get (unary) and Watch (server streaming). Messages are bare bytes.

Get answers NOT_FOUND for `missing`, UNAVAILABLE for `broken`, and waits N ms for `slow-N`; Watch sends ten messages.
"""

# ruff: noqa: INP001 - a program in an image, not part of a package

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = "[::]:50051"
WATCHED = 10


def get(request: bytes, context: grpc.ServicerContext) -> bytes:
    """One item."""
    if request == b"missing":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such item")
    if request == b"broken":
        context.abort(grpc.StatusCode.UNAVAILABLE, "the store is closed")
    if request.startswith(b"slow-") and request[5:].isdigit():
        time.sleep(min(int(request[5:]), 60_000) / 1000)
    return b"item " + request


def watch(request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
    """Some items, one after the other."""
    for number in range(WATCHED):
        time.sleep(0.01)
        yield b"%s %d" % (request, number)


def main() -> None:
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Get": grpc.unary_unary_rpc_method_handler(get),
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
    }
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Inventory", methods),))
    server.add_insecure_port(ADDRESS)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
