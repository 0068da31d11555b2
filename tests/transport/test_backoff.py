"""How long a dialler waits."""

from __future__ import annotations

from engine.transport.backoff import FIRST_SECONDS, LONGEST_SECONDS, Backoff


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
