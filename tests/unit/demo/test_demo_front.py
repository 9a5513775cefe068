"""The API's front: bytes pass both ways, ends are passed on, and it can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Backend:
    """What is behind the front: answers in capital letters."""

    def __init__(self) -> None:
        self.open = 0
        self.idle = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.idle.clear()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data.upper())
                await writer.drain()
        writer.close()
        self.open -= 1
        if not self.open:
            self.idle.set()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def started(path: Path, port: int) -> asyncio.subprocess.Process:
    argv = [sys.executable, "-m", "flows.demo.api.front", str(path), str(port), "127.0.0.1"]
    process = await asyncio.create_subprocess_exec(*argv)
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return process
        await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def front(tmp_path: Path) -> AsyncIterator[tuple[Backend, asyncio.subprocess.Process, int]]:
    backend, port = Backend(), free_port()
    server = await asyncio.start_unix_server(backend.serve, tmp_path / "api.sock")
    process = await started(tmp_path / "api.sock", port)
    yield backend, process, port
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    server.close()


Front = tuple[Backend, asyncio.subprocess.Process, int]


async def test_bytes_and_ends_are_passed_on(front: Front) -> None:
    backend, _, port = front
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"ab" * 500_000)
    writer.write_eof()
    assert await reader.read() == b"AB" * 500_000
    writer.close()
    await backend.idle.wait()


async def test_a_killed_front_ends_every_connection_and_refuses(front: Front) -> None:
    backend, process, port = front
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"ab")
    assert await reader.readexactly(2) == b"AB"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await backend.idle.wait()


async def test_a_connection_to_nothing_is_ended(tmp_path: Path) -> None:
    port = free_port()
    process = await started(tmp_path / "nobody.sock", port)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    finally:
        process.kill()
        await process.wait()
