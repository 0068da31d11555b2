"""Shutdown: finish what is under way, within the grace period; a second signal ends it at once.

Signals are the process's, so whoever runs a role hands it those that it is to heed: all of them where the role is what
the process is for, and none where several run side by side (a demo, a benchmark), which end by being cancelled.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from engine.log import get_logger

log = get_logger("main")


class Never:
    """Signals of which none ever comes: whoever runs a role with them ends it by cancelling it."""

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        await trio.sleep_forever()


NEVER: Final = Never()


@contextmanager
def open_stop_signals() -> Iterator[AsyncIterator[int]]:
    """The process's signals that tell a role to leave, as they come: SIGTERM, SIGINT, and SIGHUP (the terminal has
    gone) unless whoever has started us ignores it, as nohup(1) does.
    """
    hang_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *hang_up) as signals:
        yield signals


async def heed_signals(role: Callable[..., Awaitable[None]]) -> None:
    """Run a role that is told to leave by the process's signals, which it takes as `signals`."""
    with open_stop_signals() as signals:
        await role(signals=signals)


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
