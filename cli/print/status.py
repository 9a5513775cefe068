"""Server status: the answer to `flows status` in each format, in Hubble's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.print.dicts import record
from flows.cli.print.escape import escape
from flows.cli.print.table import table

if TYPE_CHECKING:
    from flows.cli.print.cells import Cell
    from flows.proto.observer_pb2 import ServerStatusResponse

# As wide as NUM CONNECTED NODES.
STATUS_WIDTH = 19
_MAX_INT64 = (1 << 63) - 1


def status_compact(status: ServerStatusResponse) -> str:
    """The lines for people: how full the store is, the rate, and the nodes if the server knows of nodes."""
    fill = f"{status.num_flows:,}/{status.max_flows:,}{_ratio(status)}"
    lines = [f"Current/Max Flows: {fill}", f"Flows/s: {_rate(status)}"]
    connected, unavailable = status.num_connected_nodes.value, status.num_unavailable_nodes.value
    if status.HasField("num_connected_nodes"):
        total = f"/{connected + unavailable}" if status.HasField("num_unavailable_nodes") else ""
        lines.append(f"Connected Nodes: {connected}{total}")
    if unavailable:
        lines += [f"Unavailable Nodes: {unavailable}", *_unavailable(status)]
    return "\n".join(lines) + "\n"


def status_dict(status: ServerStatusResponse) -> str:
    """One line per value."""
    cells = [(_DICT_NAMES.get(column, column), value) for column, value in _cells(status)]
    return record(cells, STATUS_WIDTH)


def status_table(status: ServerStatusResponse) -> str:
    """A header and one row."""
    columns, values = zip(*_cells(status), strict=True)
    return table(columns, [values])


def duration(nanoseconds: int) -> str:
    """A duration as Go's Duration.String writes it: `1h2m3.5s`, `1.5ms`; beyond int64 in ns, as Hubble."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds > _MAX_INT64:
        return f"{nanoseconds}ns"
    for unit, size in (("ns", 1), ("µs", 1000), ("ms", 1_000_000)):
        if nanoseconds < size * 1000:
            return _decimal(nanoseconds, size) + unit
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest, 1_000_000_000) + "s"
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    digits = f"{rest:0{len(str(size)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


_DICT_NAMES = {"NUM UNAVAILABLE NODES": "NUM UNAVAIL. NODES"}


def _cells(status: ServerStatusResponse) -> list[Cell]:
    connected = status.num_connected_nodes.value if status.HasField("num_connected_nodes") else "N/A"
    unavailable = status.num_unavailable_nodes.value if status.HasField("num_unavailable_nodes") else "N/A"
    return [
        ("NUM FLOWS", f"{status.num_flows:,}"),
        ("MAX FLOWS", f"{status.max_flows:,}"),
        ("SEEN FLOWS", f"{status.seen_flows:,}"),
        ("FLOWS PER SECOND", f"{status.flows_rate:.2f}" if status.flows_rate > 0 else "N/A"),
        ("UPTIME", duration(status.uptime_ns)),
        ("NUM CONNECTED NODES", str(connected)),
        ("NUM UNAVAILABLE NODES", str(unavailable)),
        ("VERSION", escape(status.version)),
    ]


def _ratio(status: ServerStatusResponse) -> str:
    return f" ({status.num_flows / status.max_flows * 100:.2f}%)" if status.max_flows else ""


def _rate(status: ServerStatusResponse) -> str:
    if status.flows_rate > 0:
        return f"{status.flows_rate:.2f}"
    # Servers before Hubble 1.15 do not tell the rate.
    return f"{status.seen_flows / (status.uptime_ns / 1e9):.2f}" if status.uptime_ns else "N/A"


def _unavailable(status: ServerStatusResponse) -> list[str]:
    names = sorted(status.unavailable_nodes)
    more = status.num_unavailable_nodes.value - len(names)
    if names and more > 0:
        names.append(f"and {more} more...")
    return [f"  - {escape(name)}" for name in names]
