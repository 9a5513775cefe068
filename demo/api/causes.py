"""Causes of a 422: a field and the rule it breaks (`apimachinery/pkg/util/validation/field`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flows.demo.api.errors import Cause


def required(path: str, text: str = "") -> Cause:
    """A field that must have a value."""
    return path, "FieldValueRequired", f"Required value: {text}" if text else "Required value"


def invalid(path: str, value: object, text: str) -> Cause:
    """A value that breaks a rule; the text says which."""
    shown = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return path, "FieldValueInvalid", f"Invalid value: {shown}: {text}"


def unsupported(path: str, value: object, allowed: Iterable[str]) -> Cause:
    """A value that is none of those allowed."""
    listed = ", ".join(f'"{text}"' for text in allowed)
    return path, "FieldValueNotSupported", f"Unsupported value: {json.dumps(value)}: supported values: {listed}"


def forbidden(path: str, text: str) -> Cause:
    """A value where there may be none."""
    return path, "FieldValueForbidden", f"Forbidden: {text}"


def immutable(path: str, value: object) -> Cause:
    """A change of what may not change."""
    return invalid(path, value, "field is immutable")
