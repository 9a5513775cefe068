"""Which program stands for which image, and what a container then runs."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.demo.node import image

REFERENCES = [
    ("nginx", "nginx"),
    ("nginx:1.27", "nginx"),
    ("docker.io/library/nginx:1.27@sha256:" + "0" * 64, "nginx"),
    ("localhost:5000/team/curl", "curl"),
]


@pytest.mark.parametrize(("reference", "name"), REFERENCES)
def test_base_name_is_the_repositorys_last_component(reference: str, name: str) -> None:
    assert image.base_name(reference) == name


LINES = [
    ("nginx:1.27", [], [], ["nginx", "-g", "daemon off;"]),
    ("nginx", [], ["nginx", "-t"], ["nginx", "-t"]),
    ("nginx", ["sh", "-c"], ["true"], ["sh", "-c", "true"]),
    ("curlimages/curl:8", [], ["-s", "http://svc-b"], ["curl", "-s", "http://svc-b"]),
    ("curlimages/curl:8", [], ["http://svc-b"], ["curl", "http://svc-b"]),
    ("curlimages/curl:8", [], ["sleep", "1"], ["sleep", "1"]),
    ("python-grpc:3.11", [], ["/opt/inventory/server.py"], [sys.executable, "/opt/inventory/server.py"]),
    ("upstream-dns:1", [], [], ["python3", "/opt/upstream-dns/server.py"]),
    ("example.com/own:1", ["sleep"], ["1"], ["sleep", "1"]),
    ("example.com/own:1", [], [], None),
    ("example.com/own:1", [], ["serve"], None),
]


@pytest.mark.parametrize(("reference", "command", "args", "line"), LINES)
def test_command_line_is_the_manifests_over_the_images(
    reference: str, command: list[str], args: list[str], line: list[str] | None
) -> None:
    assert image.command_line(reference, command, args) == line


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("nginx:1.27", "/etc/nginx/conf.d/default.conf"),
        ("python-grpc:3.11", "/opt/inventory/client.py"),
        ("upstream-dns:1", "/opt/upstream-dns/server.py"),
    ],
)
def test_images_bring_their_files(reference: str, path: str) -> None:
    assert path in image.files(reference)


def test_a_plain_image_brings_nothing() -> None:
    assert image.files("busybox") == {}


@given(st.text())
def test_any_reference_is_looked_up_without_a_crash(reference: str) -> None:
    image.lookup(reference)
