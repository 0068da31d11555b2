"""The two-way copy: two Duplexes joined so that each gets what the other receives, exactly.

A byte is passed on in the call that brought it. An end (FIN) is passed on as an end, in one direction only; a loss
(RST) as a loss; and when the way out is full, the way in is paused until it has drained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from engine.loop.duplex import NOBODY, Duplex
from engine.loop.reactor import Reactor

LEFT: Final = 0
RIGHT: Final = 1


class _Side:
    """Receives from `here`, passes on to `there`. `way` says which of the two `here` is."""

    __slots__ = ("here", "relay", "there", "way")

    idle = False

    def __init__(self, relay: Relay, here: Duplex, there: Duplex, way: int) -> None:
        self.relay = relay
        self.here = here
        self.there = there
        self.way = way

    def received(self, data: memoryview) -> int:
        self.relay.passed[self.way] += len(data)
        if not self.there.put(data):
            self.here.pause()
        self.here.read_at_most(self.there.room)
        return len(data)

    def ended(self) -> None:
        self.there.end()
        self.relay.ended(self.way)

    def lost(self, error: Exception) -> None:
        self.there.abort()
        self.relay.lost = self.way
        self.relay.done(error)

    def drained(self) -> None:
        self.there.read_at_most(self.here.room)
        self.there.resume()

    def break_off(self, error: Exception) -> None:
        self.relay.break_off(error)


class Relay:
    """Joins `left` and `right` from now on; `on_done(error)` is called once, when it is over.

    It is over when both have ended (error None: all bytes are at least queued), or when one is lost (the other
    was then aborted). The relay owns neither: who opened a duplex closes it. It does not know its two sides, which are
    the receivers of the duplexes: when those are closed, nothing leads back to it.
    """

    def __init__(self, left: Duplex, right: Duplex, on_done: Callable[[Exception | None], None] | None = None) -> None:
        self.deadline = math.inf
        self.passed = [0, 0]  # bytes: from left to right, from right to left
        self.lost: int | None = None  # LEFT or RIGHT, once that side has been lost
        self._ended = [False, False]
        self._ends = (left, right)
        self._on_done = on_done
        self._reactor: Reactor | None = None
        left.receiver = _Side(self, left, right, LEFT)
        right.receiver = _Side(self, right, left, RIGHT)

    def __repr__(self) -> str:
        return f"<Relay {self._ends[0]!r} {self._ends[1]!r}>"

    def end_at(self, deadline: float, reactor: Reactor) -> None:
        """Break it off at `deadline` (in the reactor's seconds): what allowed it is not valid any longer."""
        self.deadline = deadline
        self._reactor = reactor
        reactor.clock(self)

    def expired(self) -> None:
        self.break_off(PermissionError("token expired"))

    def break_off(self, error: Exception) -> None:
        """Abort both sides."""
        for duplex in self._ends:
            duplex.abort()
        self.done(error)

    def ended(self, way: int) -> None:
        """The last byte of this way has been passed on."""
        self._ended[way] = True
        if all(self._ended):
            self.done(None)

    def done(self, error: Exception | None) -> None:
        on_done, self._on_done = self._on_done, None
        if self._reactor is not None:
            self._reactor.unclock(self)
        for duplex in self._ends:
            if isinstance(duplex.receiver, _Side) and duplex.receiver.relay is self:
                duplex.receiver = NOBODY
        if on_done is not None:
            on_done(error)
