"""Shutdown: finish what is under way, within the grace period; a second signal ends it at once.

Signals are the process's. A role heeds them where it is the process; where it runs beside others (a demo, a benchmark,
a test) whoever runs them all heeds them, and ends the role by cancelling it.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from engine.log import get_logger

log = get_logger("main")


@contextmanager
def open_stop_signals(*, alone: bool = True) -> Iterator[AsyncIterator[int]]:
    """The signals that tell a role to leave, as they come: SIGTERM, SIGINT, and SIGHUP (the terminal has gone) unless
    whoever has started us ignores it, as nohup(1) does. None ever comes to a role that is not alone in its process.
    """
    if alone:
        hang_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *hang_up) as signals:
            yield signals
    else:
        send, receive = trio.open_memory_channel[int](0)
        with send, receive:
            yield receive


async def until_signal(leave: Callable[[], Awaitable[None]], grace_seconds: float, signals: AsyncIterator[int]) -> bool:
    """Await `leave()`, but no longer than `grace_seconds`, and not beyond the next of `signals`: was it done then?"""
    done = False

    async def insist() -> None:
        await anext(signals)
        log.warning("second signal: stopping at once")
        nursery.cancel_scope.cancel()

    with trio.move_on_after(grace_seconds) as grace:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(insist)
            await leave()
            done = True
            nursery.cancel_scope.cancel()
    if grace.cancelled_caught:
        log.warning("grace period over, closing what is still open", grace_seconds=grace_seconds)
    return done
