"""What a caller may see, and the contract of those who decide it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import grpc

    from flows.relay.access.credentials import Credentials


@dataclass(frozen=True, slots=True)
class Scope:
    """What a caller may see: flows with an end in one of these namespaces."""

    user: str  # as Kubernetes names it; "" for who gave no credentials where none are needed
    namespaces: frozenset[str] | None  # None: everything, also flows with no end in any namespace


EVERYTHING = Scope("", None)


UNNAMED: Final = "(unnamed node)"  # instead of the address that stands for a name that nobody told


def shown_name(name: str, namespaces: frozenset[str] | None, *, named: bool) -> str:
    """A node's name as a caller may see it: a limited one sees no address, which stands for the name of one that is not named."""
    return name if namespaces is None or named else UNNAMED


class Denied(Exception):  # noqa: N818 - what is done to the caller, in the field's word
    """A call is refused: UNAUTHENTICATED, PERMISSION_DENIED or UNAVAILABLE. The text is for the caller: why, and the cure."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Grant(Protocol):
    """The right of one call, which may shrink or end while the call's stream is open."""

    @property
    def scope(self) -> Scope:
        """As of the last check; only ever replaced by a smaller one."""

    async def revoked(self) -> Denied:
        """Keep checking; returns when the grant has ended. Awaited beside a stream's flows, and cancelled at their end."""


class Access(Protocol):
    """Decides who may see what."""

    async def admit(self, credentials: Credentials) -> Grant:
        """Decide about a new call. Raises Denied."""
