"""Dialer: channels to agents, with or without TLS, and why one cannot be had."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import grpc.aio

from flows.wire.addresses import is_local, target
from flows.wire.diagnosis import Flags, diagnose
from flows.wire.limits import client_options
from flows.wire.tls import SERVER_NAME, ClientTls, server_name

if TYPE_CHECKING:
    from flows.relay.discovery.found import Found

FLAGS: Final = Flags(ca="--peer-tls-ca-file", cert="--peer-tls-cert-file and --peer-tls-key-file", name="--peer-tls-server-name")


class Dialer:
    """How this relay reaches agents. tls: None for plain text; agents of this machine are spoken to in plain text anyway."""

    def __init__(self, tls: ClientTls | None = None, pattern: str = SERVER_NAME, cluster: str = "default") -> None:
        self._tls, self._pattern, self._cluster = tls, pattern, cluster
        self._options = client_options("flows-relay")

    def secure(self, found: Found, address: str) -> bool:
        """Whether TLS is spoken with an agent there. What a discovery says never turns it off."""
        return self._tls is not None and (found.tls or not is_local(address))

    def server_name(self, found: Found) -> str:
        """What the agent's certificate must be for; "": the host that it is reached at."""
        if found.server_name or not found.name:
            return found.server_name
        cluster, _, node = found.name.rpartition("/")
        return server_name(self._pattern, node, cluster or self._cluster)

    def channel(self, found: Found, address: str) -> grpc.aio.Channel:
        """A new channel, not connected yet. Raises TlsError."""
        if self._tls is None or not self.secure(found, address):
            return grpc.aio.insecure_channel(target(address), self._options)
        name = self.server_name(found)
        options = [*self._options, ("grpc.ssl_target_name_override", name)] if name else self._options
        return grpc.aio.secure_channel(target(address), self._tls.credentials(), options)

    async def diagnose(self, found: Found, address: str) -> str:
        """Why an agent cannot be connected to; "" if nothing is wrong with its address and its certificate."""
        files = self._tls.files if self._tls is not None and self.secure(found, address) else None
        return await asyncio.to_thread(diagnose, address, files, self.server_name(found), FLAGS)
