"""What is compiled at once: a source of bpf/, its maps and programs, and the kernel offsets that it uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.agent.probe.bpf import AttachType, ProgramType
    from flows.agent.probe.btf import Kind


@dataclass(frozen=True, slots=True)
class Source:
    """One compilation.

    Programs by name: program type, attach type, kind and name of the BTF type that a tracing program is typed by.
    """

    name: str
    maps: tuple[str, ...]
    programs: dict[str, tuple[ProgramType, AttachType, Kind | None, str]]
    offsets: dict[str, tuple[str, str]]
