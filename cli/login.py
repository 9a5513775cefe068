"""Login: what the caller shows the server to say who it is: a Kubernetes token, a password, or a certificate."""

from __future__ import annotations

import base64
import logging
import os
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.options import UsageError
from flows.wire.addresses import is_local

if TYPE_CHECKING:
    from flows.cli.options import ServerOptions
    from flows.cli.servers import Server

# What gRPC can carry in metadata, and every token is made of.
_TOKEN = re.compile(r"[\x21-\x7e]+")
# What an empty login lacks.
NOTHING_GIVEN = "give a token: --kubeconfig FILE has the one of that user, --token-file FILE holds one"


@dataclass(frozen=True, slots=True)
class Login:
    """authorization: the metadata of that name. certificate: files of certificate and key. lacks: the cure if they do not do."""

    authorization: str = field(default="", repr=False)
    certificate: tuple[str, str] | None = None
    lacks: str = NOTHING_GIVEN


def wants_kubeconfig(options: ServerOptions) -> bool:
    """Whether the kubeconfig's user is to be shown to the server."""
    named = options.kubeconfig or options.kube_context or options.port_forward
    return bool(named) and not (options.token_file or options.basic_auth_username)


def check_privacy(server: Server, options: ServerOptions) -> None:
    """Raises UsageError if a token would be read, or taken, by others on its way to the server."""
    flag = "--token-file" if options.token_file else "--kubeconfig" if wants_kubeconfig(options) else ""
    if not flag or options.port_forward or server.unix_path or is_local(server.host_port):
        return
    if not server.tls:
        cure = f"use --tls (or --server tls://{server.host_port}), or -P to go through the Kubernetes API"
        raise UsageError(f"{flag}: the token would go to {server} unencrypted: {cure}")
    if options.tls_allow_insecure:
        cure = "leave --tls-allow-insecure out and name the authority with --tls-ca-cert-files"
        raise UsageError(f"{flag}: the token would go to {server}, whose certificate nobody checks: {cure}")


class Caller:
    """Who we are, by what the options name. Everything blocks: files are read and plugins run. Safe for several threads."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._configuration: Any = None

    def login(self, *, fresh: bool = False) -> Login:
        """What to show the server now. fresh: what was shown before is no longer accepted. Raises UsageError."""
        options = self._options
        if options.basic_auth_username:
            pair = f"{options.basic_auth_username}:{options.basic_auth_password}".encode()
            return Login(f"Basic {base64.b64encode(pair).decode()}", lacks="the user name or password is not right")
        if options.token_file:
            lacks = f"--token-file {options.token_file} holds no token that it accepts"
            return Login(f"Bearer {_token_of(options.token_file)}", lacks=lacks)
        return _of(self.configuration(fresh=fresh)) if wants_kubeconfig(options) else Login()

    def configuration(self, *, fresh: bool = False) -> Any:
        """The kubernetes.client.Configuration of the kubeconfig: one, for a plugin may ask the person. Raises UsageError."""
        with self._lock:
            if fresh or self._configuration is None:
                self._configuration = _configuration(self._options)
            return self._configuration


def _configuration(options: ServerOptions) -> Any:
    try:
        from flows.kube.client import load_configuration  # noqa: PLC0415 - a quarter of a second
        from flows.kube.errors import ConfigurationError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UsageError(f"--kubeconfig and -P need the Kubernetes client ({error}): pip install 'flows[cli]'") from error
    # As kubectl finds it.
    file = options.kubeconfig or os.environ.get("KUBECONFIG", "") or str(Path("~/.kube/config").expanduser())
    said = _Said()
    logging.getLogger().addHandler(said)
    try:
        configuration = load_configuration(file, options.kube_context or None)
    except ConfigurationError as error:
        raise UsageError(f"--kubeconfig: {error}") from error
    finally:
        logging.getLogger().removeHandler(said)
    if said.errors:  # of a plugin; the client goes on without credentials
        raise UsageError(f"--kubeconfig {file}: the user's credentials cannot be had: {'; '.join(said.errors)}")
    return configuration


class _Said(logging.Handler):
    """Keeps what the Kubernetes client has to say of credentials, which it says to nobody else."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append(" ".join(record.getMessage().split()))


def _of(configuration: Any) -> Login:
    """Of the kubeconfig's user; the client runs a plugin again by itself when its token has expired."""
    settings = configuration.auth_settings().get("BearerToken", {})
    scheme, _, token = str(settings.get("value") or "").partition(" ")
    if scheme == "Bearer" and token.strip():
        return Login(f"Bearer {_checked(token, '--kubeconfig')}", lacks="the server does not accept the kubeconfig user's token")
    how = "create one with `kubectl create token SERVICEACCOUNT` and give it with --token-file FILE"
    if configuration.cert_file and configuration.key_file:
        pair = (configuration.cert_file, configuration.key_file)
        return Login("", pair, f"the kubeconfig's user has a client certificate, but a token is needed: {how}")
    return Login("", lacks=f"the kubeconfig's user has no token: {how}")


def _token_of(path: str) -> str:
    try:
        return _checked(Path(path).read_text(encoding="utf-8"), f"--token-file {path}")
    except OSError as error:
        raise UsageError(f"--token-file {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UsageError(f"--token-file {path}: expected a token, which is ASCII text") from None


def _checked(text: str, source: str) -> str:
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        raise UsageError(f"{source}: expected one token, of ASCII characters without blanks")
    return token
