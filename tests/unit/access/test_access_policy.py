"""Which access goes with which listener, over real gRPC servers: one for this machine, one for everybody else."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from flows.relay.access import AccessError, Accesses, Credentials, Denied, accesses, credentials
from flows.relay.access.credentials import AUTHORIZATION_LIMIT
from flows.relay.access.kubernetes import KubernetesAccess
from flows.relay.access.policy import Certified, Open

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from access_cluster import Cluster, CountingApi

    from flows.relay.access.scope import Access

    Metadata = Sequence[tuple[str, str]]

REMOTE = ["0.0.0.0:4245"]


@pytest.mark.parametrize(
    ("kubernetes", "certificates", "unauthenticated", "kind"),
    [
        (True, False, False, KubernetesAccess),
        (True, True, False, KubernetesAccess),
        (False, True, False, Certified),
        (True, True, True, Open),
        (False, False, True, Open),
    ],
)
def test_access_off_this_machine(
    api: CountingApi, *, kubernetes: bool, certificates: bool, unauthenticated: bool, kind: type
) -> None:
    given = api if kubernetes else None
    made = accesses(given, REMOTE, client_certificates=certificates, allow_unauthenticated=unauthenticated)
    assert (type(made.sockets), type(made.remote)) == (Open, kind)
    made.close()


@pytest.mark.parametrize(
    ("kubernetes", "unauthenticated", "kind"), [(True, False, KubernetesAccess), (True, True, Open), (False, False, Open)]
)
def test_access_on_loopback(api: CountingApi, *, kubernetes: bool, unauthenticated: bool, kind: type) -> None:
    made = accesses(api if kubernetes else None, [], allow_unauthenticated=unauthenticated)
    assert (type(made.sockets), type(made.loopback)) == (Open, kind)
    made.close()


def test_listener_that_knows_nobody_is_refused_at_start() -> None:
    with pytest.raises(AccessError, match=r"0\.0\.0\.0:4245.*--kubeconfig.*--tls-client-ca-file.*--allow-unauthenticated"):
        accesses(None, REMOTE)


async def test_without_remote_listeners_nothing_is_needed_and_remote_is_closed() -> None:
    made = accesses(None, [])
    assert (await made.sockets.admit(Credentials())).scope.namespaces is None
    with pytest.raises(Denied):
        await made.remote.admit(Credentials())


# Over the wire


class Who:
    """A service that says what its caller may see."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def am(self, _request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        try:
            grant = await self._access.admit(credentials(context))
        except Denied as denied:
            await context.abort(denied.code, str(denied))
        names = grant.scope.namespaces
        return f"{grant.scope.user}|{'everything' if names is None else ','.join(sorted(names))}".encode()


async def start(access: Access, address: str, tls: grpc.ServerCredentials | None = None) -> tuple[grpc.aio.Server, str]:
    server = grpc.aio.server(options=[("grpc.max_metadata_size", 1 << 16), ("grpc.absolute_max_metadata_size", 1 << 16)])
    behavior: Any = Who(access).am  # the types know synchronous ones only
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Am": grpc.unary_unary_rpc_method_handler(behavior)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Who", handlers),))
    port = server.add_secure_port(address, tls) if tls else server.add_insecure_port(address)
    await server.start()
    return server, address.replace(":0", f":{port}")


async def ask(channel: grpc.aio.Channel, metadata: Metadata = ()) -> str:
    async with channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/Who/Am")
        return (await method(b"", metadata=tuple(metadata), timeout=10)).decode()


async def refused(channel: grpc.aio.Channel, metadata: Metadata = ()) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(channel, metadata)
    return caught.value.code(), caught.value.details() or ""


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
async def made(api: CountingApi) -> AsyncIterator[Accesses]:
    both = accesses(api, REMOTE)
    yield both
    both.close()


@pytest.fixture
async def local(made: Accesses, tmp_path: Path) -> AsyncIterator[str]:
    server, address = await start(made.sockets, f"unix://{tmp_path}/s")
    yield address
    await server.stop(0)


@pytest.fixture
async def remote(made: Accesses) -> AsyncIterator[str]:
    server, address = await start(made.remote, "127.0.0.1:0")
    yield address
    await server.stop(0)


async def test_local_listener_shows_everything_without_credentials(local: str) -> None:
    assert await ask(grpc.aio.insecure_channel(local)) == "|everything"


async def test_credentials_given_to_a_local_listener_limit_the_view(cluster: Cluster, local: str) -> None:
    cluster.bind("a:viewer", "a")
    token = cluster.token("viewer", "a")
    login = base64.b64encode(f"x:{token}".encode()).decode()
    expected = "system:serviceaccount:a:viewer|a"
    assert await ask(grpc.aio.insecure_channel(local), bearer(token)) == expected
    assert await ask(grpc.aio.insecure_channel(local), (("authorization", f"Basic {login}"),)) == expected
    code, _ = await refused(grpc.aio.insecure_channel(local), bearer("rubbish"))
    assert code == grpc.StatusCode.UNAUTHENTICATED


async def test_without_kubernetes_a_local_listener_does_not_look_at_tokens(tmp_path: Path) -> None:
    server, address = await start(accesses(None, []).sockets, f"unix://{tmp_path}/s")
    assert await ask(grpc.aio.insecure_channel(address), bearer("any")) == "|everything"
    await server.stop(0)


async def test_loopback_peer_of_a_remote_listener_is_not_trusted(remote: str) -> None:
    code, text = await refused(grpc.aio.insecure_channel(remote))
    assert code == grpc.StatusCode.UNAUTHENTICATED
    assert "flows observe --kubeconfig" in text
    assert "--basic-auth-username" in text


async def test_login_as_the_hubble_command_line_does_it(cluster: Cluster, remote: str) -> None:
    cluster.bind("a:viewer")
    login = base64.b64encode(f"x:{cluster.token('viewer', 'a')}".encode()).decode()
    answer = await ask(grpc.aio.insecure_channel(remote), (("authorization", f"Basic {login}"),))
    assert answer == "system:serviceaccount:a:viewer|everything"


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ((("authorization", "Bearer a"), ("authorization", "Bearer b")), "expected one, got 2"),
        ((("authorization", ""),), "Bearer TOKEN"),
        ((("authorization", "   "),), "Bearer TOKEN"),
        ((("authorization", "Bearer " + "x" * AUTHORIZATION_LIMIT),), f"at most {AUTHORIZATION_LIMIT}"),
    ],
)
async def test_doubtful_metadata_is_refused_by_every_listener(remote: str, local: str, metadata: Metadata, says: str) -> None:
    for address in (remote, local):
        code, text = await refused(grpc.aio.insecure_channel(address), metadata)
        assert (code, says in text) == (grpc.StatusCode.UNAUTHENTICATED, True)


async def test_refusals_of_the_hostile_stay_small(remote: str) -> None:
    login = base64.b64encode(("\x1b[31m" + "n" * 10_000 + ":" + "t" * 5_000).encode()).decode()
    _, text = await refused(grpc.aio.insecure_channel(remote), (("authorization", f"Basic {login}"),))
    assert len(text) < 1_000
    assert text.isprintable()


# Client certificates


def server_tls(cluster: Cluster) -> grpc.ServerCredentials:
    context_files = cluster.pki.directory / "apiserver.key", cluster.pki.directory / "apiserver.crt"
    key, certificate = (path.read_bytes() for path in context_files)
    return grpc.ssl_server_credentials([(key, certificate)], cluster.pki.ca_pem, require_client_auth=True)


def channel(cluster: Cluster, address: str, user: str, groups: Sequence[str] = ()) -> grpc.aio.Channel:
    certificate, key = cluster.pki.client_certificate(user, groups)
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(cluster.pki.ca_pem, key, certificate))


async def test_certificate_of_the_connection_is_the_user(cluster: Cluster, made: Accesses) -> None:
    cluster.bind("jane", "b")
    cluster.bind_role("flows-viewer", {"kind": "Group", "name": "ops"}, "c")
    server, address = await start(made.remote, "127.0.0.1:0", server_tls(cluster))
    assert await ask(channel(cluster, address, "jane", ["dev", "ops"])) == "jane|b,c"
    code, text = await refused(channel(cluster, address, "joe"))
    assert (code, 'user "joe"' in text) == (grpc.StatusCode.PERMISSION_DENIED, True)
    cluster.bind("a:viewer", "a")
    answer = await ask(channel(cluster, address, "jane"), bearer(cluster.token("viewer", "a")))
    assert answer == "system:serviceaccount:a:viewer|a"
    await server.stop(0)


async def test_without_kubernetes_a_certificate_shows_everything(cluster: Cluster) -> None:
    access = accesses(None, REMOTE, client_certificates=True).remote
    server, address = await start(access, "127.0.0.1:0", server_tls(cluster))
    assert await ask(channel(cluster, address, "jane")) == "|everything"
    await server.stop(0)
    server, address = await start(access, "127.0.0.1:0")
    assert (await refused(grpc.aio.insecure_channel(address)))[0] == grpc.StatusCode.UNAUTHENTICATED
    await server.stop(0)


async def test_a_grant_for_everything_does_not_end(made: Accesses) -> None:
    grant = await made.sockets.admit(Credentials())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await grant.revoked()
