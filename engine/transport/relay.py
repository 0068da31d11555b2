"""The two-way copy: two Duplexes joined so that each gets what the other receives, exactly.

A byte is passed on in the call that brought it. An end (FIN) is passed on as an end, in one direction only; a loss
(RST) as a loss; and when the way out is full, the way in is paused until it has drained.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.transport.duplex import NOBODY, Duplex


class _Side:
    """Receives from `here`, passes on to `there`."""

    __slots__ = ("_count", "_here", "_relay", "_there", "ended_")

    def __init__(self, relay: Relay, here: Duplex, there: Duplex) -> None:
        self._relay = relay
        self._here = here
        self._there = there
        self._count = 0
        self.ended_ = False

    def received(self, data: memoryview) -> None:
        self._count += len(data)
        if not self._there.put(data):
            self._here.pause()

    def ended(self) -> None:
        self.ended_ = True
        self._there.end()
        self._relay.maybe_done()

    def lost(self, error: Exception) -> None:
        self._there.abort()
        self._relay.done(error)

    def drained(self) -> None:
        self._there.resume()


class Relay:
    """Joins `left` and `right` from now on; `on_done(error)` is called once, when it is over.

    It is over when both have ended (error None: all bytes are at least queued), or when one is lost (the other
    was then aborted). The relay owns neither: who opened a duplex closes it.
    """

    def __init__(self, left: Duplex, right: Duplex, on_done: Callable[[Exception | None], None] | None = None) -> None:
        self._left = _Side(self, left, right)
        self._right = _Side(self, right, left)
        self._on_done = on_done
        left.receiver = self._left
        right.receiver = self._right

    @property
    def bytes_right(self) -> int:
        """Bytes that went from left to right."""
        return self._left._count

    @property
    def bytes_left(self) -> int:
        return self._right._count

    def maybe_done(self) -> None:
        if self._left.ended_ and self._right.ended_:
            self.done(None)

    def done(self, error: Exception | None) -> None:
        on_done, self._on_done = self._on_done, None
        for side in (self._left, self._right):
            if side._here.receiver is side and error is not None:
                side._here.receiver = NOBODY
        if on_done is not None:
            on_done(error)
