"""ClusterIPs, address families and node ports of a Service, given as `pkg/registry/core/service` gives them."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.demo.api.addresses import ServiceAddresses
    from flows.demo.api.errors import Cause

Json = dict[str, Any]
NODE_PORTS = range(30000, 32768)
_NODE_PORT_RANGE = f"The range of valid ports is {NODE_PORTS[0]}-{NODE_PORTS[-1]}"


def assign_addresses(service: Json, addresses: ServiceAddresses, old: Json | None) -> list[Cause]:
    """Fill in clusterIP(s), ipFamilies and ipFamilyPolicy of a Service; the old one's are kept. Returns causes."""
    spec = service["spec"]
    if spec["type"] == "ExternalName":
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(field, None)
        return []
    before: Json = (old or {}).get("spec", {})
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if not spec.get(field) and before.get(field):
            spec[field] = before[field]
    causes = _families(spec, addresses)
    return causes or _cluster_ips(service, addresses, before.get("clusterIPs") or [])


def _families(spec: Json, addresses: ServiceAddresses) -> list[Cause]:
    given = list(spec.get("ipFamilies") or [])
    for position, family in enumerate(given):
        if family not in {"IPv4", "IPv6"}:
            text = f'Unsupported value: "{family}": supported values: "IPv4", "IPv6"'
            return [(f"spec.ipFamilies[{position}]", "FieldValueNotSupported", text)]
        if family not in addresses.families:
            text = f'Invalid value: "{family}": not configured on this cluster'
            return [(f"spec.ipFamilies[{position}]", "FieldValueInvalid", text)]
    if not given:
        given = _families_of_ips(spec) or addresses.families[:1]
    free_headless = spec.get("clusterIP") == "None" and not spec.get("selector")
    policy = spec.setdefault("ipFamilyPolicy", "RequireDualStack" if free_headless else "SingleStack")
    if policy not in {"SingleStack", "PreferDualStack", "RequireDualStack"}:
        text = f'Unsupported value: "{policy}": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"'
        return [("spec.ipFamilyPolicy", "FieldValueNotSupported", text)]
    if policy == "SingleStack" and len(given) > 1:
        text = 'Invalid value: "SingleStack": must be RequireDualStack or PreferDualStack when multiple ipFamilies are specified'
        return [("spec.ipFamilyPolicy", "FieldValueInvalid", text)]
    if policy != "SingleStack":
        given += [family for family in addresses.families if family not in given]
    spec["ipFamilies"] = given
    return []


def _families_of_ips(spec: Json) -> list[str]:
    listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
    texts = [text for text in listed if text and text != "None"]
    return [f"IPv{ipaddress.ip_address(text).version}" for text in texts if _parses(text)]


def _parses(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _cluster_ips(service: Json, addresses: ServiceAddresses, mine: list[str]) -> list[Cause]:
    spec, metadata = service["spec"], service["metadata"]
    if spec.get("clusterIP") == "None" or (spec.get("clusterIPs") or [""])[0] == "None":
        spec |= {"clusterIP": "None", "clusterIPs": ["None"]}
        return []
    chosen = list(spec.get("clusterIPs") or [spec.get("clusterIP") or ""])
    if spec.get("clusterIP") and spec["clusterIP"] != chosen[0]:
        text = f'Invalid value: "{spec["clusterIP"]}": first value must match `clusterIP`'
        return [("spec.clusterIPs[0]", "FieldValueInvalid", text)]
    for position, family in enumerate(spec["ipFamilies"]):
        if position >= len(chosen) or not chosen[position]:
            owner = f"{metadata.get('namespace')}/{metadata['name']}"
            chosen[position : position + 1] = [addresses.choose(family, owner)]
        elif cause := _given_address(chosen[position], family, addresses, mine):
            return [cause]
    spec["clusterIPs"] = chosen[: len(spec["ipFamilies"])]
    spec["clusterIP"] = chosen[0]
    return []


def _given_address(text: str, family: str, addresses: ServiceAddresses, mine: list[str]) -> Cause | None:
    if not _parses(text):
        why = f'Invalid value: "{text}": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
        return ("spec.clusterIPs[0]", "FieldValueInvalid", why)
    if not addresses.inside(text) or f"IPv{ipaddress.ip_address(text).version}" != family:
        why = (
            f'Invalid value: ["{text}"]: failed to allocate IP {text}: the provided IP ({text}) is not in the valid '
            f"range. The range of valid IPs is {addresses.networks[family]}"
        )
        return ("spec.clusterIPs", "FieldValueInvalid", why)
    if text not in mine and not addresses.free(text):
        why = f'Invalid value: ["{text}"]: failed to allocate IP {text}: provided IP is already allocated'
        return ("spec.clusterIPs", "FieldValueInvalid", why)
    return None


def assign_node_ports(service: Json, addresses: ServiceAddresses, old: Json | None) -> list[Cause]:
    """Give each port of a NodePort or LoadBalancer Service its node port; the old Service's are kept."""
    spec = service["spec"]
    if spec["type"] not in {"NodePort", "LoadBalancer"}:
        return []
    before = {
        (port.get("port"), port.get("protocol")): port.get("nodePort") for port in (old or {}).get("spec", {}).get("ports", ())
    }
    taken = addresses.node_ports - {number for number in before.values() if number}
    for position, port in enumerate(spec.get("ports", ())):
        number = port.get("nodePort") or before.get((port.get("port"), port.get("protocol")))
        number = number or next((free for free in NODE_PORTS if free not in taken), 0)
        if number not in NODE_PORTS:
            text = f"Invalid value: {number}: provided port is not in the valid range. {_NODE_PORT_RANGE}"
            return [(f"spec.ports[{position}].nodePort", "FieldValueInvalid", text)]
        if number in taken:
            text = f"Invalid value: {number}: provided port is already allocated"
            return [(f"spec.ports[{position}].nodePort", "FieldValueInvalid", text)]
        port["nodePort"] = number
        taken.add(number)
    return []
