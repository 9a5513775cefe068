"""What each request's row takes from the payload that it was made of: who spoke with whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

COPIED: Final = (
    "conn_id", "cgroup_id", "local_addr", "remote_addr", "comm", "pid", "netns", "local_port", "remote_port",
    "protocol", "origin",
)  # fmt: skip


def copied(payloads: NDArray[np.void], *, answers: NDArray[np.bool_] | bool = False) -> dict[str, NDArray[Any]]:
    """Columns of request rows that payloads (n,) of any width have already, not copied yet, with `client`: 1 where the local end
    asked.

    answers: which payloads are answers, so that the one who sent them was asked; bool (n,), or one for all.
    """
    rows: dict[str, NDArray[Any]] = {name: payloads[name] for name in COPIED}
    rows["client"] = ((payloads["sent"] != 0) ^ answers).view(np.uint8)
    return rows
