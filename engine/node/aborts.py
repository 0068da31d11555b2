"""Clients that ask and do not wait for the answer, again and again.

Each such request costs the agent a stream that is opened and reset, and its client next to nothing (CVE-2023-44487). A
client may do so, browsers do; who does it more often than `MAX_ABORTS` times within `ABORT_SECONDS` is not let in for
as long. It costs that client's address, and never the agent's session.
"""

from __future__ import annotations

from typing import Final

from engine.session.liveness import Budget

MAX_ABORTS: Final = 1000
ABORT_SECONDS: Final = 10.0
MAX_ADDRESSES: Final = 4096  # remembered, the latest


class Aborts:
    """By client address."""

    def __init__(self) -> None:
        self.banned = 0  # how many times an address was
        self._budgets: dict[str, Budget] = {}
        self._until: dict[str, float] = {}

    def count(self, address: str, now: float) -> None:
        """A request from `address` was left alone by its client."""
        budget = self._budgets.pop(address, None) or Budget(MAX_ABORTS, ABORT_SECONDS)
        self._budgets[address] = budget
        if len(self._budgets) > MAX_ADDRESSES:
            del self._budgets[next(iter(self._budgets))]
        if not budget.spend(now) and not self.is_banned(address, now):
            self.banned += 1
            self._until[address] = now + ABORT_SECONDS

    def is_banned(self, address: str, now: float) -> bool:
        until = self._until.get(address)
        if until is None:
            return False
        if now >= until:
            del self._until[address]
            return False
        return True
