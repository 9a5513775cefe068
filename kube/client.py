"""The Kubernetes client: configuration, credentials and transport. The one module that imports it.

Bodies are handed on as bytes: the client's model classes cost milliseconds and kilobytes per pod. Importing this module
costs 18 MB and a quarter of a second, so programs that may do without import it when they need it.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import kubernetes.config
import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject

from flows.kube.backoff import spread
from flows.kube.errors import ApiError, ConfigurationError, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0  # of silence within an answer
PATIENCE_SECONDS: Final = 5.0  # for a POST that the server wants later: somebody waits for the answer
CONNECTIONS: Final = 8  # kept open; one per watched resource of an agent
ERROR_BODY: Final = 16384
PIECE: Final = 1 << 16  # of a body, at most
LATER: Final = (429, 503, 504)  # with a Retry-After, nothing has been done and the same request may be sent again


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
    configuration.retries = False  # failures are counted, shown and backed off from in one place: watch.py
    configuration.keep_alive = True
    configuration.connection_pool_maxsize = CONNECTIONS
    return configuration


class ApiClient:
    """Requests with the official client's transport and credentials. Blocking; safe for use by several threads.

    kubeconfig, context: as load_configuration() takes them. program: what to call ourselves (User-Agent). Raises
    ConfigurationError; every request raises ApiError.
    """

    def __init__(self, kubeconfig: str | None = None, context: str | None = None, program: str = "flows") -> None:
        self._source = (kubeconfig, context)
        self._program = program
        self._lock = threading.Lock()
        self._open: set[urllib3.BaseHTTPResponse] = set()
        self._closing = threading.Event()
        self._use(load_configuration(kubeconfig, context))

    def read(self, path: str, query: dict[str, str], accept: str = "application/json") -> bytes:
        """GET a whole body."""
        request = f"GET {path}"
        response = self._request("GET", f"{path}?{urlencode(query)}", {"Accept": accept}, None, READ_SECONDS)
        return b"".join(self._body(response, request))

    def stream(
        self, path: str, query: dict[str, str], accept: str = "application/json", silence: float = READ_SECONDS
    ) -> Iterator[bytes]:
        """GET a body as it arrives; returns when the server has accepted. Raises ApiError while iterating, too.

        silence: seconds without a piece after which it is given up.
        """
        response = self._request("GET", f"{path}?{urlencode(query)}", {"Accept": accept}, None, silence)
        return self._body(response, f"GET {path}")

    def post(self, path: str, body: bytes) -> bytes:
        """POST a JSON object; gives the JSON that the server makes of it (status 200 or 201).

        A server that is too busy and says for how long is asked again, for PATIENCE_SECONDS at most.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._post(path, body)
            except ApiError as error:
                if error.code not in LATER or error.retry_after is None:
                    raise
                pause = spread(error.retry_after)
                if time.monotonic() + pause > deadline or self._closing.wait(pause):
                    raise

    def _post(self, path: str, body: bytes) -> bytes:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        # The client's transport writes JSON bodies itself: given bytes, it fails.
        response = self._request("POST", path, headers, json.loads(body), READ_SECONDS)
        return b"".join(self._body(response, f"POST {path}"))

    def address(self) -> str | None:
        """The API server's IP address if the URL has one: a name is not looked up.

        A loopback address (kind, k3s, a tunnel) is where everything else on this node listens, too: None.
        """
        host = urlsplit(self._configuration.host).hostname or ""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return None
        return None if address.is_loopback else str(address)

    def close(self) -> None:
        """End all requests under way and refuse new ones."""
        self._closing.set()
        with self._lock:
            under_way = list(self._open)
        for response in under_way:
            with suppress(Exception):
                response.shutdown()

    def _request(self, verb: str, target: str, headers: dict[str, str], body: object, silence: float) -> urllib3.BaseHTTPResponse:
        request = f"{verb} {target.partition('?')[0]}"
        if self._closing.is_set():
            raise ApiError(0, f"{request}: the client was closed")
        host = self._configuration.host
        try:
            rest, authorization = self._credentials()
            everything = {**headers, "User-Agent": self._program, **authorization}
            answer = rest.request(
                verb, f"{host}{target}", headers=everything, body=body, _request_timeout=(CONNECT_SECONDS, silence)
            )
        except Exception as error:  # the client and credential plugins raise all sorts; each means: no answer
            if _about_tls(error):
                self._reload()
            raise ApiError(0, f"{request} of {host}: {_reason(error)}") from error
        response: urllib3.BaseHTTPResponse = answer.response
        if response.status not in (200, 201):
            raise self._refused(response, request)
        return response

    def _body(self, response: urllib3.BaseHTTPResponse, request: str) -> Iterator[bytes]:
        with self._lock:
            self._open.add(response)
        try:
            # read1() and not stream(): it gives what has arrived, for chunked and for plain bodies.
            while not self._closing.is_set() and (piece := response.read1(PIECE)):
                yield piece
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ApiError(0, f"{request}: {_reason(error)}") from error
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()  # a body read to its end has given its connection back to the pool before

    def _credentials(self) -> tuple[Any, dict[str, str]]:
        """The transport and the headers to use now.

        The client's hook reads a pod's token again every minute (projected tokens live an hour) and runs a credential
        plugin again before its token ends. It does not look at certificates: those are ours to notice.
        """
        with self._lock:
            settings: dict[str, Any] = dict(self._configuration.auth_settings())
            changed = self._files != self._stamps()
        if changed:
            self._reload()
        with self._lock:
            if changed:
                settings = dict(self._configuration.auth_settings())
            return self._rest, {one["key"]: one["value"] for one in settings.values() if one["value"]}

    def _use(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._rest: Any = RESTClientObject(configuration)
        self._files = self._stamps()

    def _stamps(self) -> list[tuple[str, int, int]]:
        """Name, inode and time of change of each file that says who we are, and whom to trust."""
        configuration = self._configuration
        paths = (self._source[0], configuration.cert_file, configuration.key_file, configuration.ssl_ca_cert)
        return [_stamp(str(path)) for path in paths if path]

    def _refused(self, response: urllib3.BaseHTTPResponse, request: str) -> ApiError:
        if response.status == 401:
            self._reload()
        later = _seconds(response.headers.get("Retry-After"))
        with suppress(urllib3.exceptions.HTTPError, OSError):
            body = response.read(ERROR_BODY)
            response.close()
            return error_of(response.status, body, request, later)
        return error_of(response.status, b"", request, later)

    def _reload(self) -> None:
        """Read the configuration again: a kubeconfig's token file, a rotated certificate, a new exec
        credential.
        """
        with suppress(ConfigurationError), self._lock:
            self._use(load_configuration(*self._source))


def _stamp(path: str) -> tuple[str, int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return path, 0, 0
    return path, found.st_ino, found.st_mtime_ns


def _seconds(header: str | None) -> float | None:
    """Read a Retry-After: seconds, or a date (RFC 9110, 10.2.3); None for anything else."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header[:9])
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    return None


def _about_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
