"""Access by Kubernetes RBAC: TokenReview says who a caller is, SubjectAccessReview what they may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flows.relay.access import refusals
from flows.relay.access.certificate import holder
from flows.relay.access.credentials import login
from flows.relay.access.decisions import Claim, Decisions
from flows.relay.access.grant import CheckedGrant
from flows.relay.access.reviews import AccessApi, Reviews, User
from flows.relay.access.times import DEFAULT, Times
from flows.relay.access.tokens import digest, expiry

if TYPE_CHECKING:
    from flows.relay.access.credentials import Credentials
    from flows.relay.access.scope import Grant

AUTHENTICATED: Final = "system:authenticated"
"""The group of everybody whom kube-apiserver knows; a TokenReview lists it, a certificate does not."""


class KubernetesAccess:
    """Lets callers see what RBAC allows them. Fails closed: no answer of Kubernetes, no new call. For one event loop."""

    def __init__(self, api: AccessApi, times: Times = DEFAULT) -> None:
        """api: stays the caller's to close."""
        self._times = times
        self._reviews = Reviews(api, times.review)
        self._decisions = Decisions(self._reviews, times)

    async def admit(self, credentials: Credentials) -> Grant:
        """Decide by the token, or if there is none by the client certificate. Raises Denied."""
        claim = claim_of(credentials)
        scope = await self._decisions.admit(claim)
        return CheckedGrant(claim, scope, self._decisions, self._times)

    def close(self) -> None:
        """Ask nothing more."""
        self._reviews.close()


def claim_of(credentials: Credentials) -> Claim:
    """Who the caller claims to be. Raises Denied UNAUTHENTICATED.

    A token goes before a certificate: the certificate of a proxy (Hubble UI) is the proxy's, the token that it hands on is
    the person's.
    """
    if credentials.authorization:
        given = login(credentials.authorization)
        return Claim(digest(given.token), given.token, given.name, expires=expiry(given.token))
    if not credentials.certificate:
        raise refusals.no_credentials()
    return _certified(credentials.certificate)


def _certified(pem: bytes) -> Claim:
    try:
        found = holder(pem)
    except ValueError as error:
        raise refusals.bad_certificate(f"it cannot be read: {refusals.shown(str(error))}") from error
    if not found.user:
        raise refusals.bad_certificate("its subject has no common name (CN), which would name the user")
    user = User(found.user, groups=(*found.groups, AUTHENTICATED))
    return Claim((user.name, user.groups, found.expires), user=user, expires=found.expires)
