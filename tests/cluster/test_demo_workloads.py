"""The demo's workloads: what is applied runs, as it would in a cluster, and is gone when it is deleted."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from demo_command import Demo

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: other}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: nginx
          image: nginx:1.27
          ports: [{name: http, containerPort: 80}]
          readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: other}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
"""

ONCE = """
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: other}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: c
          image: busybox
          command: [sh, -c, "test $(cat /conf/word) = $WORD && curl -sf svc-b.demo"]
          env: [{name: WORD, valueFrom: {configMapKeyRef: {name: once, key: word}}}]
          volumeMounts: [{name: conf, mountPath: /conf}]
      volumes: [{name: conf, configMap: {name: once}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: once, namespace: other}
data: {word: hello}
"""


def test_ordinary_manifest_is_applied_served_and_deleted(demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(WEB)
    assert demo.ok("apply", "-f", str(path)) == "service/web created\ndeployment.apps/web created\n"
    try:
        eventually("three replicas", lambda: sum(p["ready"] for p in demo.pods("other/web-")) == 3)
        names = {pod["name"] for pod in demo.pods("other/web-")}
        loop = "for i in $(seq 60); do curl -s web; done"
        eventually("all of them answer", lambda: set(demo.exec("other/visitor", "sh", "-c", loop).split()) == names)
        assert demo.exec("other/visitor", "curl", "-s", "-6", "web").strip() in names
        assert demo.ok("apply", "-f", str(path)) == "service/web unchanged\ndeployment.apps/web unchanged\n"
    finally:
        demo.ok("delete", "-f", str(path))
    eventually("they are gone", lambda: not demo.pods("other/web-"))
    eventually("the name is gone", lambda: demo.run("exec", "visitor", "--", "getent", "hosts", "web").returncode == 2)


def test_job_runs_once_to_its_end(demo: Demo) -> None:
    kubectl = ["kubectl", "--kubeconfig", demo.status()["kubeconfig"], "-n", "other"]
    ask = [*kubectl, "get", "job", "once", "-o", "jsonpath={.status.succeeded}"]
    with demo.applied(ONCE):
        eventually("it succeeds", lambda: subprocess.run(ask, capture_output=True, check=False).stdout == b"1")
        assert [pod["phase"] for pod in demo.pods("other/once-")] == ["Succeeded"]


def test_stateful_pod_has_a_name_of_its_own(demo: Demo) -> None:
    assert demo.exec("svc-a", "curl", "-s", "store-0.store:8080").strip() == "store-0"


def test_killed_container_is_started_again(demo: Demo) -> None:
    (before,) = demo.pods("demo/store-0")
    os.kill(before["pid"], signal.SIGKILL)
    eventually("it is back", lambda: [(p["restarts"], p["ready"]) for p in demo.pods("demo/store-0")] == [(1, True)])
    (after,) = demo.pods("demo/store-0")
    assert (after["uid"], after["ips"]) == (before["uid"], before["ips"])
    assert after["containers"][0]["id"] != before["containers"][0]["id"]


def test_unknown_image_says_what_to_do(demo: Demo) -> None:
    own = "apiVersion: v1\nkind: Pod\nmetadata: {name: own, namespace: other}\n"
    own += "spec: {containers: [{name: c, image: 'registry.example/own:1'}]}\n"
    with demo.applied(own):
        eventually("it waits", lambda: [p["waiting"] for p in demo.pods("other/own")] == ["ImagePullBackOff"])
    eventually("it is gone", lambda: not demo.pods("other/own"))


def test_somebody_elses_broken_pod_does_not_keep_up_waiting(demo: Demo) -> None:
    broken = "apiVersion: v1\nkind: Pod\nmetadata: {name: broken}\n"
    broken += "spec: {containers: [{name: c, image: busybox, command: [no-such-program]}]}\n"
    with demo.applied(broken):
        eventually("it fails", lambda: [p["waiting"] for p in demo.pods("default/broken")] == ["CrashLoopBackOff"])
        assert demo.pods("default/broken")[0]["problem"] == 'exec: "no-such-program": executable file not found in $PATH'
        demo.up()
