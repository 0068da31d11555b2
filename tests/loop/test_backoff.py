"""How long a dialler waits."""

from __future__ import annotations

from trio.testing import MockClock

from engine.loop.backoff import FIRST_SECONDS, LONGEST_PAUSE_SECONDS, LONGEST_SECONDS, Backoff, Pause


def test_the_ceiling_doubles_up_to_its_bound_and_the_floor_is_nothing() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    backoff = Backoff(uniform)
    delays = [backoff.next() for _ in range(12)]
    assert delays[:4] == [FIRST_SECONDS * 2**n for n in range(4)]
    assert delays[-1] == LONGEST_SECONDS
    assert {low for low, _ in asked} == {0}


def test_a_success_starts_it_over() -> None:
    backoff = Backoff(lambda low, high: high)
    for _ in range(5):
        backoff.next()
    backoff.settled()
    assert backoff.next() == FIRST_SECONDS


def test_a_lower_ceiling_holds_for_one_wait() -> None:
    backoff = Backoff(lambda low, high: high)
    for _ in range(12):
        backoff.next()
    assert backoff.next(ceiling=1.0) == 1.0
    assert backoff.next() == LONGEST_SECONDS


def test_who_asks_to_be_left_alone_is_left_alone_and_not_all_come_back_at_once() -> None:
    backoff = Backoff(lambda low, high: high)
    assert backoff.next(30.0) == 30.0 + FIRST_SECONDS
    assert backoff.next(1e6) == LONGEST_PAUSE_SECONDS + 2 * FIRST_SECONDS
    assert backoff.next() == 4 * FIRST_SECONDS


async def test_a_pause_is_as_long_as_it_was_asked_for_within_bounds(mock_clock: MockClock) -> None:
    pause = Pause()
    assert pause.left_seconds() == 0
    pause.ask(30, "not now")
    assert (pause.left_seconds(), pause.reason) == (30, "not now")
    mock_clock.jump(31)
    assert pause.left_seconds() == 0
    pause.ask(1e6, "never")
    assert pause.left_seconds() == LONGEST_PAUSE_SECONDS
