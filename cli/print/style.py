"""Style: the choices that change how a value looks, whatever the format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.cli.print.color import NO_COLOR, Palette

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.timestamp_pb2 import Timestamp


@dataclass(frozen=True, slots=True)
class Style:
    """How values look: timestamps as text, colours, and which details are shown.

    node_name: show the node. policy_names: name the policies of a verdict.
    names: show pods, services and DNS names instead of addresses.
    """

    time: Callable[[Timestamp | None], str]
    palette: Palette = NO_COLOR
    node_name: bool = False
    policy_names: bool = False
    names: bool = True
