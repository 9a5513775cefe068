"""A stand-in for the Kubernetes API of a large cluster, kubernetes_server.py, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.kubernetes_server import CHANGES, SENT, WATCHED

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER: Final = Path(__file__).with_name("kubernetes_server.py")


@dataclass(frozen=True, slots=True)
class Api:
    """A running stand-in and a kubeconfig that leads to it."""

    url: str
    kubeconfig: Path

    def watched(self) -> set[str]:
        """Paths of the resources that somebody watches, which is to say: has listed."""
        return set(self._ask(WATCHED))

    def change(self, rate: int) -> None:
        """Let so many pods change a second."""
        self._ask(f"{CHANGES}?rate={rate}")

    def changed(self) -> tuple[int, int]:
        """Changes told so far, and their bytes."""
        changes, sent = self._ask(CHANGES)
        return changes, sent

    def list_bytes(self) -> dict[str, int]:
        """Bytes of each resource's lists so far."""
        return dict(self._ask(SENT))

    def _ask(self, path: str) -> Any:
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE  # our own child, on loopback
        with urllib.request.urlopen(self.url + path, timeout=5, context=trust) as answer:
            return json.load(answer)


@contextlib.contextmanager
def kubernetes_api(*, tls: bool = False, streams: bool = True) -> Iterator[Api]:
    """Run the stand-in; it ends with this context, or with this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [*(["--tls", name] if tls else []), *([] if streams else ["--no-streams"])]
        if tls:
            make_certificate(folder)
        process = subprocess.Popen(
            [sys.executable, str(SERVER), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            url = f"http{'s' if tls else ''}://127.0.0.1:{int(process.stdout.readline())}"
            kubeconfig = folder / "kubeconfig"
            kubeconfig.write_text(json.dumps(_kubeconfig(url, folder / "tls.crt" if tls else None)))
            yield Api(url, kubeconfig)
        finally:
            process.kill()
            process.communicate()


def make_certificate(folder: Path) -> None:
    """A certificate of its own authority for 127.0.0.1: tls.crt and tls.key."""
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=bench",
    ]
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run([*words, *more], check=True, capture_output=True)


def _kubeconfig(url: str, authority: Path | None) -> dict[str, Any]:
    trust = {"certificate-authority": str(authority)} if authority else {}
    return {
        "clusters": [{"name": "bench", "cluster": {"server": url, **trust}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench"}}],
        "current-context": "bench",
    }
