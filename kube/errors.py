"""What can go wrong between us and an API server."""

from __future__ import annotations

from flows.kube.wire import decode_status


class ConfigurationError(Exception):
    """No usable configuration of a Kubernetes API was found."""


class ApiError(Exception):
    """A request failed. code is the HTTP status, 0 when no answer came; retry_after: seconds to wait, if the server says."""

    def __init__(self, code: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


def error_of(code: int, body: bytes, request: str, retry_after: float | None = None) -> ApiError:
    """Make the error of an answer that refuses, with what to do about the usual ones. request: `GET /api/v1/pods`."""
    status = decode_status(body)
    message = status.message or f"HTTP status {code}"
    verb = request.partition(" ")[0]
    right = "create" if verb == "POST" else "list and watch"
    cure = {
        401: "; the token is refused: check the ServiceAccount or the kubeconfig's user",
        403: f"; grant {right} on it to this ServiceAccount (the chart's ClusterRole does)",
    }.get(code, "")
    return ApiError(code, f"{request}: {message}{cure}", status.retry_after if retry_after is None else retry_after)
