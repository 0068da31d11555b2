"""A role's reactor, from the role's start to its end."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from engine.loop.reactor import Reactor, current

# Of the three generations; Python's are 700, 10, 10. The product of the first two is how many objects are looked at
# together, all but once in 500 times. Beside a crowd of 15 000 clients that comes at once everybody waits for 75 ms,
# twice, with (10_000, 20, 20), for 10 ms now and then with (5_000, 2, 100), and for 4 ms with these.
GARBAGE_THRESHOLDS: Final = (1_000, 2, 500)


class _BeforeSleep(trio.abc.Instrument):
    """Sends what tasks have put on sessions since the reactor's last turn."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    def before_io_wait(self, timeout: float) -> None:
        self._reactor.flush_before_sleep()


def _spare_garbage_collection() -> None:
    """Let the collector look at few objects at a time, seldom at all of them, and never at what was made by the start
    of the program (the modules).

    What a connection or a request leaves behind is freed by its reference counts; only cycles need the collector, and
    a full round over 60 000 objects that do not change takes 20 ms, which somebody's p99 would pay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


@asynccontextmanager
async def open_reactor(*, alone: bool = False) -> AsyncIterator[Reactor]:
    """A role's reactor. It works as long as the block lasts, for all tasks that are started in it.

    `alone`: the role has the process to itself (see busy-polling).
    """
    if alone:
        _spare_garbage_collection()
    reactor = Reactor(busy_polls=alone)
    before = current.set(reactor)
    instrument = _BeforeSleep(reactor)
    trio.lowlevel.add_instrument(instrument)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run_clock, name="clock")
            nursery.start_soon(reactor.run, name="reactor")
            yield reactor
            nursery.cancel_scope.cancel()
    finally:
        trio.lowlevel.remove_instrument(instrument)
        reactor.close()
        current.reset(before)
