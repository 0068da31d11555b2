"""How many sessions a node sends elsewhere, so that all nodes of a cluster have about as many: Piko's rule."""

from __future__ import annotations

import math
from collections.abc import Sequence


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
