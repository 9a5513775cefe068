"""The Kubernetes client: configuration, credentials and transport. The agent's one module that imports it.

Bodies are handed on as bytes: the client's model classes cost milliseconds and kilobytes per pod.
"""

from __future__ import annotations

import ipaddress
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import kubernetes.config
import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject

from flows.agent.enrich.addresses import parse_address
from flows.agent.enrich.kube_source import KubernetesSource
from flows.agent.enrich.kube_watch import WATCH_SECONDS, ApiError, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0  # of silence within a list; a watch is silent for long, and TCP keepalive tells a dead one
CONNECTIONS: Final = 8  # one per watched resource
ERROR_BODY: Final = 16384


class ConfigurationError(Exception):
    """No usable configuration of a Kubernetes API was found."""


def load_configuration(kubeconfig: str | None = None, context: str | None = None) -> Configuration:
    """Read a kubeconfig if one is named, else what a pod is given (service account and environment).

    Raises ConfigurationError.
    """
    configuration = Configuration()
    config: Any = kubernetes.config  # untyped
    try:
        if kubeconfig or context:
            config.load_kube_config(kubeconfig, context, client_configuration=configuration, persist_config=False)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except Exception as error:  # the client raises its own, OSError, yaml, KeyError and TypeError for a bad file
        where = kubeconfig or (f"context {context}" if context else "the pod's service account")
        raise ConfigurationError(
            f"Kubernetes configuration from {where}: {error}; name a kubeconfig that kubectl accepts, "
            "or run as a pod with a service account"
        ) from error
    configuration.retries = False  # failures are counted, shown and backed off from in one place: kube_watch
    configuration.keep_alive = True
    configuration.connection_pool_maxsize = CONNECTIONS
    return configuration


def connect(node_name: str, kubeconfig: str | None = None, context: str | None = None) -> KubernetesSource:
    """Make the source of this cluster's names; nothing is sent before its start(). Raises
    ConfigurationError.
    """
    return KubernetesSource(ClientTransport(kubeconfig, context), node_name)


class ClientTransport:
    """GET requests with the official client's transport and credentials; safe for use by several threads."""

    def __init__(self, kubeconfig: str | None = None, context: str | None = None) -> None:
        self._source = (kubeconfig, context)
        self._lock = threading.Lock()
        self._open: set[urllib3.BaseHTTPResponse] = set()
        self._closed = False
        self._configuration = load_configuration(kubeconfig, context)
        self._rest: Any = RESTClientObject(self._configuration)

    def read(self, path: str, query: dict[str, str], accept: str) -> bytes:
        """GET a whole body. Raises ApiError."""
        return b"".join(self._body(self._get(path, query, accept, READ_SECONDS), path))

    def stream(self, path: str, query: dict[str, str], accept: str) -> Iterator[bytes]:
        """GET a body as it arrives; returns when the server has accepted. Raises ApiError, also while
        iterating.
        """
        return self._body(self._get(path, query, accept, WATCH_SECONDS[1] + READ_SECONDS), path)

    def address(self) -> bytes | None:
        """The API server's address, 16 bytes, if the URL has one: a name is not looked up.

        A loopback address (kind, k3s, a tunnel) is where everything else on this node listens, too: None.
        """
        try:
            address = ipaddress.ip_address(urlsplit(self._configuration.host).hostname or "")
        except ValueError:
            return None
        return None if address.is_loopback else parse_address(str(address))

    def close(self) -> None:
        """End all requests under way and refuse new ones."""
        self._closed = True
        with self._lock:
            under_way = list(self._open)
        for response in under_way:
            with suppress(Exception):
                response.shutdown()

    def _get(self, path: str, query: dict[str, str], accept: str, silence: float) -> urllib3.BaseHTTPResponse:
        if self._closed:
            raise ApiError(0, f"GET {path}: the source was stopped")
        url = f"{self._configuration.host}{path}?{urlencode(query)}"
        try:
            headers = {"Accept": accept, "User-Agent": "flows-agent", **self._authorization()}
            answer = self._rest.request("GET", url, headers=headers, _request_timeout=(CONNECT_SECONDS, silence))
        except Exception as error:  # the client and credential plugins raise all sorts; each means: no answer
            raise ApiError(0, f"GET {path} of {self._configuration.host}: {_reason(error)}") from error
        response: urllib3.BaseHTTPResponse = answer.response
        if response.status != 200:
            raise self._refused(response, path)
        return response

    def _body(self, response: urllib3.BaseHTTPResponse, path: str) -> Iterator[bytes]:
        with self._lock:
            self._open.add(response)
        try:
            # read1() and not stream(): it gives what has arrived, for chunked and for plain bodies.
            while not self._closed and (piece := response.read1(1 << 16)):
                yield piece
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ApiError(0, f"GET {path}: {_reason(error)}") from error
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()  # a body read to its end has given its connection back to the pool before

    def _authorization(self) -> dict[str, str]:
        """The hook of the client reads the token again when it is due (projected tokens live an hour)."""
        with self._lock:
            settings: dict[str, Any] = dict(self._configuration.auth_settings())
        return {one["key"]: one["value"] for one in settings.values() if one["value"]}

    def _refused(self, response: urllib3.BaseHTTPResponse, path: str) -> ApiError:
        with suppress(urllib3.exceptions.HTTPError, OSError):
            body = response.read(ERROR_BODY)
            response.close()
            if response.status == 401:
                self._reload()
            return error_of(response.status, body, path)
        return error_of(response.status, b"", path)

    def _reload(self) -> None:
        """Read the configuration again: a kubeconfig's token file, a rotated certificate, a new exec
        credential.
        """
        with suppress(ConfigurationError), self._lock:
            self._configuration = load_configuration(*self._source)
            self._rest = RESTClientObject(self._configuration)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
