"""The two-way copy: two Duplexes joined so that each gets what the other receives, exactly.

A byte is passed on in the call that brought it. An end (FIN) is passed on as an end, in one direction only; a loss
(RST) as a loss; and when the way out is full, the way in is paused until it has drained.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from engine.loop.duplex import NOBODY, Duplex
from engine.loop.reactor import Reactor


class _Side:
    """Receives from `here`, passes on to `there`."""

    __slots__ = ("count", "ended_", "here", "relay", "there")

    idle = False

    def __init__(self, relay: Relay, here: Duplex, there: Duplex) -> None:
        self.relay = relay
        self.here = here
        self.there = there
        self.count = 0
        self.ended_ = False

    def received(self, data: memoryview) -> int:
        self.count += len(data)
        if not self.there.put(data):
            self.here.pause()
        self.here.read_at_most(self.there.room)
        return len(data)

    def ended(self) -> None:
        self.ended_ = True
        self.there.end()
        self.relay.maybe_done()

    def lost(self, error: Exception) -> None:
        self.there.abort()
        self.relay.done(error)

    def drained(self) -> None:
        self.there.resume()

    def break_off(self, error: Exception) -> None:
        self.relay.break_off(error)


class Relay:
    """Joins `left` and `right` from now on; `on_done(error)` is called once, when it is over.

    It is over when both have ended (error None: all bytes are at least queued), or when one is lost (the other
    was then aborted). The relay owns neither: who opened a duplex closes it.
    """

    def __init__(self, left: Duplex, right: Duplex, on_done: Callable[[Exception | None], None] | None = None) -> None:
        self.deadline = math.inf
        self._left = _Side(self, left, right)
        self._right = _Side(self, right, left)
        self._on_done = on_done
        self._reactor: Reactor | None = None
        left.receiver = self._left
        right.receiver = self._right

    def __repr__(self) -> str:
        return f"<Relay {self._left.here!r} {self._right.here!r}>"

    @property
    def bytes_right(self) -> int:
        """Bytes that went from left to right."""
        return self._left.count

    @property
    def bytes_left(self) -> int:
        return self._right.count

    def end_at(self, deadline: float, reactor: Reactor) -> None:
        """Break it off at `deadline` (in the reactor's seconds): what allowed it is not valid any longer."""
        self.deadline = deadline
        self._reactor = reactor
        reactor.clock(self)

    def expired(self) -> None:
        self.break_off(PermissionError("token expired"))

    def break_off(self, error: Exception) -> None:
        """Abort both sides."""
        self._left.here.abort()
        self._right.here.abort()
        self.done(error)

    def maybe_done(self) -> None:
        if self._left.ended_ and self._right.ended_:
            self.done(None)

    def done(self, error: Exception | None) -> None:
        on_done, self._on_done = self._on_done, None
        if self._reactor is not None:
            self._reactor.unclock(self)
        for side in (self._left, self._right):
            if side.here.receiver is side and error is not None:
                side.here.receiver = NOBODY
        if on_done is not None:
            on_done(error)
