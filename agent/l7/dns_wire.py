"""One DNS message, possibly cut, as its records (RFC 1035, 3596, 2782, 9460). For those who read, not for the hot path."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, DNAME, OPT, SVCB, HTTPS = 1, 2, 5, 6, 12, 15, 16, 28, 33, 39, 41, 64, 65
ANSWER, AUTHORITY, ADDITIONAL = 1, 2, 3  # sections
MOST_RECORDS: Final = 1_024  # of a message; the shortest takes 11 bytes, so what is kept of one has 22 at most
MOST_HEX: Final = 64  # bytes of data that are shown of types not known here
NAME: Final = 255
_HEADER, _FIXED, _SRV, _SOA = Struct(">6H"), Struct(">HHIH"), Struct(">3H"), Struct(">5I")
_SPECIAL: Final = frozenset(b'".();\\@$')  # escaped with a backslash, as dnspython does; the rest of RFC 1035, 5.1


class WireError(Exception):
    """The bytes are no name or record, or do not go on far enough. Never leaves this module."""


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record. name, names: absolute, escaped, as they were written; names: those that the data has.

    data: as in a master file; of TXT only the strings' lengths; of other types at most MOST_HEX bytes as in RFC 3597, 5.
    address: 4 or 16 bytes of A and AAAA, else empty.
    """

    section: int
    name: str
    type: int
    dns_class: int
    ttl: int
    data: str
    names: tuple[str, ...] = ()
    address: bytes = b""


@dataclass(frozen=True, slots=True)
class Message:
    """What is whole of a message. bits: the header's third and fourth byte; whole: nothing is missing; end: bytes read."""

    id: int = 0
    bits: int = 0
    name: str = ""
    qtype: int = 0
    qclass: int = 0
    records: tuple[Record, ...] = ()
    whole: bool = False
    end: int = 0

    @property
    def authoritative(self) -> bool:
        """The AA bit."""
        return bool(self.bits & 0x0400)

    @property
    def recursion_available(self) -> bool:
        """The RA bit."""
        return bool(self.bits & 0x0080)

    @property
    def rcode(self) -> int:
        """The header's response code, with the upper bits of the OPT record, if it is there (RFC 6891, 6.1.3)."""
        extended = next((record.ttl >> 24 for record in self.records if record.type == OPT), 0)
        return extended << 4 | self.bits & 15


def parse(message: bytes) -> Message:
    """Read a message of one question; never raises. A cut or broken one gives the records before that place."""
    if len(message) < _HEADER.size:
        return Message()
    number, bits, questions, *counts = _HEADER.unpack_from(message)
    if questions > 1:
        return Message(number, bits, end=_HEADER.size)
    name, qtype, qclass, at = "", 0, 0, _HEADER.size
    if questions:
        try:
            name, behind = read_name(message, at)
            qtype, qclass = _unpack(Struct(">2H"), message, behind)
            at = behind + 4
        except WireError:
            return Message(number, bits, end=at)
    records, whole, at = _records(message, at, counts)
    return Message(number, bits, name, qtype, qclass, records, whole, at)


def read_name(message: bytes, at: int) -> tuple[str, int]:
    """The name at an offset, absolute, and the offset behind it. Raises WireError.

    Pointers must lead back, each before the place where the last one led, so that none can be followed twice.
    """
    labels: list[str] = []
    size, behind, bound = 1, 0, at
    while True:
        if at >= len(message):
            raise WireError("a name goes on behind the end")
        length = message[at]
        if length >= 0xC0:
            if at + 1 >= len(message):
                raise WireError("a pointer goes on behind the end")
            behind = behind or at + 2
            at = (length & 0x3F) << 8 | message[at + 1]
            if at >= bound:
                raise WireError("a pointer does not lead back")
            bound = at
            continue
        if length > 63:
            raise WireError("a label of no known type")
        if not length:
            return "".join(labels) or ".", behind or at + 1
        size += length + 1
        if size > NAME or at + 1 + length > len(message):
            raise WireError("a name that is too long")
        labels.append(escape(message[at + 1 : at + 1 + length]) + ".")
        at += 1 + length


def names_are_read(rtype: int) -> bool:
    """Whether all names in the data of this type are in Record.names."""
    return rtype in _DATA or rtype == OPT


def escape(label: bytes) -> str:
    """A label or string as in a master file: dots and special characters with a backslash, what cannot be printed as `\\DDD`."""
    return "".join(
        f"\\{chr(byte)}" if byte in _SPECIAL else chr(byte) if 0x21 <= byte < 0x7F else f"\\{byte:03d}" for byte in label
    )


def _records(message: bytes, at: int, counts: list[int]) -> tuple[tuple[Record, ...], bool, int]:
    records: list[Record] = []
    for section, count in enumerate(counts, ANSWER):
        for _ in range(count):
            if len(records) == MOST_RECORDS:
                return tuple(records), False, at
            try:
                record, at = _record(message, at, section)
            except WireError:
                return tuple(records), False, at
            records.append(record)
    return tuple(records), True, at


def _record(message: bytes, at: int, section: int) -> tuple[Record, int]:
    name, at = read_name(message, at)
    rtype, dns_class, ttl, size = _unpack(_FIXED, message, at)
    start, end = at + _FIXED.size, at + _FIXED.size + size
    if end > len(message):
        raise WireError("data goes on behind the end")
    # Names in data may point back, so what reads them gets the message up to the data's end.
    data, names, address = _DATA.get(rtype, _other)(message[:end], start)
    return Record(section, name, rtype, dns_class, ttl, data, names, address), end


_Data = tuple[str, tuple[str, ...], bytes]


def _other(message: bytes, at: int) -> _Data:
    data = message[at:]
    more = "..." if len(data) > MOST_HEX else ""
    return f"\\# {len(data)} {data[:MOST_HEX].hex()}{more}".rstrip(), (), b""


def _a(message: bytes, at: int) -> _Data:
    address = message[at:]
    if len(address) != 4:
        raise WireError("an address of another size")
    return str(IPv4Address(address)), (), address


def _aaaa(message: bytes, at: int) -> _Data:
    address = message[at:]
    if len(address) != 16:
        raise WireError("an address of another size")
    return str(IPv6Address(address)), (), address


def _name(message: bytes, at: int) -> _Data:
    name, _ = read_name(message, at)
    return name, (name,), b""


def _mx(message: bytes, at: int) -> _Data:
    (preference,) = _unpack(Struct(">H"), message, at)
    name, _ = read_name(message, at + 2)
    return f"{preference} {name}", (name,), b""


def _srv(message: bytes, at: int) -> _Data:
    numbers = _unpack(_SRV, message, at)
    name, _ = read_name(message, at + _SRV.size)
    return f"{' '.join(map(str, numbers))} {name}", (name,), b""


def _soa(message: bytes, at: int) -> _Data:
    server, at = read_name(message, at)
    mailbox, at = read_name(message, at)
    numbers = _unpack(_SOA, message, at)
    return f"{server} {mailbox} {' '.join(map(str, numbers))}", (server, mailbox), b""


def _txt(message: bytes, at: int) -> _Data:
    """Lengths only: TXT records hold keys, tokens and whatever else somebody has put there."""
    sizes = []
    while at < len(message):
        sizes.append(f"({message[at]} bytes)")
        at += 1 + message[at]
    return " ".join(sizes), (), b""


def _svcb(message: bytes, at: int) -> _Data:
    (priority,) = _unpack(Struct(">H"), message, at)
    name, at = read_name(message, at + 2)
    parts = [str(priority), name]
    while at < len(message):
        key, size = _unpack(Struct(">2H"), message, at)
        value, at = message[at + 4 : at + 4 + size], at + 4 + size
        if at > len(message):
            raise WireError("a parameter goes on behind the end")
        parts.append(_parameter(key, value))
    return " ".join(parts), (name,), b""


def _parameter(key: int, value: bytes) -> str:
    """One SvcParam, RFC 9460, 14.3.2."""
    if key == 1:
        return f"alpn={','.join(_strings(value))}"
    if key == 3 and len(value) == 2:
        return f"port={int.from_bytes(value, 'big')}"
    for hint, name, size, show in ((4, "ipv4hint", 4, IPv4Address), (6, "ipv6hint", 16, IPv6Address)):
        if key == hint and not len(value) % size:
            return f"{name}={','.join(str(show(value[at : at + size])) for at in range(0, len(value), size))}"
    more = "..." if len(value) > MOST_HEX else ""
    return f"key{key}={value[:MOST_HEX].hex()}{more}"


def _strings(value: bytes) -> list[str]:
    strings = []
    while value:
        size = value[0] + 1
        strings.append(escape(value[1:size]))
        value = value[size:]
    return strings


def _unpack(struct: Struct, message: bytes, at: int) -> tuple[int, ...]:
    if at + struct.size > len(message):
        raise WireError("a field goes on behind the end")
    return struct.unpack_from(message, at)


_DATA: Final[dict[int, Callable[[bytes, int], _Data]]] = {
    A: _a, AAAA: _aaaa, CNAME: _name, DNAME: _name, NS: _name, PTR: _name, MX: _mx, SRV: _srv, SOA: _soa, TXT: _txt,
    SVCB: _svcb, HTTPS: _svcb,
}  # fmt: skip
