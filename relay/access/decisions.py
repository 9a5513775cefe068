"""Decisions about callers: who they are and what they may see, remembered briefly whichever way they went."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from flows.kube.errors import ApiError
from flows.relay.access import refusals
from flows.relay.access.cache import BusyError, Cache
from flows.relay.access.reviews import THREADS, Reviews, User
from flows.relay.access.scope import Denied, Scope
from flows.relay.access.times import DEFAULT, Times

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

log = logging.getLogger(__name__)

REMEMBERED: Final = 4_096
"""Tokens, and as many scopes: more people than look at one cluster within seconds; a kilobyte each, and strangers' rubbish
only pushes out other tokens, which costs those a review."""
CHECKED_AT_ONCE: Final = 256
"""Callers being checked; more means that somebody tries tokens, and must not fill the memory."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a caller claims to be: a token to be reviewed, or the user of a certificate that TLS has verified."""

    key: Hashable  # stands for the credentials; never the token itself
    token: str = field(default="", repr=False)
    name: str = ""  # the user name beside a token, which does not count
    user: User | None = None  # of a certificate
    expires: float = math.inf  # seconds since 1970


class Decisions:
    """Decides with the Kubernetes API. For one event loop."""

    def __init__(self, reviews: Reviews, times: Times = DEFAULT) -> None:
        """times: how long decisions count."""
        self._reviews, self._times = reviews, times
        self._users: Cache[User | Denied] = Cache(REMEMBERED, CHECKED_AT_ONCE)
        self._scopes: Cache[Scope | Denied] = Cache(REMEMBERED, CHECKED_AT_ONCE)
        self._namespaces: Cache[frozenset[str]] = Cache(1, 1)
        self._failing = False

    async def admit(self, claim: Claim) -> Scope:
        """What a new call may see, cluster-wide or by namespaces. Raises Denied."""
        return await self._decide(claim, None, self._times.allowed, urgent=False)

    async def check(self, claim: Claim, held: Scope) -> Scope:
        """What of a scope that an open stream holds it may still see: held itself or less. Raises Denied if nothing."""
        return await self._decide(claim, held.namespaces, self._times.shared, urgent=True)

    async def _decide(self, claim: Claim, among: frozenset[str] | None, max_age: float, *, urgent: bool) -> Scope:
        """among: the namespaces to ask about; None: all, and cluster-wide first."""
        try:
            user = _outcome(await self._users.get(claim.key, max_age, partial(self._ask_user, claim), urgent=urgent))
            ask = partial(self._ask_scope, user, among)
            key = (claim.key, user.name, user.groups, among)
            scope = await self._scopes.get(key, max_age, ask, urgent=urgent)
        except BusyError:
            raise refusals.unchecked("too many callers are being checked at once") from None
        except ApiError as error:
            self._note_failure(error)
            raise refusals.unchecked(str(error)) from error
        self._note_success()
        return _outcome(scope)

    async def _ask_user(self, claim: Claim) -> tuple[User | Denied, float]:
        left = max(claim.expires - time.time(), 0.0)
        if claim.user is not None:
            refusal = None if left else refusals.bad_certificate("it has expired since the connection was made")
            return refusal or claim.user, min(self._times.allowed, left)
        found = await self._reviews.user(claim.token)
        if isinstance(found, str):
            return refusals.bad_token(claim.name, found), self._times.denied
        return found, min(self._times.allowed, left)

    async def _ask_scope(self, user: User, among: frozenset[str] | None) -> tuple[Scope | Denied, float]:
        if among is None:
            if await self._reviews.allowed(user, ""):
                return Scope(user.name, None), self._times.allowed
            among = await self._namespaces.get("", self._times.namespaces, self._ask_namespaces)
        allowed = await self._allowed_in(user, among)
        if not allowed:
            return refusals.not_granted(user.name), self._times.denied
        return Scope(user.name, allowed), self._times.allowed

    async def _ask_namespaces(self) -> tuple[frozenset[str], float]:
        return await self._reviews.namespaces(), self._times.namespaces

    async def _allowed_in(self, user: User, namespaces: Iterable[str]) -> frozenset[str]:
        waiting, allowed = iter(sorted(namespaces)), set[str]()

        async def ask() -> None:
            for namespace in waiting:
                if await self._reviews.allowed(user, namespace):
                    allowed.add(namespace)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(THREADS):  # more at once would only keep other callers' reviews waiting
                    group.create_task(ask())
        except ExceptionGroup as errors:  # the first that failed has ended the others: no part of an answer is one
            raise errors.exceptions[0] from None
        return frozenset(allowed)

    def _note_failure(self, error: ApiError) -> None:
        if not self._failing:
            log.warning("access cannot be checked, new calls are refused and streams go on for a while: %s", error)
        self._failing = True

    def _note_success(self) -> None:
        if self._failing:
            log.info("access can be checked again")
        self._failing = False


def _outcome(answer: Answer | Denied) -> Answer:
    """An answer, or the refusal that was remembered in its place, raised anew: one exception object is not for many calls."""
    if isinstance(answer, Denied):
        raise Denied(answer.code, str(answer))
    return answer
