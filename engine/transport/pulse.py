"""What a role does once per turn of the event loop, and a few times a second.

*Once per turn*: links flush. In one turn Trio runs every task that became ready, so thirty clients that sent a
request at once are served in one turn, and what they put on a link leaves as one WebSocket message in one system
call (and is one wake-up for the other side). Trio tells an instrument when a turn is over, just before it sleeps; the
poller says so itself.

*A few times a second*: deadlines. A `trio.CancelScope` per request would cost more than the request's parsing, so
whoever has a deadline keeps it as a number and is asked from time to time. Deadlines here guard against peers that
stall; a quarter of a second more or less does not matter to any of them.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from engine.log import get_logger
from engine.transport.poller import Poller, current

INTERVAL_SECONDS = 0.25

log = get_logger("main")


class Watched(Protocol):
    """Has a `deadline` (in `Pulse.now`'s seconds; infinity for none), and acts when it has passed."""

    deadline: float

    def expired(self) -> None: ...


class Flushed(Protocol):
    def flush(self) -> None:
        """Send what was collected during this turn."""


class Pulse(trio.abc.Instrument):
    """One per role, made by `open_pulse`."""

    def __init__(self) -> None:
        self.now = trio.current_time()
        self._watched: set[Watched] = set()
        self._to_flush: list[Flushed] = []

    # -- once per turn

    def flush_soon(self, thing: Flushed) -> None:
        """Call `thing.flush()` when this turn of the event loop is over. Say it once per turn."""
        self._to_flush.append(thing)

    def flush(self) -> None:
        """This turn is over."""
        if self._to_flush:
            things, self._to_flush = self._to_flush, []
            for thing in things:
                try:
                    thing.flush()
                except Exception as error:
                    # An instrument that raises is thrown out by Trio, and with it everybody's flushing.
                    log.error("flush failed", exc_info=error)

    def before_io_wait(self, timeout: float) -> None:
        self.flush()

    # -- a few times a second

    def watch(self, thing: Watched) -> None:
        self._watched.add(thing)

    def forget(self, thing: Watched) -> None:
        self._watched.discard(thing)

    async def run(self) -> None:
        while True:
            await trio.sleep(INTERVAL_SECONDS)
            self.now = now = trio.current_time()
            for thing in tuple(self._watched):
                if thing.deadline <= now:
                    thing.deadline = math.inf
                    try:
                        thing.expired()
                    except Exception as error:  # one bad deadline must not stop all the others
                        log.error("deadline handler failed", exc_info=error)


@asynccontextmanager
async def open_pulse(*, alone: bool = False) -> AsyncIterator[Pulse]:
    """A role's pulse, and its poller: both work as long as the block lasts, for all tasks started in it.

    `alone`: the role has the process to itself (see Poller).
    """
    pulse = Pulse()
    poller = Poller(pulse.flush, lingers=alone)
    poller_before = current.set(poller)
    trio.lowlevel.add_instrument(pulse)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pulse.run, name="deadlines")
            nursery.start_soon(poller.run, name="poller")
            yield pulse
            nursery.cancel_scope.cancel()
    finally:
        trio.lowlevel.remove_instrument(pulse)
        poller.close()
        current.reset(poller_before)
