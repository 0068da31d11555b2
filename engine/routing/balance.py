"""Who of several is next: round robin, which is Piko's rule and fair where requests cost about the same.

A member may have a weight: its share of the turns. Then a cycle has as many rounds as the greatest weight, and in each
of them the members are served whose weight is above a threshold, which is another one in each round:

    a: 3, b: 1      a b | a | a      thresholds 0, 2, 1

The heaviest come first, so whom a round serves is a slice, and whose turn it is costs the same with weights or without.
Thresholds come in the order of van der Corput (their bits reversed), so that the rounds of a light member lie apart.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from math import gcd
from operator import neg
from typing import Generic, TypeVar

Member = TypeVar("Member")


class RoundRobin(Generic[Member]):
    """Members in turn. Whoever joins or leaves, the others keep their places in the round.

    Members are told apart by identity. `next` is called for every request and looks at one member; where one is avoided
    it looks at all, and so do `add` and `remove`, for the rare case.
    """

    __slots__ = ("_end", "_ends", "_members", "_round", "_turn", "_weights")

    def __init__(self) -> None:
        self._members: list[Member] = []
        self._weights: list[int] = []  # of each, the greatest first
        self._ends = [0]  # of each round: how many members it serves
        self._round = 0  # index of the one that goes on
        self._end = 0  # of that
        self._turn = 0  # index of the next one, or one past the last

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def add(self, member: Member, weight: int = 1) -> None:
        """Let `member` join as the last of its weight, which is above 0."""
        index = bisect_right(self._weights, -weight, key=neg)
        self._members.insert(index, member)
        self._weights.insert(index, weight)
        if index < self._turn:
            self._turn += 1
        self._plan()

    def remove(self, member: Member) -> bool:
        """Let `member` leave; False if it is none."""
        for index, known in enumerate(self._members):
            if known is member:
                del self._members[index], self._weights[index]
                if index < self._turn:
                    self._turn -= 1
                self._plan()
                return True
        return False

    def next(self, avoid: Member | None = None) -> Member | None:
        """Whose turn it is, None if there is nobody; `avoid` only if there is nobody else.

        In place of who is avoided another is drawn, by weight, and loses no turn by that: else, of two, the one that
        fails would be the next again each time.
        """
        if avoid is not None:
            return self._other(avoid)
        turn = self._turn
        if turn >= self._end:
            if not self._members:
                return None
            if len(self._ends) > 1:
                self._round = (self._round + 1) % len(self._ends)
                self._end = self._ends[self._round]
            turn = 0
        self._turn = turn + 1
        return self._members[turn]

    def _other(self, avoid: Member) -> Member | None:
        weights = [0 if known is avoid else weight for known, weight in zip(self._members, self._weights, strict=True)]
        if any(weights):
            return random.choices(self._members, weights)[0]
        return avoid if weights else None

    def _plan(self) -> None:
        """Say anew whom each round of a cycle serves."""
        weights = self._weights
        if not weights or weights[0] == weights[-1]:
            self._ends = [len(weights)]
        else:
            unit = gcd(*weights)
            parts = [-weight // unit for weight in weights]
            bits = (-parts[0] - 1).bit_length()
            thresholds = sorted(range(-parts[0]), key=lambda number: f"{number:0{bits}b}"[::-1])
            self._ends = [bisect_right(parts, -threshold - 1) for threshold in thresholds]
        self._round %= len(self._ends)
        self._end = self._ends[self._round]
