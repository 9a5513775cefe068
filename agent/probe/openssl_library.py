"""What a file has to do with TLS: functions of OpenSSL or GnuTLS in it, or a library whose plaintext is not seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from flows.agent.probe.elf import Elf
from flows.agent.probe.openssl_inner import inner_function, past_landing_pad

READ_WRITE = (b"SSL_read", b"SSL_write")
RECEIVE_SEND = (b"gnutls_record_recv", b"gnutls_record_send")

# function: programs of bpf/openssl.c at its entry and at its return
PROBES: dict[bytes, tuple[str | None, str | None]] = {
    b"SSL_write": ("enter_call", "leave_write"),
    b"SSL_read": ("enter_call", "leave_read"),
    b"SSL_write_ex": ("enter_extended", "leave_write_extended"),
    b"SSL_read_ex": ("enter_extended", "leave_read_extended"),
    b"SSL_do_handshake": ("enter_handshake", "leave_handshake"),
    b"SSL_free": ("forget_session", None),
    b"SSL_clear": ("forget_session", None),
    b"ssl_read_internal": ("enter_extended", "leave_read_extended"),
    b"ssl_write_internal": ("enter_extended", "leave_write_extended"),
    # The same arguments in the same places (gnutls.h). Its sockets are known by what they send.
    b"gnutls_record_send": ("enter_call", "leave_write"),
    b"gnutls_record_send2": ("enter_call", "leave_write"),
    b"gnutls_record_recv": ("enter_call", "leave_read"),
    b"gnutls_handshake": ("enter_handshake", "leave_handshake"),
    b"gnutls_deinit": ("forget_session", None),
}
# Once or twice in a session's life, where the others come with each request: these stay where the others pause.
LASTING = frozenset({b"SSL_do_handshake", b"SSL_free", b"SSL_clear", b"gnutls_handshake", b"gnutls_deinit"})
# What both of two functions call with the arguments of the second: one probe in place of two, and cheaper (openssl_inner.py).
INNER = {
    b"ssl_read_internal": (b"SSL_read", b"SSL_read_ex"),
    b"ssl_write_internal": (b"SSL_write", b"SSL_write_ex"),
}
# What only goes on in the other, where there is one (lib/record.c, since 3.6.3).
SHELLS = {b"gnutls_record_send": b"gnutls_record_send2"}
FLAGGED_WRITE = b"SSL_write_ex2"  # since 3.3, whose ssl_write_internal() has one argument more


class Layout(Enum):
    """Offsets in struct ssl_st and struct bio_st by series: rbio, wbio, then of a BIO its method, num (the descriptor), next_bio.

    A series is told by a function that came with it, for a file rarely names its version. Sources: ssl/ssl_local.h and
    crypto/bio/bio_local.h of the releases. 3.2.4, 3.3.3 and 3.4.1 put a pointer before rbio: 0x50 was wbio until then and is
    rbio since, and both are the same BIO unless a program gave two descriptors.
    """

    UNKNOWN = None
    V1_1_1 = (0x10, 0x18, 0x00, 0x30, 0x40)
    V3_0 = (0x10, 0x18, 0x08, 0x38, 0x48)
    V3_2 = (0x50, 0x50, 0x08, 0x38, 0x48)

    @property
    def cookie(self) -> int:
        """As LAYOUT_* of bpf/openssl_socket.h takes it apart; 0: the socket is only known by what it sends."""
        if self.value is None:
            return 0
        rbio, wbio, method, number, following = (int(offset) for offset in self.value)
        return rbio | wbio << 16 | method << 32 | number << 40 | following << 48


SERIES = {
    b"SSL_new_stream": Layout.V3_2,
    b"SSL_CTX_new_ex": Layout.V3_0,
    b"SSL_CTX_set_ciphersuites": Layout.V1_1_1,
}  # newest first


@dataclass(frozen=True, slots=True)
class Library:
    """A file with functions of OpenSSL or GnuTLS: their offsets in it, and the layout of its structures where it is known."""

    functions: dict[bytes, int]
    layout: Layout

    @property
    def lasting(self) -> list[bytes]:
        """Functions that are attached to all the time."""
        return [name for name in self.functions if name in LASTING]

    @property
    def calls(self) -> list[bytes]:
        """Those that are called with each request: reading and writing."""
        return [name for name in self.functions if name not in LASTING]


@dataclass(frozen=True, slots=True)
class Unseen:
    """A file whose TLS is not seen in plaintext, and why."""

    reason: str


SEEN_LIBRARIES = ("libssl.so", "libgnutls.so")
# Library names that tell of another TLS implementation. NSS's libssl3.so is not OpenSSL's libssl.so.3.
OTHER_LIBRARIES = {
    "libssl3.so": Unseen("NSS is loaded: what it encrypts is not seen in plaintext"),
}
GO = Unseen("Go's crypto/tls: not seen in plaintext")


def is_seen(name: str) -> bool:
    """Whether a file is named as the shared library of OpenSSL or GnuTLS is."""
    return name in SEEN_LIBRARIES or name.startswith(tuple(f"{seen}." for seen in SEEN_LIBRARIES))


def other_library(name: str) -> Unseen | None:
    """What is not seen, of a file that is named as another TLS library is."""
    return next((unseen for start, unseen in OTHER_LIBRARIES.items() if name.startswith(start)), None)


def examine(descriptor: int) -> Library | Unseen | None:
    """What an open library or executable is; None: it has nothing to do with TLS that can be told. Raises ElfError, OSError."""
    elf = Elf(descriptor)
    found = elf.functions((*PROBES, *SERIES, FLAGGED_WRITE), READ_WRITE)
    if any(all(name in found for name in pair) for pair in (READ_WRITE, RECEIVE_SEND)):
        layout = next((layout for name, layout in SERIES.items() if name in found), Layout.UNKNOWN)
        return Library(_probed(elf, found, layout), layout)
    return GO if _is_go_with_tls(elf) else None


def _probed(elf: Elf, found: dict[bytes, int], layout: Layout) -> dict[bytes, int]:
    probed = {name: at for name, at in found.items() if name in PROBES and name not in INNER and SHELLS.get(name) not in found}
    for inner, outer in INNER.items() if layout is not Layout.UNKNOWN else ():
        if all(name in found for name in outer) and not (inner == b"ssl_write_internal" and FLAGGED_WRITE in found):
            offset = inner_function(elf, *(found[name] for name in outer))
            if offset is not None:
                probed = {inner: offset, **{name: at for name, at in probed.items() if name not in outer}}
    return {name: past_landing_pad(elf, offset) for name, offset in probed.items()}


def _is_go_with_tls(elf: Elf) -> bool:
    """Names of functions stay in a Go program's line table when its symbols are stripped."""
    if elf.section(b".go.buildinfo") is None and elf.section(b".note.go.buildid") is None:
        return False
    lines = elf.section(b".gopclntab") or elf.section(b".data.rel.ro.gopclntab")
    return lines is not None and elf.contains(lines, b"crypto/tls.(*Conn).Write")
