"""Record words: the columns of a batch of records that are read here, each address as two words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def words(record: np.dtype[Any]) -> np.dtype[Any]:
    """The same bytes with addresses as words: local_high, local_low, remote_high, remote_low."""
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
