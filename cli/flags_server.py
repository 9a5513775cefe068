"""Rules over the flags that say how to reach a server: from settings to ServerOptions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flows.cli.options import ServerOptions, UsageError
from flows.cli.servers import parse_server
from flows.flow.filter.errors import FilterError

if TYPE_CHECKING:
    from flows.cli.flags_settings import Settings

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


def server_options(settings: Settings) -> ServerOptions:
    """Hubble's rules: certificate and key, user and password come in pairs; both pairs need TLS. Raises UsageError."""
    address, forwards = _single(settings), _forwards(settings)
    tls = settings.get("tls") or address.startswith("tls://")
    _check_pairs(settings, tls=tls)
    _check_logins(settings)
    return ServerOptions(
        address="" if forwards else address,
        timeout_s=settings.get("timeout"),
        request_timeout_s=settings.get("request-timeout"),
        tls=tls,
        tls_allow_insecure=settings.get("tls-allow-insecure"),
        tls_ca_cert_files=settings.get("tls-ca-cert-files"),
        tls_client_cert_file=settings.get("tls-client-cert-file"),
        tls_client_key_file=settings.get("tls-client-key-file"),
        tls_server_name=settings.get("tls-server-name"),
        basic_auth_username=settings.get("basic-auth-username"),
        basic_auth_password=settings.get("basic-auth-password"),
        token_file=settings.get("token-file"),
        kubeconfig=settings.get("kubeconfig"),
        kube_context=settings.get("kube-context"),
        kube_namespace=_namespace(settings),
        port_forward=forwards,
        port_forward_port=settings.get("port-forward-port"),
        debug=settings.get("debug"),
    )


def _single(settings: Settings) -> str:
    """The one address that is named, checked; "" if none is."""
    given, address = settings.given.get("server", ()), settings.get("server")
    if len(given) > 1 or "," in address:
        addresses = ",".join(given) if len(given) > 1 else address
        cure = f"run `flows relay --peers {addresses}` and ask that"
        raise UsageError(FilterError("server", addresses, f"expected one server; {cure}").describe(settings.source("server")))
    return _checked(settings, address) if address else ""


def _forwards(settings: Settings) -> bool:
    """Whether the server is the cluster's relay (-P); a server on the command line outdoes a variable that says so."""
    asked: bool = settings.get("port-forward")
    if asked and "server" in settings.given:
        if "port-forward" in settings.given:
            raise UsageError("cannot set both --server and --port-forward: -P finds the cluster's relay by itself")
        return False
    if asked and "port-forward" in settings.given and settings.get("input-file"):
        raise UsageError("cannot set both --input-file and --port-forward")
    return asked


def _check_pairs(settings: Settings, *, tls: bool) -> None:
    for one, other in (("tls-client-cert-file", "tls-client-key-file"), ("basic-auth-username", "basic-auth-password")):
        given = [name for name in (one, other) if settings.get(name)]
        if len(given) == 1:
            raise UsageError(f"{settings.source(given[0])}: --{one} and --{other} must be given together")
        if given and not tls:
            address = settings.get("server") or "HOST:PORT"
            raise UsageError(f"{settings.source(one)}: needs TLS: add --tls or use --server tls://{address}")


def _check_logins(settings: Settings) -> None:
    if settings.get("basic-auth-username") and settings.get("token-file"):
        raise UsageError("cannot set both --basic-auth-username and --token-file: one of them says who you are")


def _namespace(settings: Settings) -> str:
    name: str = settings.get("kube-namespace")
    if not _DNS_LABEL.fullmatch(name):
        error = FilterError("kube-namespace", name, "expected the name of a namespace, e.g. kube-system")
        raise UsageError(error.describe(settings.source("kube-namespace")))
    return name


def _checked(settings: Settings, address: str) -> str:
    try:
        parse_server(address)
    except FilterError as error:
        raise UsageError(error.describe(settings.source("server"))) from None
    return address
