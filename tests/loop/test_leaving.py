"""Leaving when told to: within the grace period, unless somebody insists."""

from __future__ import annotations

import trio
import trio.testing

from engine.loop.leaving import until_signal


class Leaving:
    """Something that takes `seconds` to leave, and signals that can be sent meanwhile."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.left = False
        self.signal, self.signals = trio.open_memory_channel[int](10)

    async def leave(self) -> None:
        await trio.sleep(self.seconds)
        self.left = True

    async def run(self, grace_seconds: float) -> float:
        """How long it took."""
        begun = trio.current_time()
        async with self.signal, self.signals:
            await until_signal(self.leave, grace_seconds, aiter(self.signals))
        return trio.current_time() - begun


async def test_what_leaves_in_time_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    leaving = Leaving(3)
    assert await leaving.run(10) == 3
    assert leaving.left


async def test_what_does_not_is_ended_when_the_grace_is_over(autojump_clock: trio.testing.MockClock) -> None:
    leaving = Leaving(30)
    assert await leaving.run(10) == 10
    assert not leaving.left


async def test_a_second_signal_ends_it_at_once(autojump_clock: trio.testing.MockClock) -> None:
    leaving = Leaving(30)
    leaving.signal.send_nowait(15)
    assert await leaving.run(10) == 0
    assert not leaving.left
