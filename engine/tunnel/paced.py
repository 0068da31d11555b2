"""A duplex that carries so many bytes a second: nothing is lost or refused, whoever sends too much is held back.

What is above the rate is a debt. Until it is paid, nothing more is read of the duplex, and whoever puts something is
told to hold back. A read is small here, so that no debt is long.
"""

from __future__ import annotations

import math

from engine.limits import Pace
from engine.loop.duplex import FIRST_READ, NOBODY, Bytes, Duplex
from engine.loop.reactor import Reactor
from engine.tunnel.over import Over


def paced(duplex: Duplex, pace: Pace | None, reactor: Reactor) -> Duplex:
    """`duplex`, held to `pace` if there is one."""
    return duplex if pace is None else Paced(duplex, pace, reactor)


class Paced(Over):
    """`duplex`, held to `pace`."""

    __slots__ = ("_held", "_owes_drained", "_pace", "_paused", "_reactor", "deadline")

    def __init__(self, duplex: Duplex, pace: Pace, reactor: Reactor) -> None:
        super().__init__(duplex)
        self.deadline = math.inf
        self._pace = pace
        self._reactor = reactor
        self._held = False
        self._paused = False  # by whoever takes what is read
        self._owes_drained = False  # to whoever was told to hold back

    def _passed(self, size: int) -> None:
        now = self._reactor.precise_now()
        wait = self._pace(size, now)
        if not wait or self.receiver is NOBODY:
            return
        self.deadline = now + wait
        if not self._held:
            self._held = True
            self._reactor.clock(self)
            self._duplex.pause()

    def expired(self) -> None:
        """The debt is paid."""
        self._held = False
        self._reactor.unclock(self)
        if not self._paused:
            self._duplex.resume()
        if self._owes_drained:
            self._owes_drained = False
            self.receiver.drained()

    # -- Duplex

    @property
    def room(self) -> int:
        return min(self._duplex.room, FIRST_READ)

    def put(self, *parts: Bytes) -> bool:
        more = self._duplex.put(*parts)
        self._passed(sum(map(len, parts)))
        if more and self._held:
            self._owes_drained = True
        return more and not self._held

    def close(self) -> None:
        self._leave()
        self._duplex.close()

    def abort(self) -> None:
        self._leave()
        self._duplex.abort()

    def _leave(self) -> None:
        self.receiver = NOBODY
        self._reactor.unclock(self)

    def read_at_most(self, size: int) -> None:
        self._duplex.read_at_most(min(size, FIRST_READ))

    def pause(self) -> None:
        self._paused = True
        self._duplex.pause()

    def resume(self) -> None:
        self._paused = False
        if not self._held:
            self._duplex.resume()

    # -- the receiver of the duplex

    def received(self, data: memoryview) -> int:
        taken = self.receiver.received(data)
        self._passed(taken)
        return taken

    def lost(self, error: Exception) -> None:
        receiver = self.receiver
        self._leave()
        receiver.lost(error)

    def drained(self) -> None:
        if self._held:
            self._owes_drained = True
        else:
            self.receiver.drained()

    def break_off(self, error: Exception) -> None:
        receiver = self.receiver
        self._leave()
        receiver.break_off(error)
