"""Whatever clients send, the answer is an object or a Status, never a crash."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

from api_objects import job, pod, service, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.demo.api import resources, schema
from flows.demo.api.bootstrap import bootstrap
from flows.demo.api.cron import parse_schedule
from flows.demo.api.errors import StatusError
from flows.demo.api.kinds import BY_PLURAL, KINDS, kind_of
from flows.demo.api.paging import Continue, decode_continue, list_options
from flows.demo.api.selectors import parse_fields, parse_labels
from flows.demo.api.storage import Storage
from flows.demo.api.tables import table
from flows.demo.api.targets import Target
from flows.demo.api.wire import dump, parse_body
from flows.demo.controllers.loop import ControlLoop
from flows.demo.controllers.namespaces import ClusterDefaults

Json = dict[str, Any]
FEW = settings(max_examples=150)
SAMPLES: dict[str, Json] = {
    "pods": pod(),
    "deployments": workload(),
    "statefulsets": workload(),
    "services": service(),
    "jobs": job(),
    "configmaps": {"metadata": {"name": "c", "namespace": "default"}, "data": {"a": "b"}},
}
NAMES = sorted({name for fields in schema.types().values() for name in fields} | {"$patch", "$retainKeys", "name", "f:a"})
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["delete", "replace", "80", "25%"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
)
WRITE = resources.Write("fuzz", dry_run=False, strict=False, force=False)


def seeded(plural: str) -> tuple[Storage, Target]:
    store = Storage()
    bootstrap(store)
    made = store.create(plural, SAMPLES[plural])
    return store, Target(kind_of(plural), "patch", "default", made["metadata"]["name"])


@FEW
@given(st.text(max_size=40) | st.from_regex(r"[a-z!]{0,3} ?(=|!=|in|notin|<) ?[a-z(),0-9 ]{0,9}", fullmatch=True))
def test_label_selectors(text: str) -> None:
    with contextlib.suppress(StatusError):
        assert all(isinstance(item.matches({"a": "1"}), bool) for item in parse_labels(text))


@FEW
@given(st.text(max_size=40), st.sampled_from(KINDS))
def test_field_selectors(text: str, kind: Any) -> None:
    with contextlib.suppress(StatusError):
        parse_fields(text, kind)(pod())


@FEW
@given(st.text(max_size=60) | st.text("abcdefghijklmnopqrstuvwxyzABCDEFG0123456789-_", max_size=60))
def test_continue_tokens(token: str) -> None:
    with contextlib.suppress(StatusError):
        decode_continue(token)


@FEW
@given(st.recursive(SCALARS, lambda inner: st.dictionaries(st.sampled_from(["v", "rv", "start"]), inner, max_size=3)))
def test_continue_tokens_that_are_json(body: Any) -> None:

    token = base64.urlsafe_b64encode(json.dumps(body).encode()).rstrip(b"=").decode()
    with contextlib.suppress(StatusError):
        list_options({"continue": token}, 10, 5)


@given(st.integers(min_value=1), st.text(st.characters(exclude_characters="/."), min_size=1))
def test_continue_tokens_come_back(version: int, start: str) -> None:
    assert decode_continue(Continue(version, start).encode()) == Continue(version, start)


@FEW
@given(st.dictionaries(st.sampled_from(["limit", "resourceVersion", "resourceVersionMatch", "continue"]), st.text(max_size=8)))
def test_list_options(query: dict[str, str]) -> None:
    with contextlib.suppress(StatusError):
        list_options(query, 10, 5)


@FEW
@given(st.sampled_from(sorted(SAMPLES)), st.sampled_from([resources.MERGE, resources.STRATEGIC]), VALUES)
def test_merging_patches(plural: str, media_type: str, body: Any) -> None:
    store, target = seeded(plural)
    with contextlib.suppress(StatusError):
        obj, _, _ = resources.patch(store, target, body, media_type, WRITE)
        dump(table(target.kind, [obj], {}))


@FEW
@given(st.sampled_from(sorted(SAMPLES)), st.sampled_from(["spec", "metadata", "status", "data"]), st.data())
def test_patches_of_known_fields(plural: str, part: str, data: st.DataObject) -> None:
    store, target = seeded(plural)
    fields = schema.types()[schema.field_type(target.kind.kind, part) or "ObjectMeta"] if part != "data" else {"a": ""}
    body = {part: data.draw(st.dictionaries(st.sampled_from(sorted(fields)), VALUES, max_size=4))}
    with contextlib.suppress(StatusError):
        obj, _, _ = resources.patch(store, target, body, resources.STRATEGIC, WRITE)
        dump(table(target.kind, [obj], {}))


PATHS = st.sampled_from(["", "/spec", "/metadata/labels", "/spec/containers/0", "/spec/containers/-", "/x/~1", "x", "/metadata"])
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "?"]), "path": PATHS | st.text(max_size=9)},
        optional={"value": VALUES, "from": PATHS},
    ),
    max_size=4,
)


@FEW
@given(st.sampled_from(sorted(SAMPLES)), OPERATIONS | VALUES)
def test_json_patches(plural: str, body: Any) -> None:
    store, target = seeded(plural)
    with contextlib.suppress(StatusError):
        resources.patch(store, target, body, resources.JSON_PATCH, WRITE)


@FEW
@given(st.sampled_from(sorted(SAMPLES)), VALUES, VALUES, st.booleans())
def test_applied_configurations(plural: str, spec: Any, managed: Any, force: bool) -> None:
    store, target = seeded(plural)
    write = resources.Write("fuzz", dry_run=False, strict=False, force=force)
    applied: tuple[Any, ...] = ({"spec": spec, "metadata": {"labels": {"a": "b"}}}, {"metadata": {}})
    for body in applied:
        with contextlib.suppress(StatusError):
            resources.patch(store, target, body, resources.APPLY, write)
    with contextlib.suppress(StatusError):
        body = {"metadata": {"managedFields": [{"manager": "m", "operation": "Apply", "fieldsV1": managed}]}}
        resources.patch(store, target, body, resources.MERGE, write)
        resources.patch(store, target, {"metadata": {}}, resources.APPLY, write)


TEXTS = st.text(max_size=4) | st.sampled_from(["a", "", "TCP", "80", "http", "10.96.0.9", "fd00::1", "None", "25%", "2"])
TIMES = st.sampled_from(["2026-11-23T12:42:14Z", "", "soon"])
TYPED: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "time": TIMES,
    "integer": st.integers(-2, 3) | st.integers(),
    "boolean": st.booleans(),
    "number": st.floats(allow_nan=False),
    "intstr": st.integers(-1, 70_000) | TEXTS,
    "quantity": st.sampled_from(["1", "x", 1]),
    "any": VALUES,
}


@st.composite
def typed(draw: st.DrawFn, text: str, depth: int = 0) -> Any:
    """A value of a schema type: right in form, whatever it says."""
    text = text.rstrip("!")
    if text in TYPED:
        return draw(TYPED[text])
    count = draw(st.integers(0, 2 if depth < 6 else 0))
    if text.startswith("[]"):
        return [draw(typed(text[2:], depth + 1)) for _ in range(count)]
    if text.startswith("{}"):
        return {draw(TEXTS): draw(typed(text[2:], depth + 1)) for _ in range(count)}
    fields = schema.types()[text]
    likely = [name for name in fields if name in LIKELY or fields[name].endswith("!")]
    names = {draw(st.sampled_from(sorted(fields))) for _ in range(count)} | {n for n in likely if draw(st.booleans())}
    return {name: draw(typed(fields[name], depth + 1)) for name in sorted(names)} if depth < 9 else {}


LIKELY = {"spec", "metadata", "template", "containers", "ports", "selector", "status", "jobTemplate", "name", "image"}
LIKELY |= {"matchLabels", "labels", "subjects", "roleRef", "endpoints", "clusterIPs", "ipFamilies", "conditions"}


@FEW
@given(st.sampled_from(sorted(BY_PLURAL)), st.data())
def test_created_objects(plural: str, data: st.DataObject) -> None:
    kind = kind_of(plural)
    store = Storage()
    bootstrap(store)
    target = Target(kind, "create", "default" if kind.namespaced else "")
    body = data.draw(typed(kind.kind))
    named = {"metadata": {**body.get("metadata", {}), "name": "n", "namespace": "default", "resourceVersion": ""}}
    with contextlib.suppress(StatusError):
        obj, _ = resources.checked(target, {**body, "kind": kind.kind, "apiVersion": kind.api_version, **named}, strict=False)
        made = resources.create(store, target, obj, WRITE)
        dump(table(kind, [made], {}))
        if kind.has_status:
            status = data.draw(typed(f"{kind.kind}Status"))
            obj, _ = resources.checked(target, {**made, "status": status}, strict=False)
            resources.replace(store, Target(kind, "update", target.namespace, "n", "status"), obj, WRITE)
            dump(table(kind, store.list(plural), {}))
        ControlLoop(store, ClusterDefaults((), "")).settle(everything=True)


@FEW
@given(st.binary(max_size=60), st.sampled_from(["application/json", "application/yaml"]))
def test_bodies(data: bytes, content_type: str) -> None:
    with contextlib.suppress(StatusError):
        parse_body(data, content_type)


@FEW
@given(st.text(max_size=20) | st.from_regex(r"[-*/,0-9a-z@ ]{0,20}", fullmatch=True))
def test_cron_schedules(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_schedule(text)
