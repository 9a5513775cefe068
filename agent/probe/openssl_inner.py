"""Where a probe costs least: x86-64 single-steps most of the instructions that a breakpoint replaces.

That takes 1 us, and 4 us in a virtual machine. A push is done by the kernel itself instead (arch/x86/kernel/uprobes.c,
push_setup_xol_ops). SSL_read() of most builds does not begin with one; the local function that does its work does:
ssl_read_internal(). Elsewhere nothing is found, and nothing changes.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.agent.probe.elf import Elf

X86_64 = 62  # EM_X86_64
BODY = 80  # bytes of the short outer functions in which the call is
LANDING_PAD = b"\xf3\x0f\x1e\xfa"  # endbr64: changes nothing, so a probe behind it is as good, for returns as well
PUSH = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?\x41?[\x50-\x57]", re.DOTALL)
CALLS = (0xE8, 0xE9)  # call and, at a function's end, jmp; the distance follows in four bytes


def inner_function(elf: Elf, one: int, other: int) -> int | None:
    """File offset of the one function beginning with a push that the two at these offsets both call. Raises OSError."""
    if elf.machine != X86_64:
        return None
    shared = [target for target in _called(elf, one) & _called(elf, other) if PUSH.match(elf.code(target, 6))]
    return shared[0] if len(shared) == 1 else None


def _called(elf: Elf, offset: int) -> set[int]:
    """What may be calls: bytes are not decoded, but two functions do not share a target by chance."""
    body = elf.code(offset, BODY)
    distances = ((at + 5, *struct.unpack_from("<i", body, at + 1)) for at in range(len(body) - 5) if body[at] in CALLS)
    return {offset + end + distance for end, distance in distances}


def past_landing_pad(elf: Elf, offset: int) -> int:
    """Where to put a probe that is meant for a function's first instruction. Raises OSError."""
    skipped = elf.machine == X86_64 and elf.code(offset, len(LANDING_PAD)) == LANDING_PAD
    return offset + len(LANDING_PAD) if skipped else offset
