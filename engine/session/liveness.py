"""Whether the other end of a session still lives, and whether it behaves. Pure: times and random values are given.

*Pings.* Each carries a random value: who answers blindly, or what a middlebox makes up, does not keep a dead session
alive. Their answers measure the round trip.

*Pongs owed.* Whoever reads gets his answers at once. While he does not, some are owed (RFC 6455, 5.5.3, asks for the
latest only), and he who goes on asking is ended: nobody may fill our memory with answers that he does not take.

*Resets.* A stream that is opened and reset at once costs us and not its author. An agent that resets more than
`MAX_RESETS` within `RESET_SECONDS` is ended (CVE-2023-44487). What a node resets are its own clients' streams: those
cost the clients, at the node, and are never held against its session.
"""

from __future__ import annotations

from typing import Final

PING_SECONDS: Final = 20.0  # forward proxies cut what is silent for 30 s and up
PONG_SECONDS: Final = 10.0
MAX_RESETS: Final = 1000
RESET_SECONDS: Final = 10.0


class Pings:
    """The pings of this end, one at a time."""

    __slots__ = ("_sent", "_value", "round_trip")

    def __init__(self) -> None:
        self.round_trip = 0.0  # seconds, the shortest of late; 0 while unknown
        self._value: int | None = None  # of the ping that is under way
        self._sent = 0.0

    @property
    def under_way(self) -> bool:
        return self._value is not None

    def sent(self, value: int, now: float) -> None:
        self._value, self._sent = value, now

    def answered(self, value: int, now: float) -> bool:
        """A pong has come; False if it answers nothing that was asked."""
        if value != self._value:
            return False
        self._value = None
        took = now - self._sent
        self.round_trip = min(took, self.round_trip * 1.25) if self.round_trip else took
        return True


class Budget:
    """At most `limit` of something within `seconds`, counted from the first of them."""

    __slots__ = ("_count", "_limit", "_seconds", "_since")

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._since = 0.0
        self._count = 0

    def spend(self, now: float) -> bool:
        """One more; False if that is too many."""
        if now - self._since >= self._seconds:
            self._since, self._count = now, 0
        self._count += 1
        return self._count <= self._limit
