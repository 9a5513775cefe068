"""The table of fields: one row per field of FlowFilter, in the order in which they are tested.

A row builds its field's condition from the field's values and the whole FlowFilter (for fields that depend
on others) and raises FilterError. Cheap tests (numbers) stand before dear ones (objects, text), as a clause
stops at its first condition that no row meets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flows.flow.filter import (
    address,
    cluster,
    enums,
    event_type,
    experimental,
    fqdn,
    http,
    identity,
    ids,
    interface,
    labels,
    limits,
    names,
    node,
    port,
    protocol,
    reply,
    tcp_flags,
    workload,
)
from flows.flow.filter.condition import Condition

if TYPE_CHECKING:
    from flows.proto.flow_pb2 import FlowFilter

Build = Callable[[Any, "FlowFilter"], Condition]


def _plain(build: Callable[..., Condition], *, field: str, **column: str) -> Build:
    """A field that depends on its own values only. No value is looked at before its size is."""

    def bounded(values: Any, _: FlowFilter) -> Condition:
        limits.check_values(field, values)
        return build(field, values, **column)

    return bounded


def _http(build: Callable[..., Condition], *, field: str) -> Build:
    """A field that only L7 events have: the event_type beside it must allow them."""

    def checked(values: Any, message: FlowFilter) -> Condition:
        limits.check_values(field, values)
        http.only_l7(field, message)
        return build(field, values)

    return checked


FIELDS: Mapping[str, Build] = {
    "verdict": _plain(enums.build, field="verdict", column="verdict"),
    "drop_reason_desc": _plain(enums.build, field="drop_reason_desc", column="drop_reason"),
    "traffic_direction": _plain(enums.build, field="traffic_direction", column="traffic_direction"),
    "ip_version": _plain(enums.build, field="ip_version", column="ip_version"),
    "event_type": _plain(event_type.build, field="event_type"),
    "reply": _plain(reply.build, field="reply"),
    "encrypted": _plain(enums.build, field="encrypted", column="encrypted"),
    "protocol": _plain(protocol.build, field="protocol"),
    "source_port": _plain(port.build, field="source_port", column="source_port"),
    "destination_port": _plain(port.build, field="destination_port", column="destination_port"),
    "tcp_flags": _plain(tcp_flags.build, field="tcp_flags"),
    "ip_trace_id": _plain(ids.build_ip_trace, field="ip_trace_id"),
    "source_ip": _plain(address.build, field="source_ip", column="source_ip"),
    "destination_ip": _plain(address.build, field="destination_ip", column="destination_ip"),
    "source_ip_xlated": _plain(address.build, field="source_ip_xlated", column="source_ip_xlated"),
    "source_identity": _plain(identity.build, field="source_identity", column="source"),
    "destination_identity": _plain(identity.build, field="destination_identity", column="destination"),
    "source_pod": _plain(names.build_pod, field="source_pod", column="source"),
    "destination_pod": _plain(names.build_pod, field="destination_pod", column="destination"),
    "source_service": _plain(names.build_service, field="source_service", column="source"),
    "destination_service": _plain(names.build_service, field="destination_service", column="destination"),
    "source_workload": _plain(workload.build, field="source_workload", column="source"),
    "destination_workload": _plain(workload.build, field="destination_workload", column="destination"),
    "source_cluster_name": _plain(cluster.build, field="source_cluster_name", column="source"),
    "destination_cluster_name": _plain(cluster.build, field="destination_cluster_name", column="destination"),
    "source_label": _plain(labels.build_endpoint, field="source_label", column="source"),
    "destination_label": _plain(labels.build_endpoint, field="destination_label", column="destination"),
    "node_name": _plain(node.build_name, field="node_name"),
    "node_labels": _plain(labels.build_node, field="node_labels"),
    "interface": _plain(interface.build, field="interface"),
    "source_fqdn": _plain(fqdn.build, field="source_fqdn", column="source_names"),
    "destination_fqdn": _plain(fqdn.build, field="destination_fqdn", column="destination_names"),
    "dns_query": _plain(fqdn.build_query, field="dns_query"),
    "http_status_code": _http(http.build_status, field="http_status_code"),
    "http_method": _http(http.build_method, field="http_method"),
    "http_path": _http(http.build_path, field="http_path"),
    "http_url": _http(http.build_url, field="http_url"),
    "http_header": _http(http.build_header, field="http_header"),
    "trace_id": _plain(ids.build_trace, field="trace_id"),
    "uuid": _plain(ids.build_uuid, field="uuid"),
    "experimental": _plain(experimental.build, field="experimental"),
}
