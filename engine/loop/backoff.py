"""How long to wait before dialling again: exponential, full jitter, so that agents that lost their node together
do not come back together. Who says how long he wants to be left alone (Retry-After, RFC 9110, 10.2.3) is left alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import trio

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 15.0
SETTLED_SECONDS = 10.0  # a session that lasted this long was a success
LONGEST_PAUSE_SECONDS = 600.0  # whatever is asked for: who asks for more may have made a mistake, or gone


class Backoff:
    """Delays of one dialler. Chance is a parameter (`uniform(low, high)`), so that a test can say what it does; the
    diallers of a process share one source of it, which weighs 2.5 KiB.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._ceiling = FIRST_SECONDS

    def next(self, at_least: float | None = None, *, ceiling: float = LONGEST_SECONDS) -> float:
        """Seconds to wait now, not fewer than were asked for; the ceiling doubles with every call, and is at most
        `ceiling` for this one.
        """
        delay = min(at_least or 0.0, LONGEST_PAUSE_SECONDS) + self._uniform(0, min(self._ceiling, ceiling))
        self._ceiling = min(self._ceiling * 2, LONGEST_SECONDS)
        return delay

    def settled(self) -> None:
        """It worked: start again from the bottom."""
        self._ceiling = FIRST_SECONDS


class Pause:
    """What somebody on the way has asked all of us for: not to be dialled for a while.

    Shared by everybody who goes that way, since one may come between the asking and the end of another's wait.
    """

    def __init__(self) -> None:
        self._until = -math.inf
        self.reason = ""  # what he said

    def ask(self, seconds: float, reason: str) -> None:
        self._until = trio.current_time() + min(seconds, LONGEST_PAUSE_SECONDS)
        self.reason = reason

    def left_seconds(self) -> float:
        return max(0.0, self._until - trio.current_time())
