"""The feed: one reading for all viewers, none without one, and nobody who stalls is waited for."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from engine.admin.live import LINGER_SECONDS, MAX_VIEWERS, POINT, WAITING, Live, Viewer, quantile
from engine.admin.metrics import SECONDS_BOUNDS
from engine.admin.reading import Reading


class Node:
    """Is read, and says how often."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.missing = ""
        self.hangs = False
        self.live = Live("n1", self.read, degraded=lambda: "slow store")

    async def read(self) -> tuple[Reading, str]:
        if self.hangs:
            await trio.sleep_forever()
        reading = Reading(requests=7.0, seconds=self.seconds, session_count=3)
        self.seconds = 1.0  # from the second on rates are known
        return reading, self.missing


async def hear(viewer: Viewer) -> Any:
    return json.loads(await viewer.messages.receive())


@pytest.fixture
async def node(nursery: trio.Nursery) -> Node:
    node = Node()
    nursery.start_soon(node.live.run)
    return node


async def test_nothing_is_read_while_nobody_looks(node: Node, autojump_clock: MockClock) -> None:
    await trio.sleep(100)
    assert node.live.readings == 0


async def test_all_viewers_have_one_reading_each_second(node: Node, autojump_clock: MockClock) -> None:
    with node.live.viewer() as one, node.live.viewer() as other:
        assert one is not None
        assert other is not None
        for _ in range(5):
            assert await hear(one) == await hear(other)
        assert node.live.readings == 5


async def test_who_comes_later_is_told_what_was_before(node: Node, autojump_clock: MockClock) -> None:
    with node.live.viewer() as first:
        assert first is not None
        assert (await hear(first))["points"] == []  # no rate is known yet
        message = await hear(first)
        assert "points" not in message
        assert message["node"]["degraded"] == "slow store"
        await hear(first)
        with node.live.viewer() as second:
            assert second is not None
            points = (await hear(second))["points"]
    assert [dict(zip(POINT, point, strict=True))["requests"] for point in points] == [7.0, 7.0]
    assert points[0][POINT.index("p50")] is None


async def test_who_comes_back_finds_what_was_before_but_not_for_ever(node: Node, autojump_clock: MockClock) -> None:
    async def number_of_points() -> int:
        with node.live.viewer() as viewer:
            assert viewer is not None
            found = len((await hear(viewer))["points"])
            await hear(viewer)
            return found

    assert await number_of_points() == 0
    await trio.sleep(10)
    assert await number_of_points() >= 10
    await trio.sleep(LINGER_SECONDS + 5)
    readings = node.live.readings
    await trio.sleep(100)
    assert node.live.readings == readings
    assert await number_of_points() <= 1


async def test_who_does_not_keep_up_is_let_go_and_others_are_not(node: Node, autojump_clock: MockClock) -> None:
    with node.live.viewer() as stalled, node.live.viewer() as quick:
        assert stalled is not None
        assert quick is not None
        for _ in range(WAITING + 3):
            await hear(quick)
        assert node.live.dropped == 1
        heard = [message async for message in stalled.messages]  # what he has still, and the end
        assert len(heard) == WAITING
        await hear(quick)
    assert node.live.dropped == 1


async def test_only_so_many_may_look(node: Node, autojump_clock: MockClock) -> None:
    async def look() -> None:
        with node.live.viewer() as viewer:
            assert viewer is not None
            async for _ in viewer.messages:
                pass

    async with trio.open_nursery() as nursery:
        for _ in range(MAX_VIEWERS):
            nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        with node.live.viewer() as one_more:
            assert one_more is None
        nursery.cancel_scope.cancel()
    with node.live.viewer() as next_:
        assert next_ is not None


async def test_a_page_alone_is_told_how_it_is_now_and_many_pages_read_once(
    node: Node, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(node.live.now)
    assert node.live.readings == 1
    message = await node.live.now()
    assert message["now"]["session_count"] == 3  # type: ignore[index]


async def test_what_cannot_be_read_in_time_is_said(node: Node, autojump_clock: MockClock) -> None:
    node.hangs = True
    with node.live.viewer() as viewer:
        assert viewer is not None
        assert (await hear(viewer))["node"]["incomplete"] == "no answer"


# Quantiles -------------------------------------------------------------------------------------------------


def counts(**at: int) -> list[int]:
    found = [0] * (len(SECONDS_BOUNDS) + 1)
    for index, count in at.items():
        found[int(index[1:])] = count
    return found


def test_of_no_requests_there_is_no_quantile() -> None:
    assert quantile([], 0.5) is None
    assert quantile(counts(), 0.5) is None


@pytest.mark.parametrize(
    ("given", "part", "expected"),
    [
        (counts(_0=10), 0.5, 0.00005),
        (counts(_9=100), 0.99, SECONDS_BOUNDS[8] + 0.99 * (SECONDS_BOUNDS[9] - SECONDS_BOUNDS[8])),
        (counts(_9=99, _30=1), 0.99, SECONDS_BOUNDS[9]),
        (counts(_9=98, _30=2), 0.99, (SECONDS_BOUNDS[29] + SECONDS_BOUNDS[30]) / 2),
        ([*counts()[:-1], 5], 0.5, 10.0),
    ],
)
def test_a_quantile_lies_in_its_bucket(given: list[int], part: float, expected: float) -> None:
    assert quantile(given, part) == pytest.approx(expected)
