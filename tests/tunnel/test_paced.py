"""A duplex that is held to a rate: nothing is lost, and who sends too much waits, in either direction."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from engine.limits import BURST_SECONDS, Traffic, Whose
from engine.loop.reactor import CLOCK_SECONDS, Reactor
from engine.tunnel.paced import Paced, paced
from engine.tunnel.relay import Relay
from tests.loop.ends import LARGE, End, Turns, run_both

RATE = 1000


def is_paused(end: End) -> bool:
    return end.paused


class Bed:
    """Two ends in memory, of which the left is held to RATE, and its burst is used up."""

    def __init__(self, reactor: Reactor) -> None:
        turns = Turns()
        self.left, self.right = End(turns), End(turns)
        self.reactor = reactor
        self.over: list[Exception | None] = []
        pace = Traffic((0, 0, 0), (RATE, 0, 0)).pace(Whose("web", "", ""))
        assert pace is not None
        self.paced = Paced(self.left, pace, reactor)
        self.relay = Relay(self.paced, self.right, self.over.append)
        self.left.hear(b"x" * (RATE * int(BURST_SECONDS) - 1))
        assert not is_paused(self.left)

    def expire(self) -> None:
        assert self.paced in self.reactor._clocked
        self.paced.expired()


@pytest.fixture
def bed(reactor: Reactor) -> Bed:
    return Bed(reactor)


async def test_who_has_sent_too_much_is_not_read_until_it_is_paid_for(bed: Bed) -> None:
    now = bed.reactor.precise_now()
    bed.left.hear(b"y" * 3 * RATE)
    assert bed.right.said.endswith(b"y" * 3 * RATE)  # nothing of what has come is kept back
    assert is_paused(bed.left)
    assert 2.5 < bed.paced.deadline - now < 3.5
    bed.right.full = True
    bed.right.drain()  # which is no reason to read on
    assert is_paused(bed.left)
    bed.expire()
    assert not is_paused(bed.left)
    assert bed.paced not in bed.reactor._clocked


async def test_who_is_also_held_back_by_the_other_side_waits_for_both(bed: Bed) -> None:
    bed.right.full = True
    bed.left.hear(b"y" * 3 * RATE)
    bed.expire()
    assert is_paused(bed.left)
    bed.right.drain()
    assert not is_paused(bed.left)


async def test_what_is_sent_to_it_counts_as_well_and_its_source_waits(bed: Bed) -> None:
    bed.right.hear(b"z" * 3 * RATE)
    assert bed.left.said == b"z" * 3 * RATE
    assert is_paused(bed.right)
    assert is_paused(bed.left)  # they share the rate
    bed.expire()
    assert not is_paused(bed.right)
    assert not is_paused(bed.left)


async def test_a_source_that_waits_for_a_full_way_out_is_told_when_both_are_over(bed: Bed) -> None:
    bed.left.full = True
    bed.right.hear(b"z" * 3 * RATE)
    bed.left.drain()
    assert is_paused(bed.right)
    bed.expire()
    assert not is_paused(bed.right)


async def test_a_debt_is_over_with_its_connection(bed: Bed) -> None:
    bed.left.hear(b"y" * 3 * RATE)
    bed.right.hear_reset()
    assert bed.left.aborted
    assert bed.paced not in bed.reactor._clocked
    bed.paced.put(b"too late" * RATE)
    assert bed.paced not in bed.reactor._clocked


async def test_a_loss_is_told_while_it_is_held(bed: Bed) -> None:
    bed.left.hear(b"y" * 3 * RATE)
    bed.left.hear_reset()
    assert bed.right.aborted
    assert bed.paced not in bed.reactor._clocked


async def test_ends_pass_in_both_directions(bed: Bed) -> None:
    bed.left.hear_end()
    bed.right.hear_end()
    assert bed.right.ended
    assert bed.left.ended
    assert bed.over == [None]


async def test_without_a_pace_there_is_nothing_between(reactor: Reactor) -> None:
    end = End()
    assert paced(end, None, reactor) is end


async def test_a_large_transfer_takes_the_time_it_has_to(
    reactor: Reactor, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    client, _, left, _ = await run_both(nursery)
    right, _, _, service = await run_both(nursery)
    rate = len(LARGE) // 20
    pace = Traffic((0, 0, 0), (rate, 0, 0)).pace(Whose("web", "", ""))
    Relay(paced(left, pace, reactor), right)
    client.stall_seconds = math.inf
    client.put(LARGE)
    since = trio.current_time()
    while len(service.data) < len(LARGE):
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(CLOCK_SECONDS)
    seconds = trio.current_time() - since
    assert bytes(service.data) == LARGE
    assert 10 - 1 < seconds < 10 + 5  # half of it is the burst
