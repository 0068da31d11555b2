"""Pings with values of their own, what they measure, and how many resets are too many."""

from __future__ import annotations

from engine.session.liveness import Budget, Pings


def test_a_pong_answers_the_ping_that_is_under_way_and_no_other() -> None:
    pings = Pings()
    assert not pings.answered(0, 1.0), "nothing was asked"
    under_way = [pings.under_way]
    pings.sent(7, 10.0)
    assert not pings.answered(8, 10.1)
    under_way.append(pings.under_way)
    assert pings.answered(7, 10.5)
    under_way.append(pings.under_way)
    assert under_way == [False, True, False]
    assert not pings.answered(7, 10.6), "it was answered before"
    assert pings.round_trip == 0.5


def test_a_ping_of_zero_is_one_as_any_other() -> None:
    pings = Pings()
    pings.sent(0, 10.0)
    assert pings.under_way
    assert pings.answered(0, 11.0)


def test_a_second_ping_takes_the_place_of_the_first() -> None:
    pings = Pings()
    pings.sent(1, 10.0)
    pings.sent(2, 20.0)
    assert not pings.answered(1, 20.5)
    assert pings.answered(2, 21.0)
    assert pings.round_trip == 1.0


def test_the_round_trip_is_the_shortest_of_late_and_follows_a_longer_way_slowly() -> None:
    pings = Pings()
    seen = []
    for number, took in enumerate([1.0, 0.5, 4.0, 4.0, 0.25]):
        pings.sent(number, 0.0)
        assert pings.answered(number, took)
        seen.append(pings.round_trip)
    assert seen == [1.0, 0.5, 0.625, 0.78125, 0.25]


def test_a_budget_is_for_so_many_within_its_seconds_from_the_first_of_them() -> None:
    budget = Budget(3, 10.0)
    assert [budget.spend(100.0 + second) for second in (0, 1, 2)] == [True] * 3
    assert not budget.spend(109.9)
    assert [budget.spend(110.0 + second) for second in (0, 9, 9.9)] == [True] * 3
    assert not budget.spend(119.9)
