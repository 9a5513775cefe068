"""The API server's front: a process of its own that has the listening sockets and passes bytes on to the daemon.

TLS is not ended here. So the API server can be killed (`kill -9`): its connections are reset and its port refuses, while
what it serves lives on in the daemon, as it does in etcd.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

CHUNK = 64 * 1024
CONNECT_SECONDS = 5.0


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, which is passed on too."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: str) -> None:
    """One client's connection, to its end."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            inner_reader, inner_writer = await asyncio.open_unix_connection(backend)
    except (OSError, TimeoutError):
        writer.transport.abort()
        return
    asking = asyncio.create_task(pass_on(reader, inner_writer))
    try:
        await pass_on(inner_reader, writer)  # when the server has closed, nobody hears the client any more
    finally:
        asking.cancel()
        for end in (writer, inner_writer):
            end.close()
            with contextlib.suppress(OSError):
                await end.wait_closed()


async def serve(backend: str, port: int, addresses: list[str]) -> None:
    """Listen on addresses of this network namespace and pass on to the Unix socket `backend`, for ever."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_one(reader, writer, backend)

    servers = [await asyncio.start_server(connected, address, port, backlog=256) for address in addresses]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
