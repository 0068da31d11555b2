"""Leaving when told to: in peace, within the grace period, and at once for who insists."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from engine.loop.leaving import NEVER, heed_signals, open_stop_signals, until_signal


class Leaver:
    """Something that takes `seconds` to leave."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.left = False
        self.cancelled = False

    async def leave(self) -> None:
        try:
            await trio.sleep(self.seconds)
        except trio.Cancelled:
            self.cancelled = True
            raise
        self.left = True


class SignalAfter(AsyncIterator[int]):
    """A signal that comes after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __anext__(self) -> int:
        await trio.sleep(self._seconds)
        return signal.SIGTERM


@pytest.mark.parametrize(
    ("needs", "insists_after", "takes"),
    [(5, 1000, 5), (1000, 1000, 20), (1000, 3, 3), (0, 3, 0)],
    ids=["in peace", "the grace period is over", "a second signal", "at once"],
)
async def test_leaving_takes_as_long_as_it_needs_within_the_grace_period_unless_somebody_insists(
    autojump_clock: MockClock, needs: float, insists_after: float, takes: float
) -> None:
    leaver = Leaver(needs)
    begun = trio.current_time()
    await until_signal(leaver.leave, 20.0, SignalAfter(insists_after))
    assert trio.current_time() - begun == takes
    assert (leaver.left, leaver.cancelled) == (needs == takes, needs != takes)


async def test_what_goes_wrong_in_leaving_is_seen(autojump_clock: MockClock) -> None:
    async def fail() -> None:
        await trio.sleep(1)
        raise KeyError("left something behind")

    with pytest.RaisesGroup(KeyError):
        await until_signal(fail, 20.0, SignalAfter(1000))


async def test_whoever_cancels_it_is_obeyed(autojump_clock: MockClock) -> None:
    leaver = Leaver(1000)
    with trio.move_on_after(2) as scope:
        await until_signal(leaver.leave, 20.0, SignalAfter(1000))
    assert scope.cancelled_caught
    assert leaver.cancelled


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_each_of_the_three_tells_to_leave(sign: signal.Signals) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with open_stop_signals() as signals:
            signal.raise_signal(sign)
            assert await anext(signals) == sign
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_hang_up_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with open_stop_signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            assert await anext(signals) == signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_role_that_is_given_no_signals_leaves_by_being_cancelled(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1000) as scope:
        await anext(NEVER)
    assert scope.cancelled_caught


async def test_a_role_is_handed_the_signals_of_the_process() -> None:
    async def role(*, signals: AsyncIterator[int]) -> None:
        signal.raise_signal(signal.SIGTERM)
        heard.append(await anext(signals))

    heard: list[int] = []
    await heed_signals(role)
    assert heard == [signal.SIGTERM]
