"""Kubernetes `Status` failures: one exception and one constructor per reason the API gives.

Texts, reasons and codes are those of a kube-apiserver 1.36 (`apimachinery/pkg/api/errors`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.demo.api.kinds import Kind

Json = dict[str, Any]
Cause = tuple[str, str, str]
"""(field path, reason such as `FieldValueInvalid`, message) of one thing wrong with an object."""

EXPIRED_CONTINUE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
    "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
    "modified, or deleted between the time the first chunk was returned and now may show up in the list."
)


class StatusError(Exception):
    """A request the API refuses; `body()` is the `Status` object that says why."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None, metadata: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.metadata = metadata or {}

    def body(self) -> Json:
        """The `Status` object, keys in the order of the real API."""
        status: Json = {"kind": "Status", "apiVersion": "v1", "metadata": self.metadata, "status": "Failure"}
        status["message"] = self.message
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status


def _details(kind: Kind, name: str, **more: object) -> Json:
    details: Json = {"name": name} if name else {}
    if kind.group:
        details["group"] = kind.group
    details["kind"] = kind.plural
    return details | more


def bad_request(message: str) -> StatusError:
    """400: the request cannot be understood."""
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """401: the credentials are not valid."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def not_found(kind: Kind, name: str) -> StatusError:
    """404: no such object."""
    return StatusError(404, "NotFound", f'{kind.qualified} "{name}" not found', _details(kind, name))


def unknown_resource() -> StatusError:
    """404: the group is known, the resource or subresource is not."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed() -> StatusError:
    """405: the resource exists and does not support the verb."""
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message, {})


def not_acceptable(accepted: str) -> StatusError:
    """406: none of the media types asked for can be produced."""
    message = f"only the following media types are accepted: {accepted}"
    return StatusError(406, "NotAcceptable", message)


def already_exists(kind: Kind, name: str) -> StatusError:
    """409: create of a name that is taken."""
    return StatusError(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, why: str) -> StatusError:
    """409: the object changed since the caller read it, or a precondition fails."""
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    return StatusError(409, "Conflict", message, _details(kind, name))


def modified(kind: Kind, name: str) -> StatusError:
    """409: `resourceVersion` given with an update is not the stored one."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(kind, name, why)


def expired(message: str, continue_token: str = "") -> StatusError:
    """410: the version asked for is no longer kept."""
    return StatusError(410, "Expired", message, metadata={"continue": continue_token} if continue_token else None)


def unsupported_media_type(accepted: Sequence[str]) -> StatusError:
    """415: the body's content type is not one the verb takes."""
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return StatusError(415, "UnsupportedMediaType", message)


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> StatusError:
    """422: the object is understood and breaks a rule; `causes` names each field and rule."""
    texts = [f"{field}: {text}" for field, _, text in causes]
    joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    listed = [{"reason": reason, "message": text, "field": field} for field, reason, text in causes]
    details: Json = {"name": name} if name else {}
    if kind.group:
        details["group"] = kind.group
    details |= {"kind": kind.kind, "causes": listed}
    target = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return StatusError(422, "Invalid", f'{target} "{name}" is invalid: {joined}', details)


def invalid_options(field: str, text: str) -> StatusError:
    """422: the query options contradict each other."""
    message = f'ListOptions.meta.k8s.io "" is invalid: {field}: {text}'
    causes = [{"reason": "FieldValueForbidden", "message": text, "field": field}]
    return StatusError(422, "Invalid", message, {"group": "meta.k8s.io", "kind": "ListOptions", "causes": causes})


def forbidden(kind: Kind, name: str, why: str) -> StatusError:
    """403: the act is refused by an admission rule."""
    subject = f'{kind.qualified} "{name}" is forbidden' if name else f"{kind.qualified} is forbidden"
    return StatusError(403, "Forbidden", f"{subject}: {why}", _details(kind, name))


def version_too_large(asked: int, current: int) -> StatusError:
    """504: the version asked for does not exist yet."""
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    details = {"causes": causes, "retryAfterSeconds": 1}
    return StatusError(504, "Timeout", f"Too large resource version: {asked}, current: {current}", details)


def internal(message: str) -> StatusError:
    """500: the server cannot do it, and says why."""
    return StatusError(500, "InternalError", message)
