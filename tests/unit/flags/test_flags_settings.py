"""What `flows observe` is told by its environment and its file, and what outdoes what."""

from __future__ import annotations

from pathlib import Path

import pytest
from flags_parsed import parse, refusal

from flows.cli.options import ServerOptions
from flows.proto.flow_pb2 import FlowFilter


def test_a_flag_beats_flows_beats_hubble_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text('server: file:1\ntls: true\nallowlist: [\'{"uuid":["f"]}\']\n')
    environment = {"HUBBLE_CONFIG": str(file)}
    assert parse(**environment).server == ServerOptions(address="file:1", tls=True)
    assert list(parse(**environment).allow) == [FlowFilter(uuid=["f"])]
    environment["HUBBLE_SERVER"] = "hubble:1"
    assert parse(**environment).server.address == "hubble:1"
    environment["FLOWS_SERVER"] = "flows:1"
    assert parse(**environment).server.address == "flows:1"
    assert parse("--server", "flag:1", **environment).server.address == "flag:1"


@pytest.mark.parametrize("folder", [".config/flows", ".config/hubble", ".hubble"])
def test_the_usual_places_of_the_file(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "config.yaml").write_text("server: there:1\n")
    assert parse(HOME=str(tmp_path)).server.address == "there:1"
    assert parse(HOME=str(tmp_path / "other")).server.address == ServerOptions().address


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("server: nowhere\n", 'server "nowhere": expected host:port'),
        ("server: [a, b]\n", "server: expected one value"),
        ("tls-ca-cert-files: {a: b}\n", "expected a list of texts"),
        ("- a\n", "expected a mapping"),
        ("a: [\n", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("a: 2026-99-99\n", "not YAML"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)
    said = refusal("--config", str(file))
    assert "c.yaml" in said
    assert message in said


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "No such file" in refusal("--config", str(tmp_path / "nosuch"))
    assert "cannot read it" in refusal("--config", str(tmp_path))
    Path(tmp_path / "raw").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in refusal(FLOWS_CONFIG=str(tmp_path / "raw"))


def test_a_bad_variable_is_named() -> None:
    assert refusal(HUBBLE_TLS="maybe").startswith('HUBBLE_TLS "maybe"')
    assert parse(HUBBLE_TLS="", FLOWS_TLS_CA_CERT_FILES="a,b c").server.tls_ca_cert_files == ("a", "b", "c")
