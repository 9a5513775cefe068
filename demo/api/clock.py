"""Times as the Kubernetes API writes them (RFC 3339, whole seconds, `Z`)."""

from __future__ import annotations

from datetime import UTC, datetime


def now_text() -> str:
    """The present second, such as `2026-11-23T12:42:14Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: object) -> datetime | None:
    """The instant a timestamp names; None when it is absent or is not one."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
