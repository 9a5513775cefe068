"""source_ip, destination_ip, source_ip_xlated: an address, or a network in CIDR notation."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import ip_network
from typing import TYPE_CHECKING

from flows.flow.columns import AddressRanges
from flows.flow.filter.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.columns import Network
    from flows.flow.filter.condition import Condition

EXPECTED = "expected an IP address (10.0.0.7, fd00::7) or a network in CIDR notation (10.0.0.0/16, fd00::/64)"
_LIMITS = {4: 32, 6: 128}


def build(field: str, values: Sequence[str], column: str) -> Condition:
    """The address is one of those, or inside one of the networks; Hubble compares text, we values."""
    networks = [parse(field, value) for value in values]

    ranges = AddressRanges(networks)
    return lambda table: table.addresses(column).within_any(ranges)


def parse(field: str, value: str) -> Network:
    """An address is a network of one. Host bits of a network may be set, as in Hubble. Raises FilterError."""
    address, slash, length = value.partition("/")
    if "%" not in value and (not slash or re.fullmatch(r"0|[1-9][0-9]{0,2}", length)):
        with suppress(ValueError):
            return ip_network(value, strict=False)
    raise FilterError(field, value, f"{_fault(address, length)}; {EXPECTED}", _nearest(address, length))


def _fault(address: str, length: str) -> str:
    if _is_address(address):
        longest = _LIMITS[6 if ":" in address else 4]
        return f"the prefix length {length} is not from 0 to {longest}"
    if "." in address and (large := [part for part in re.findall(r"[0-9]+", address) if int(part[:9]) > 255]):
        return f"the IPv4 field {large[0]} is above 255"
    return "not an IP address"


def _nearest(address: str, length: str) -> str:
    """What was probably meant, if it can be told: fields and lengths brought into range, zeros taken off."""
    if ":" not in address:
        parts = [part for part in re.split(r"[.,]", address) if part.isdecimal() and part.isascii()]
        if len(parts) != 4:
            return ""
        address = ".".join(str(min(int(part[:9]), 255)) for part in parts)
    address = address.partition("%")[0]
    if not _is_address(address):
        return ""
    if not length.isdecimal() or not length.isascii():
        return address
    return f"{address}/{min(int(length[:9]), _LIMITS[6 if ':' in address else 4])}"


def _is_address(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return "/" not in text
