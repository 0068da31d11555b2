"""Shutdown: finish what is under way, within the grace period; a second signal ends it at once."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from engine.log import get_logger

log = get_logger("main")


def stop_signals() -> list[signal.Signals]:
    """What tells a role to leave: SIGTERM, SIGINT, and SIGHUP (the terminal has gone) unless whoever has started us
    ignores it, as nohup(1) does.
    """
    hang_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hang_up]


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
