"""Small manifests."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def pod(name: str = "p", **metadata: Any) -> Json:
    return {"metadata": {"name": name, "namespace": "default", **metadata}, "spec": pod_spec()}


def pod_spec(image: str = "nginx:1") -> Json:
    ports = [{"name": "http", "containerPort": 8080}]
    return {"containers": [{"name": "c", "image": image, "ports": ports}]}


def workload(name: str = "web", **spec: Any) -> Json:
    """The body of a Deployment, ReplicaSet, StatefulSet or DaemonSet."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec()}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def service(name: str = "web", **spec: Any) -> Json:
    body = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}], **spec}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": body}


def job(name: str = "once", **spec: Any) -> Json:
    template = {"spec": {**pod_spec(), "restartPolicy": "Never"}}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"template": template, **spec}}
