"""Waiting until the last has left."""

from __future__ import annotations

import trio
import trio.testing

from engine.loop.wait_group import WaitGroup


async def test_it_waits_for_all_who_are_within_also_for_who_enters_meanwhile(
    autojump_clock: trio.testing.MockClock,
) -> None:
    group = WaitGroup()
    left: list[int] = []
    begun = trio.current_time()

    async def stay(seconds: int) -> None:
        with group:
            await trio.sleep(seconds)
            left.append(seconds)

    async with trio.open_nursery() as nursery:
        for seconds in (1, 3, 2):
            nursery.start_soon(stay, seconds)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(group.wait)
        await trio.sleep(2.5)
        nursery.start_soon(stay, 4)
        await group.wait()
        assert left == [1, 2, 3, 4]
        assert trio.current_time() - begun == 6.5


async def test_with_nobody_within_it_only_gives_way_to_others() -> None:
    group = WaitGroup()
    with trio.testing.assert_checkpoints():
        await group.wait()
    with group:
        pass
    await group.wait()
