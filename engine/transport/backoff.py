"""How long to wait before dialling again: exponential, full jitter, so that agents that lost their node together
do not come back together."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 15.0
SETTLED_SECONDS = 10.0  # a session that lasted this long was a success


class Backoff:
    """Delays of one dialler. Chance is a parameter (`uniform(low, high)`), so that a test can say what it does; the
    diallers of a process share one source of it, which weighs 2.5 KiB.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._ceiling = FIRST_SECONDS

    def next(self) -> float:
        """Seconds to wait now; the ceiling doubles with every call."""
        delay = self._uniform(0, self._ceiling)
        self._ceiling = min(self._ceiling * 2, LONGEST_SECONDS)
        return delay

    def settled(self) -> None:
        """It worked: start again from the bottom."""
        self._ceiling = FIRST_SECONDS
