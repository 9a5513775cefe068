"""Port-forward: a port of this machine whose connections end in a pod behind the relay's Service (`-P`)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING

from flows.cli.backend import Backend, PortForwardError, backend
from flows.cli.cluster import Cluster, Tunnel
from flows.cli.options import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flows.cli.login import Caller
    from flows.cli.options import ServerOptions

_CHUNK = 1 << 16


class PortForward:
    """Each connection goes to a pod that is ready at that time: a replaced pod is found by connecting again.

    name: the Service's. port: of 127.0.0.1. failure: why the last connection could not be made, or broke; "" if none did.
    """

    def __init__(self, options: ServerOptions, caller: Caller) -> None:
        self._namespace, self._caller = options.kube_namespace, caller
        self._running: set[asyncio.Task[None]] = set()
        self.name, self.port, self.failure = "", 0, ""

    def find(self) -> Backend:
        """The pod to connect to now. Blocks. Raises PortForwardError, UsageError."""
        try:
            return self._ask(fresh=False)
        except PortForwardError as error:
            if error.code != 401:
                raise
        return self._ask(fresh=True)  # tokens expire

    def _ask(self, *, fresh: bool) -> Backend:
        with closing(Cluster(self._caller.configuration(fresh=fresh))) as cluster:
            return backend(cluster, self._namespace)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            tunnel = await self._opened()
            self.failure = ""
            try:
                await _carry(reader, writer, tunnel)
            finally:
                await asyncio.to_thread(tunnel.close)
            self.failure = tunnel.failure
        except (PortForwardError, UsageError) as error:
            self.failure = str(error)
        except OSError as error:
            self.failure = f"the port-forward broke: {error.strerror or error}"
        except asyncio.CancelledError:  # the server that calls this would report it as a fault
            pass
        finally:
            writer.close()
            self._running.discard(task)

    async def close(self) -> None:
        """Ends all connections."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _opened(self) -> Tunnel:
        """A new tunnel; one that comes when nobody wants it any more is closed."""
        opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with suppress(PortForwardError, UsageError):
                await asyncio.to_thread((await opening).close)
            raise

    def _open(self) -> Tunnel:
        found = self.find()
        with closing(Cluster(self._caller.configuration())) as cluster:
            return cluster.connect(found.namespace, found.pod, found.port)


@asynccontextmanager
async def port_forward(options: ServerOptions, caller: Caller) -> AsyncIterator[PortForward]:
    """Listens while the context lasts. Raises UsageError, and PortForwardError if there is no relay to connect to."""
    forward = PortForward(options, caller)
    forward.name = (await asyncio.to_thread(forward.find)).service
    try:
        listener = await asyncio.start_server(forward.carry, "127.0.0.1", options.port_forward_port)
    except OSError as error:
        cure = "another program has it: choose another, or 0 for any that is free"
        raise PortForwardError(f"--port-forward-port {options.port_forward_port}: {error.strerror}; {cure}") from error
    forward.port = listener.sockets[0].getsockname()[1]
    try:
        yield forward
    finally:
        listener.close()
        await forward.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tunnel: Tunnel) -> None:
    from_pod, to_pod = await asyncio.open_connection(sock=tunnel.socket)
    up = asyncio.create_task(_pump(reader, to_pod))
    down = asyncio.create_task(_pump(from_pod, writer))
    try:
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        to_pod.close()
        with suppress(OSError):
            await to_pod.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
