"""The texts of refusals: what was asked for, why not, and the cure. Never a token."""

from __future__ import annotations

import json
import re
import shlex

import grpc

from flows.relay.access.scope import Denied

VERB, GROUP, RESOURCE = "get", "flows.dev", "flows"
VIEWER_ROLE = "flows-viewer"  # the ClusterRole of docs/access.md

SHOWN = 200  # characters of foreign text; names of users are shorter, and the status of a call must stay small
CAUSE = 500  # of an error of the API server
SHOWN_NAME = 40  # of the user name beside a token: tokens are longer, and some people swap the two

HOW = (
    "`flows observe --kubeconfig FILE` takes it from there; with the hubble command line: "
    '--tls --basic-auth-username x --basic-auth-password "$(kubectl create token SERVICEACCOUNT)"'
)
_SERVICE_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9.-]+):([a-z0-9.-]+)")


def shown(text: str, limit: int = SHOWN) -> str:
    """Foreign text in double quotes, of printable ASCII only, cut to limit characters."""
    return json.dumps(text if len(text) <= limit else text[: limit - 3] + "...")


def no_credentials() -> Denied:
    """Nothing was given where something is needed."""
    return _unauthenticated(f"flows are shown to users of Kubernetes only: give a token; {HOW}")


def malformed(expected: str) -> Denied:
    """The authorization metadata cannot be read; nothing of it is repeated, for it may be a token."""
    return _unauthenticated(f"authorization metadata: expected {expected}; {HOW}")


def bad_token(name: str, error: str) -> Denied:
    """Kubernetes does not know the token. name: the user name beside it, "" if none; error: what Kubernetes says."""
    beside = f" (the user name beside it, {shown(name)}, does not count)" if name and len(name) <= SHOWN_NAME else ""
    cause = f": {shown(error)}" if error else ""
    return _unauthenticated(f"Kubernetes does not accept the token{beside}{cause}; give one that is valid; {HOW}")


def bad_certificate(cause: str) -> Denied:
    """A client certificate that names nobody, or no longer does."""
    return _unauthenticated(f"client certificate: {cause}; connect again with another, or give a token: {HOW}")


def no_certificate() -> Denied:
    """Only certificates count, and none was shown."""
    return _unauthenticated("a client certificate is needed: --tls-client-cert-file and --tls-client-key-file")


def not_granted(user: str) -> Denied:
    """Kubernetes knows the user, who may see no flows."""
    account = _SERVICE_ACCOUNT.fullmatch(user)
    if account:
        whom, where = f"--serviceaccount={account[1]}:{account[2]}", account[1]
    else:
        whom, where = f"--user={shlex.quote(user) if user.isascii() and user.isprintable() else 'USER'}", "NAMESPACE"
    return Denied(
        grpc.StatusCode.PERMISSION_DENIED,
        f'user {shown(user)} may not {VERB} resource "{RESOURCE}" in API group "{GROUP}", neither cluster-wide nor in any '
        f"namespace: grant it in a namespace, e.g. kubectl create rolebinding {VIEWER_ROLE} --clusterrole={VIEWER_ROLE} "
        f"{whom[:SHOWN]} -n {where}, or cluster-wide with kubectl create clusterrolebinding; docs/access.md has this ClusterRole",
    )


def unchecked(cause: str) -> Denied:
    """Kubernetes could not be asked."""
    return Denied(
        grpc.StatusCode.UNAVAILABLE,
        f"cannot ask Kubernetes who may see flows: {shown(cause, CAUSE)}; try again; if it stays, see whether the API server "
        "answers (kubectl get --raw /readyz) and the relay may create tokenreviews and subjectaccessreviews and list namespaces",
    )


def unchecked_for(seconds: float, last: Denied) -> Denied:
    """A stream ends because its grant could not be checked for too long. last: the refusal of the last attempt."""
    return Denied(last.code, f"the right to see flows could not be checked for {seconds:.0f} s, so the stream ends: {last}")


def _unauthenticated(text: str) -> Denied:
    return Denied(grpc.StatusCode.UNAUTHENTICATED, text)
