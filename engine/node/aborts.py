"""Clients that ask and do not wait for the answer, again and again.

Each such request costs the agent a stream that is opened and reset, and its client next to nothing (CVE-2023-44487). A
client may do so, browsers do; who does it more often than `MAX_ABORTS` times within `ABORT_SECONDS` is not let in for
as long. It costs that client's address, and never the agent's session.
"""

from __future__ import annotations

from typing import Final

from engine.limits import BURST_SECONDS, Rates

MAX_ABORTS: Final = 1000
ABORT_SECONDS: Final = BURST_SECONDS


class Aborts:
    """By client address. Who takes more than his bucket has owes as much as that holds, and is banned until he owes
    nothing any more.
    """

    def __init__(self) -> None:
        self.banned = 0  # how many times an address was
        self.rates = Rates(MAX_ABORTS / ABORT_SECONDS)

    def count(self, address: str, now: float) -> None:
        """A request from `address` was left alone by its client."""
        if self.is_banned(address, now):
            return
        self.rates.charge(address, now, 1)
        if self.is_banned(address, now):
            self.banned += 1
            self.rates.charge(address, now, MAX_ABORTS - 1)

    def is_banned(self, address: str, now: float) -> bool:
        return self.rates.is_owing(address, now)
