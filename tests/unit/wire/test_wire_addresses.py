"""Addresses: what is one, who can reach it, and listening on it."""

from __future__ import annotations

import argparse
import os
import socket
import stat
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.wire.addresses import AddressError, bind, host_and_port, is_local, join, listen_address, prepare_sockets, target
from flows.wire.limits import server_options

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("text", ["a:1", "10.0.0.1:4244", "[::1]:4244", "node-1.example:65535", "unix:///run/flows/a.sock"])
def test_an_address_is_taken_as_written(text: str) -> None:
    assert listen_address(text) == text


@pytest.mark.parametrize("text", ["", "a", "a:0", "a:65536", ":1", "::1:1", "unix://a", "unix:///", "a b:1", "a=b:1", "a:1,b:2"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected host:port"):
        listen_address(text)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        taken = listen_address(text)
    except argparse.ArgumentTypeError:
        return
    assert taken.startswith("unix:///") or join(*host_and_port(taken)).replace("[", "").rpartition(":")[2].isdigit()


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("unix:///a", True),
        ("localhost:1", True),
        ("127.0.0.2:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example:1", False),
    ],
)
def test_who_can_reach_an_address(address: str, local: bool) -> None:
    assert is_local(address) is local


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("unix:///a", "unix:///a"),
        ("10.0.0.1:1", "ipv4:10.0.0.1:1"),
        ("[fd00::1]:1", "ipv6:[fd00::1]:1"),
        ("node:1", "dns:///node:1"),
    ],
)
def test_only_names_are_resolved(address: str, wanted: str) -> None:
    assert target(address) == wanted


async def test_a_unix_socket_is_for_root_and_its_group(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.sock"
    before = os.umask(0o022)
    os.umask(before)
    prepare_sockets([f"unix://{path}"])
    server = grpc.aio.server(options=server_options())
    bind(server, [f"unix://{path}"], None)
    await server.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert os.umask(before) == before
    await server.stop(0)


def test_a_socket_that_is_served_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.fspath(path))
        prepare_sockets([f"unix://{path}"])  # nobody listens: what a crash left behind
        other.listen()
        with pytest.raises(AddressError, match="another process serves it"):
            prepare_sockets([f"unix://{path}"])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AddressError, match=r"making .*/file/deep"):
        prepare_sockets([f"unix://{tmp_path}/file/deep/a.sock"])


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(AddressError, match=f"listening on {address}: the address is in use"):
            bind(grpc.aio.server(options=server_options()), [address], None)
