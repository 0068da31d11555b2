"""Piko's rule, and that it ends: nobody sheds for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.routing.rebalance import Part, by_node, excess


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        (100, [], 0),  # alone
        (49, [0], 0),  # too few to begin with
        (100, [100], 0),
        (110, [100], 0),  # above the average by less than a tenth of it
        (200, [100], 1),  # of 150, a two-hundredth
        (2000, [0, 0, 0], 3),
    ],
)
def test_a_node_that_has_more_than_others_sheds_a_little(own: int, others: list[int], expected: int) -> None:
    assert excess(own, others, threshold=0.1, shed_rate=0.005, min_conns=50) == expected


def test_without_a_threshold_nobody_sheds() -> None:
    assert excess(1000, [0], threshold=0, shed_rate=0.5, min_conns=0) == 0


@given(st.lists(st.integers(0, 500), min_size=2, max_size=5), st.floats(0.05, 1), st.floats(0.001, 1))
def test_shedding_comes_to_an_end(counts: list[int], threshold: float, rate: float) -> None:
    """What one node sheds comes to the one that has the fewest, one second after the other."""
    for _ in range(3000):
        before = list(counts)
        for index, own in enumerate(before):
            others = [*before[:index], *before[index + 1 :]]
            shed = excess(own, others, threshold=threshold, shed_rate=rate, min_conns=1)
            assert counts[index] >= shed
            counts[index] -= shed
            counts[counts.index(min(counts))] += shed
        if counts == before:
            return
    raise AssertionError(f"still shedding: {counts}")


def test_nodes_are_compared_by_what_each_of_their_workers_has() -> None:
    own = Part("large", 4, 40)
    siblings = [Part("large", 4, sessions) for sessions in (30, 30, 20)]
    others = [Part("small", 1, 30), Part("middle", 2, 25), Part("middle", 2, 35)]
    assert by_node(own, siblings + others) == (120, [120, 120])
    assert by_node(Part("small", 1, 30), [own, *siblings]) == (30, [30])
    assert by_node(Part("alone", 2, 5), [Part("alone", 2, 7)]) == (12, [])
