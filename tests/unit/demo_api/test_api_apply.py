"""Server-side apply: ownership, conflicts, removal of what is no longer applied."""

from __future__ import annotations

from typing import Any

import pytest

from flows.demo.api.errors import StatusError
from flows.demo.api.managed_fields import apply_patch, record_update

Json = dict[str, Any]


def deployment(replicas: int | None = None, labels: Json | None = None, *containers: Json) -> Json:
    spec: Json = {"template": {"spec": {"containers": list(containers)}}} if containers else {}
    spec |= {} if replicas is None else {"replicas": replicas}
    metadata = {"name": "web", **({"labels": labels} if labels else {})}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def apply(live: Json | None, applied: Json, manager: str = "one", *, force: bool = False) -> Json:
    return apply_patch("Deployment", live, applied, manager, force=force)


def test_fields_no_longer_applied_go_unless_another_applied_them() -> None:
    live = apply(None, deployment(2, {"a": "1", "b": "1"}))
    live = apply(live, deployment(None, {"b": "1"}), "two")
    live = apply(live, deployment(2))
    assert live["metadata"]["labels"] == {"b": "1"}
    assert live["spec"]["replicas"] == 2


def test_changing_what_another_owns_is_a_conflict_that_names_the_field() -> None:
    live = apply(None, deployment(2, None, {"name": "c", "image": "x"}))
    with pytest.raises(StatusError) as caught:
        apply(live, deployment(2, None, {"name": "c", "image": "y"}), "two")
    assert caught.value.code == 409
    assert caught.value.message == (
        'Apply failed with 1 conflict: conflict with "one" using apps/v1: .spec.template.spec.containers[name="c"].image'
    )


def test_force_takes_the_field_over() -> None:
    live = apply(None, deployment(2))
    live = apply(live, deployment(3), "two", force=True)
    assert live["spec"]["replicas"] == 3
    managers = [item["manager"] for item in live["metadata"]["managedFields"]]
    assert managers == ["two"]


def test_same_value_is_shared_without_conflict() -> None:
    live = apply(apply(None, deployment(2)), deployment(2), "two")
    assert apply(live, deployment(), "two")["spec"] == {"replicas": 2}


def test_list_items_are_owned_one_by_one() -> None:
    first, second = {"name": "a", "image": "x"}, {"name": "b", "image": "y"}
    live = apply(None, deployment(None, None, first))
    live = apply(live, deployment(None, None, second), "two")
    assert [c["name"] for c in live["spec"]["template"]["spec"]["containers"]] == ["a", "b"]
    live = apply(live, deployment(None, None, {"name": "z", "image": "z"}), "two")
    assert [c["name"] for c in live["spec"]["template"]["spec"]["containers"]] == ["a", "z"]


def test_an_ordinary_update_takes_ownership_of_what_it_changes() -> None:
    live = apply(None, deployment(2, {"a": "1"}))
    changed = {**live, "metadata": {**live["metadata"]}, "spec": {"replicas": 5}}
    record_update("Deployment", live, changed, "kubectl-scale")
    entries = {item["manager"]: item["fieldsV1"] for item in changed["metadata"]["managedFields"]}
    assert entries["kubectl-scale"] == {"f:spec": {"f:replicas": {}}}
    assert "f:spec" not in entries["one"]


def test_entries_that_no_server_wrote_are_dropped() -> None:
    live = deployment(1)
    nonsense: tuple[Any, ...] = (5, {"f:a": 5}, {"k:nope": {}}, {"zzz": {}}, None)
    live["metadata"]["managedFields"] = [{"manager": "x", "operation": "Apply", "fieldsV1": fields} for fields in nonsense]
    assert len(apply(live, deployment(1))["metadata"]["managedFields"]) == 1
