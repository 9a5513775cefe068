"""Record words: the columns of a batch of records that are read here, each address as two words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flows.agent.probe.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from flows.agent.probe.batch import Records

    Columns = Mapping[str, NDArray[Any]] | NDArray[np.void]

# The fields of RECORD that are read. Addresses are two words each, so that no column is copied.
_FIELDS: Final = {
    "time_ns": "<u8",
    "start_ns": "<u8",
    "conn_id": "<u8",
    "cgroup_id": "<u8",
    "local_port": "<u2",
    "remote_port": "<u2",
    "protocol": "u1",
    "netns": "<u4",
}

_WORDS: dict[np.dtype[Any], np.dtype[Any]] = {}


def words(records: Records) -> Columns:
    """Columns of records (n,): those of RECORD, and local_high, local_low, remote_high and remote_low."""
    if not isinstance(records, Batch):
        return records.view(_words(records.dtype))
    columns = {name: records[name] for name in _FIELDS}
    for end in ("local", "remote"):
        halves = np.ascontiguousarray(records[f"{end}_addr"]).view(np.uint64)
        columns |= {f"{end}_high": halves[:, 0], f"{end}_low": halves[:, 1]}
    return columns


def _words(record: np.dtype[Any]) -> np.dtype[Any]:
    """The same bytes with addresses as words."""
    if record not in _WORDS:
        fields: Mapping[str, tuple[Any, ...]] = record.fields or {}
        columns = {name: (form, int(fields[name][1])) for name, form in _FIELDS.items()}
        for end in ("local", "remote"):
            offset = int(fields[f"{end}_addr"][1])
            columns |= {f"{end}_high": ("<u8", offset), f"{end}_low": ("<u8", offset + 8)}
        _WORDS[record] = np.dtype(
            {
                "names": list(columns),
                "formats": [form for form, _ in columns.values()],
                "offsets": [offset for _, offset in columns.values()],
                "itemsize": record.itemsize,
            }
        )
    return _WORDS[record]
