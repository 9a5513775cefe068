"""Which access goes with which listener.

What a call's peer address says is no ground for trust: a port-forward and a proxy on the node come from 127.0.0.1, too.
So trust belongs to the listener, and each kind of listeners is served by a server of its own. Where Kubernetes can be asked,
only unix sockets are trusted without credentials: whoever may port-forward to the relay's pod reaches its loopback address,
and so does everybody in the pod's network namespace, which with hostNetwork is the whole node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.relay.access import refusals
from flows.relay.access.grant import FreeGrant
from flows.relay.access.kubernetes import KubernetesAccess
from flows.relay.access.scope import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.relay.access.credentials import Credentials
    from flows.relay.access.reviews import AccessApi
    from flows.relay.access.scope import Access, Grant


class AccessError(Exception):
    """A listener off this machine would be open to everybody; the text says what to give."""


class Open:
    """Everybody sees everything; but who gives a token is shown what that token may see, if Kubernetes can be asked."""

    def __init__(self, checked: Access | None = None) -> None:
        """checked: for who gives a token."""
        self._checked = checked

    async def admit(self, credentials: Credentials) -> Grant:
        """Decide by the token, if any. A certificate does not limit: the connection may need it, whoever asks. Raises Denied."""
        if credentials.authorization and self._checked is not None:
            return await self._checked.admit(credentials)
        return FreeGrant(EVERYTHING)


class Certified:
    """Without Kubernetes: who shows a certificate, which TLS has verified, sees everything."""

    async def admit(self, credentials: Credentials) -> Grant:
        """Raises Denied without a certificate."""
        if not credentials.certificate:
            raise refusals.no_certificate()
        return FreeGrant(EVERYTHING)


@dataclass(frozen=True, slots=True)
class Accesses:
    """One access for each kind of listener."""

    sockets: Access  # unix sockets
    loopback: Access  # TCP addresses on loopback
    remote: Access  # all others
    kubernetes: KubernetesAccess | None

    def close(self) -> None:
        """Ask Kubernetes nothing more."""
        if self.kubernetes is not None:
            self.kubernetes.close()


def accesses(
    api: AccessApi | None, remote: Sequence[str], *, client_certificates: bool = False, allow_unauthenticated: bool = False
) -> Accesses:
    """Choose by what there is to know callers by.

    api: None without Kubernetes. remote: addresses of listeners that others than this machine can reach.
    client_certificates: whether those ask for one (--tls-client-ca-file). Raises AccessError.
    """
    kubernetes = KubernetesAccess(api) if api is not None else None
    open_to_all = Open(kubernetes)
    if allow_unauthenticated:
        return Accesses(open_to_all, open_to_all, open_to_all, kubernetes)
    if remote and kubernetes is None and not client_certificates:
        raise AccessError(
            f"listening on {', '.join(remote)}: callers could not be told apart; give --kubeconfig (or run in a pod) to check "
            "them with Kubernetes, or --tls-client-ca-file to take only clients with certificates, or say --allow-unauthenticated"
        )
    return Accesses(open_to_all, kubernetes or open_to_all, kubernetes or Certified(), kubernetes)
