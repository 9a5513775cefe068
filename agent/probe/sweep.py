"""Sweep: has a program in the kernel look at everything in a table, by its keys, a few hundred at a time."""

from __future__ import annotations

from typing import Final

from flows.agent.probe import bpf

KEY: Final = bytes(4)  # of the only element of the array that the keys are put into


class Sweep:
    """A table, the program that looks at its entries, and the array in which it finds their keys (bpf/maps.h)."""

    def __init__(self, program: int, table: int, keys: int) -> None:
        """Descriptors. Raises OSError."""
        self._program, self._table, self._keys = program, table, keys
        self._key_bytes, self._value_bytes, _ = bpf.map_sizes(table)
        self._room = bpf.map_sizes(keys)[1]

    def run(self) -> None:
        """Once over the table: 0.1 ms for 1,000 entries. What comes or goes meanwhile may be missed until the next time."""
        for keys in bpf.batches(self._table, self._key_bytes, self._value_bytes):
            for start in range(0, len(keys), self._room):
                part = keys[start : start + self._room]
                bpf.update(self._keys, KEY, part.ljust(self._room, b"\0"))
                bpf.run_program(self._program, len(part) // self._key_bytes)


def sweeps(own: dict[str, int]) -> tuple[Sweep, Sweep]:
    """Of connections, and of exchanges; own: descriptors by name. Raises OSError."""
    return (
        Sweep(own["sweep_connections"], own["connections"], own["connections_to_sweep"]),
        Sweep(own["sweep_exchanges"], own["exchanges"], own["exchanges_to_sweep"]),
    )
