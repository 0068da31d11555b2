"""How many sessions a node sends elsewhere, so that all nodes of a cluster have about as many: Piko's rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


def excess(own: int, others: Sequence[int], *, threshold: float, shed_rate: float, min_conns: int) -> int:
    """How many of its `own` sessions a node should send away within the next second.

    `others` are the numbers of the other nodes. Nothing is done below `min_conns`, or as long as `own` is above the
    average by less than the fraction `threshold` of it (0: never); at most `shed_rate` of the average goes at a time.
    """
    if not threshold or not others or own < max(min_conns, 1):
        return 0
    average = (own + sum(others)) / (1 + len(others))
    if (own - average) / average < threshold:
        return 0
    return min(math.ceil(average * shed_rate), math.ceil(own - average))


class Part(NamedTuple):
    """How many sessions one of the `workers` of a node has."""

    node: str
    workers: int
    sessions: int


def by_node(own: Part, peers: Iterable[Part]) -> tuple[int, list[int]]:
    """The sessions of the node of `own`; and those of others, each as if it had as many workers."""
    sums: dict[str, float] = {own.node: own.sessions}
    for one in peers:
        sums[one.node] = sums.get(one.node, 0) + one.sessions * own.workers / one.workers
    return round(sums.pop(own.node)), list(map(round, sums.values()))
