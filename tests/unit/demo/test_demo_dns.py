"""DNS records from Services, EndpointSlices and Pods."""

from __future__ import annotations

from demo_objects import endpoint_slice, pod, service

from flows.demo.node import dns

PORTS = [{"name": "http", "port": 80}]


def test_service_has_an_address_of_each_family() -> None:
    text = dns.records([service("svc-b", ["10.96.0.20", "fd00:10:96::20"], PORTS)], [], [])
    assert text == "10.96.0.20 svc-b.demo.svc.cluster.local\nfd00:10:96::20 svc-b.demo.svc.cluster.local\n"


def test_headless_service_is_the_ready_addresses_behind_it() -> None:
    slices = [
        endpoint_slice("db", ["10.244.1.2"], PORTS, hostname="db-0"),
        endpoint_slice("db", ["10.244.1.3"], PORTS, conditions={"ready": False}),
    ]
    assert dns.records([service("db", [], PORTS)], slices, []) == (
        "10.244.1.2 db-0.db.demo.svc.cluster.local\n10.244.1.2 db.demo.svc.cluster.local\n"
    )


def test_not_ready_addresses_are_published_when_asked() -> None:
    slices = [endpoint_slice("db", ["10.244.1.3"], PORTS, conditions={"ready": False})]
    text = dns.records([service("db", [], PORTS, publishNotReadyAddresses=True)], slices, [])
    assert text == "10.244.1.3 db.demo.svc.cluster.local\n"


def test_pod_has_a_name_made_of_its_address() -> None:
    text = dns.records([], [], [pod("a", ["10.244.1.2", "fd00:10:244:1::2"])])
    assert text == ("10.244.1.2 10-244-1-2.demo.pod.cluster.local\nfd00:10:244:1::2 fd00-10-244-1--2.demo.pod.cluster.local\n")


def test_external_name_has_no_address() -> None:
    assert dns.records([service("x", [], PORTS, type="ExternalName", externalName="example.com")], [], []) == ""


def test_hostname_that_is_no_label_makes_no_record() -> None:
    slices = [endpoint_slice("db", ["10.244.1.2"], PORTS, hostname="x\n192.0.2.1 evil")]
    assert dns.records([service("db", [], PORTS)], slices, []) == "10.244.1.2 db.demo.svc.cluster.local\n"
