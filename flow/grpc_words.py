"""Names of gRPC status codes (grpc/doc/statuscodes.md)."""

from __future__ import annotations

STATUS = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


def status_name(code: int) -> str:
    """The name of a grpc-status; its number if there is none."""
    return STATUS[code] if 0 <= code < len(STATUS) else str(code)


def service_and_method(path: str) -> tuple[str, str]:
    """`/pkg.Service/Method` in its two parts (gRPC over HTTP2: Path); service empty where the path is not of that form."""
    service, slash, method = path.removeprefix("/").rpartition("/")
    return (service, method) if slash and path.startswith("/") else ("", path)
