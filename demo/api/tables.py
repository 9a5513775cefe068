"""`Table` answers for `kubectl get`: one row of cells for each object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.demo.api.columns import AGE, COLUMNS, NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.demo.api.kinds import Kind

Json = dict[str, Any]


def table(kind: Kind, objects: Sequence[Json], metadata: Json, *, include: str = "Metadata", headings: bool = True) -> Json:
    """A `meta.k8s.io/v1` Table; `include` is the `includeObject` option: Metadata, Object or None."""
    columns = COLUMNS.get(kind.plural, [NAME, AGE])
    rows = []
    for obj in objects:
        row: Json = {"cells": [column.cell(obj) for column in columns]}
        if include != "None":
            row["object"] = obj if include == "Object" else partial(obj)
        rows.append(row)
    definitions = [column.definition() for column in columns] if headings else None
    made = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    return made | {"columnDefinitions": definitions, "rows": rows}


def partial(obj: Json) -> Json:
    """An object's `PartialObjectMetadata`."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
