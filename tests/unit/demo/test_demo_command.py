"""`flows demo` on the command line: bad input, pods by prefix, what is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from flows.demo import execute, main
from flows.demo.api.storage import Storage
from flows.demo.errors import DemoError
from flows.demo.readiness import waiting_for

Json = dict[str, Any]
BAD = [
    ([], "flows: demo: the following arguments are required: COMMAND; see flows demo --help"),
    (["stauts"], "did you mean status?"),
    (["up", "--no-agent"], "did you mean --no-agents?"),
    (["up", "--timeout", "soon"], "expected a number of seconds such as 60, got 'soon'"),
    (["up", "--timeout", "nan"], "expected a number of seconds such as 60, got 'nan'"),
    (["status", "-o", "yaml"], "invalid choice: 'yaml'"),
    (["exec"], "the following arguments are required: [NAMESPACE/]POD"),
    (["apply"], "the following arguments are required: -f/--filename"),
    (["stop"], "the following arguments are required: UNIT"),
    (["token", "viewer"], "expected NAMESPACE/NAME such as demo/viewer, got 'viewer'"),
    (["token", "demo/../x"], "expected NAMESPACE/NAME such as demo/viewer, got 'demo/../x'"),
    (["api", "throtle"], "did you mean throttle?"),
    (["api", "throttle", "many", "1"], "invalid int value: 'many'"),
]


@pytest.mark.parametrize(("argv", "message"), BAD)
def test_bad_usage_is_one_line_and_exit_code_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_needs_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main.main(["status"]) == 1
    assert capsys.readouterr().err == "flows: demo status: needs root for namespaces and cgroups: sudo flows demo status\n"


def pod_row(namespace: str, name: str, pid: int = 1) -> Json:
    return {"namespace": namespace, "name": name, "pid": pid, "phase": "Running", "waiting": "", "containers": []}


PODS = [
    pod_row("demo", "svc-a-1", 0),
    pod_row("demo", "svc-a-2"),
    pod_row("other", "svc-a"),
    pod_row("kube-system", "kube-dns-1"),
]
FOUND = [
    ("svc-a", "other/svc-a"),  # an exact name first
    ("svc-a-", "demo/svc-a-2"),  # the one that runs
    ("svc", "demo/svc-a-2"),  # namespace demo before others
    ("other/svc", "other/svc-a"),
    ("kube-dns", "kube-system/kube-dns-1"),
]


@pytest.mark.parametrize(("wanted", "name"), FOUND)
def test_pod_is_found_by_a_prefix_of_its_name(wanted: str, name: str) -> None:
    pod = execute.find_pod(PODS, wanted)
    assert f"{pod['namespace']}/{pod['name']}" == name


def test_unknown_pod_lists_those_that_are_there() -> None:
    with pytest.raises(DemoError, match=r"no pod's name begins with 'demo/x'; pods: demo/svc-a-1, demo/svc-a-2, "):
        execute.find_pod(PODS, "demo/x")


def test_workload_is_waited_for_until_its_controller_has_seen_it_and_all_is_ready() -> None:
    storage = Storage()
    storage.create("namespaces", {"metadata": {"name": "demo"}})
    container = {"name": "c", "image": "nginx"}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    made = storage.create("deployments", {"metadata": {"name": "web", "namespace": "demo"}, "spec": spec})
    assert waiting_for(storage) == ["deployment demo/web: 0 of 2 ready"]
    storage.update_status("deployments", {**made, "status": {"readyReplicas": 2, "observedGeneration": 1}})
    assert waiting_for(storage) == []


def test_bare_pod_is_waited_for_with_the_reason() -> None:
    storage = Storage()
    storage.create("namespaces", {"metadata": {"name": "demo"}})
    spec = {"containers": [{"name": "c", "image": "x"}]}
    made = storage.create("pods", {"metadata": {"name": "own", "namespace": "demo"}, "spec": spec})
    states = [{"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]
    storage.update_status("pods", {**made, "status": {"phase": "Pending", "containerStatuses": states}})
    assert waiting_for(storage) == ["pod demo/own: ImagePullBackOff"]


def test_names_from_outside_are_written_out_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["apply", "-f", "/\x1b[31mnone\n"]) == 2
    assert capsys.readouterr().err == "flows: cannot read manifest /\\x1b[31mnone\\n: No such file or directory\n"
