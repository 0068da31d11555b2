"""How much the other end of a stream may have under way, and when that grows. Pure: times are given.

Back-pressure is the yamux window, granted back when bytes have left for the next socket. A receiver whose own way out
is full pauses the stream, and what arrives meanwhile (a window at most) is not granted until it resumes. One stalled
stream therefore holds its window and nothing else.

**Windows grow.** A sender that is limited by its window sends one window per round trip. So when half a window was
used up in little more than a round trip, the stream could carry more, and its window doubles. That needs nothing from
the other end but to honour a window update, which every yamux does. A stream starts with what its session's round
trip suggests.

**All windows of a session have one pool**, the 256 KiB that every stream has by the protocol included: what a session
can be made to hold by streams that first run fast and then stall. Where many streams live, none grows.
"""

from __future__ import annotations

from typing import Final

from engine.wire.yamux import INITIAL_WINDOW

MAX_WINDOW: Final = 32 * 1024 * 1024  # 100 ms at 300 MB/s
MAX_FIRST_WINDOW: Final = 4 * 1024 * 1024
FIRST_BYTES_PER_SECOND: Final = 40_000_000  # what a new stream is believed to be able to carry
BUSY_SECONDS: Final = 0.005  # by how much a loaded round trip may exceed the measured one
SESSION_WINDOWS: Final = 64 * 1024 * 1024  # two streams at full speed over a long way


def first_window(round_trip_seconds: float) -> int:
    """What a new stream starts with: what it is believed to carry in a round trip; the protocol's 256 KiB at least."""
    return max(INITIAL_WINDOW, min(MAX_FIRST_WINDOW, int(round_trip_seconds * FIRST_BYTES_PER_SECOND)))


class Pool:
    """The windows of all streams of a session, in bytes."""

    __slots__ = ("granted", "limit")

    def __init__(self, limit: int = SESSION_WINDOWS) -> None:
        self.limit = limit
        self.granted = 0


class Window:
    """What one stream's other end may send. Its first 256 KiB are the protocol's and are always there."""

    __slots__ = ("_granted_at", "_held", "_owed", "_pool", "size")

    def __init__(self, pool: Pool) -> None:
        self.size = INITIAL_WINDOW  # what may be under way
        self._pool = pool
        self._owed = 0  # passed on, and not granted back yet
        self._held = 0  # arrived while its receiver could not pass it on
        self._granted_at = 0.0
        pool.granted += INITIAL_WINDOW

    def widen(self, size: int) -> int:
        """Let it be `size` if the pool allows; how much is to be granted for it."""
        growth = min(size - self.size, self._pool.limit - self._pool.granted)
        if growth <= 0:
            return 0
        self.size += growth
        self._pool.granted += growth
        return growth

    def hold(self, size: int) -> None:
        """`size` bytes have arrived, and their receiver holds back."""
        self._held += size

    def let_go(self) -> None:
        """The receiver goes on: what was held has been passed on."""
        self._owed += self._held
        self._held = 0

    def passed_on(self, size: int) -> bool:
        """`size` bytes have left for the next socket; True when it is time to `grant`."""
        self._owed += size
        return self._owed * 2 >= self.size

    def grant(self, now: float, round_trip_seconds: float) -> int:
        """What is to be granted back now, with interest if it was used up quickly; 0 if it is not time yet."""
        if self._owed * 2 < self.size:
            return 0
        if now - self._granted_at < 2 * round_trip_seconds + BUSY_SECONDS:
            self._owed += self.widen(min(2 * self.size, MAX_WINDOW))
        self._granted_at = now
        grant, self._owed = self._owed, 0
        return grant

    def close(self) -> None:
        """The stream is gone: its share of the pool is free again."""
        self._pool.granted -= self.size
        self.size = self._owed = self._held = 0
