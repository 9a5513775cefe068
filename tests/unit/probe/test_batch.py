"""Batches by column: what is asked for as of RECORD, whether it is there or not."""

from __future__ import annotations

import numpy as np

from flows.agent.probe.batch import Batch, joined
from flows.agent.probe.record import RECORD

REQUESTS = Batch({"conn_id": np.array([1, 2, 3], np.uint64), "comm": np.array([b"a", b"b", b"c"], "S16")})


def test_columns_that_lack_are_zero_and_have_the_form_of_a_record() -> None:
    rows = np.zeros(3, RECORD)
    for name in RECORD.names or ():
        column = REQUESTS[name]
        assert (column.dtype, column.shape) == (rows[name].dtype, rows[name].shape)
        assert name in ("conn_id", "comm") or (column == rows[name]).all()


def test_parts_have_what_was_chosen() -> None:
    part = REQUESTS.part(slice(1, None))
    assert (len(part), part["conn_id"].tolist(), part["pid"].tolist()) == (2, [2, 3], [0, 0])


def test_batches_are_joined_column_by_column() -> None:
    records = np.zeros(2, RECORD)
    records["conn_id"], records["sent_bytes"], records["local_addr"] = [8, 9], [5, 6], 7
    both = joined(records, REQUESTS)
    assert len(both) == 5
    assert both["conn_id"].tolist() == [8, 9, 1, 2, 3]
    assert both["sent_bytes"].tolist() == [5, 6, 0, 0, 0]
    assert both["local_addr"].tolist() == [[7] * 16] * 2 + [[0] * 16] * 3
    assert joined(records, REQUESTS.part(slice(0))) is records
    assert joined(records[:0], REQUESTS) is REQUESTS
