"""What all Kubernetes API answers share, as msgspec structs of only the fields needed; all else is skipped unread.

Field names and forms: https://kubernetes.io/docs/reference/kubernetes-api/. Go writes absent lists and maps
as null in places (a BOOKMARK's spec.containers), so each field here may be null or missing.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Wire(msgspec.Struct, rename="camel", gc=False):
    """Base of what is decoded from the API."""


class ObjectMeta(Wire):
    """metadata of an object, as far as everybody needs it."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None


class ListMeta(Wire):
    """metadata of a list; continue_token is empty on the last page."""

    resource_version: str = ""
    continue_token: str | None = msgspec.field(default=None, name="continue")


class StatusDetails(Wire):
    """details of a Status."""

    retry_after_seconds: int | None = None


class Status(Wire):
    """The API's error object; also what an ERROR watch event carries."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: StatusDetails | None = None

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before asking again, if it says."""
        seconds = self.details.retry_after_seconds if self.details else None
        return float(seconds) if seconds else None


class WatchLine(Wire):
    """One line of a watch."""

    type: str = ""
    object: msgspec.Raw = msgspec.Raw(b"null")


class Annotations(Wire):
    """The one annotation that the protocol of watches has."""

    initial_events_end: str | None = msgspec.field(default=None, name="k8s.io/initial-events-end")


class BookmarkMeta(Wire):
    """metadata of a BOOKMARK event's object; the rest of that object is empty."""

    resource_version: str = ""
    annotations: Annotations | None = None


class Bookmark(Wire):
    """A BOOKMARK event's object."""

    metadata: BookmarkMeta


BOOKMARK: Final = msgspec.json.Decoder(Bookmark)
STATUS: Final = msgspec.json.Decoder(Status)
WATCH_LINE: Final = msgspec.json.Decoder(WatchLine)


def decode_status(data: bytes) -> Status:
    """Read an error body; what is not a Status (a proxy's page) gives an empty one."""
    try:
        return STATUS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Status()
