"""How long to wait after a failure, so that a thousand clients that lost one server do not come back in step."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

# The first failure is usually everybody's: a server that ended. A second spreads 1,000 nodes' handshakes; doubled at each
# further one, up to client-go's 30 s. Drawn from the whole range down to zero ("full jitter": the fewest collisions).
SECONDS: Final = (1.0, 30.0)
# What a server asks for is honoured up to here: a proxy's `Retry-After: 86400` must not end us.
RETRY_AFTER_LIMIT: Final = 120.0


def spread(retry_after: float) -> float:
    """Seconds to wait for a Retry-After: never less than asked, up to twice that, as everybody was told the same."""
    return min(max(retry_after, 0.0), RETRY_AFTER_LIMIT) * random.uniform(1.0, 2.0)  # noqa: S311 - spreads load, hides nothing


@dataclass(slots=True)
class Backoff:
    """Counts failures in a row."""

    failures: int = 0

    def pause(self, retry_after: float | None = None) -> float:
        """Count a failure; seconds to wait, at least what the server asked for."""
        first, longest = SECONDS
        ours = random.uniform(0.0, min(longest, first * (1 << min(self.failures, 16))))  # noqa: S311
        self.failures += 1
        return ours if retry_after is None else max(ours, spread(retry_after))

    def succeeded(self) -> None:
        """Begin again with the shortest wait."""
        self.failures = 0
