"""How much one party may have, and how often: token buckets and counts, each kept for many parties in a bounded table.

Nothing here waits or knows the time, which comes as `now`, in seconds of any clock that only goes forward.

A table of buckets has at most `MAX_PARTIES`. Strangers can make up parties, so the one that was heard of longest ago
is forgotten for a new one, and begins anew when it comes back. Who has something now (a connection, a session) stays.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

MAX_PARTIES: Final = 16384
BURST_SECONDS: Final = 10.0  # what may come at once is what may come within so many
NETWORK_BITS: Final = 64  # of an IPv6 address: whoever has one has them all


class Bucket:
    """A token bucket: `rate` tokens a second, and as many at once as come within BURST_SECONDS."""

    __slots__ = ("_at", "_left")

    def __init__(self, rate: float, now: float) -> None:
        self._left = rate * BURST_SECONDS
        self._at = now

    def take(self, rate: float, amount: float, now: float) -> float:
        """Take `amount`, which may leave a debt; 0 if there was something left, else the seconds until there is, and
        nothing was taken.
        """
        self._left = min(rate * BURST_SECONDS, self._left + (now - self._at) * rate)
        self._at = now
        if self._left < min(amount, 1.0):
            return (min(amount, 1.0) - self._left) / rate
        self._left -= amount
        return 0.0

    def charge(self, amount: float) -> None:
        """Take `amount`, which was used already."""
        self._left -= amount


class Rates:
    """A bucket for each party. A `rate` of 0 is no limit. `refused` counts."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.refused = 0
        self._buckets: dict[str, Bucket] = {}

    def take(self, party: str, now: float, amount: float = 1.0) -> float:
        """See Bucket.take."""
        if not self.rate:
            return 0.0
        wait = self._bucket(party, now).take(self.rate, amount, now)
        if wait:
            self.refused += 1
        return wait

    def charge(self, party: str, now: float, amount: float) -> None:
        """See Bucket.charge."""
        if self.rate and amount:
            self._bucket(party, now).charge(amount)

    def _bucket(self, party: str, now: float) -> Bucket:
        buckets = self._buckets
        bucket = buckets.pop(party, None)
        if bucket is None:
            bucket = Bucket(self.rate, now)
            if len(buckets) >= MAX_PARTIES:
                del buckets[next(iter(buckets))]
        buckets[party] = bucket  # the latest is last
        return bucket


class Counts:
    """How much each party has at once. A `limit` of 0 is none. `refused` counts."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.refused = 0
        self._held: Counter[str] = Counter()

    def is_full(self, party: str) -> bool:
        """Has the party as much as it may? Counts as a refusal if so."""
        if not self.limit or self._held[party] < self.limit:
            return False
        self.refused += 1
        return True

    @contextmanager
    def hold(self, party: str) -> Iterator[None]:
        """The party has one more within the context."""
        self._held[party] += 1
        try:
            yield
        finally:
            self._held[party] -= 1
            if not self._held[party]:
                del self._held[party]


class Visits:
    """The connections of a port by client: at most `connections` at once, and `rate` new ones a second. Those of this
    machine are not counted: programs that stand in front of a node on it call for many clients.
    """

    def __init__(self, connections: int, rate: float) -> None:
        self._open = Counts(connections)
        self._new = Rates(rate)

    @classmethod
    def unlimited(cls) -> Visits:
        return cls(0, 0)

    @property
    def refused(self) -> dict[str, int]:
        """How many there were too many, by the limit."""
        return {"connections": self._open.refused, "connection_rate": self._new.refused}

    def refuse(self, address: str, now: float) -> bool:
        """A connection comes from `address`: is it one too many?"""
        client = client_of(address)
        return bool(client) and (bool(self._new.take(client, now)) or self._open.is_full(client))

    @contextmanager
    def hold(self, address: str) -> Iterator[None]:
        """It is open within the context."""
        if client := client_of(address):
            with self._open.hold(client):
                yield
        else:
            yield


@lru_cache(4096)
def client_of(address: str) -> str:
    """Who has an address: itself, of IPv6 its network; empty for this machine."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        elif not parsed.is_loopback:
            return str(IPv6Network((int(parsed) >> NETWORK_BITS << NETWORK_BITS, NETWORK_BITS)))
    return "" if parsed.is_loopback else str(parsed)


class Traffic:
    """What comes for an endpoint, by whom: `requests` and `size` (bytes, both ways) a second."""

    def __init__(self, requests: float, size: float) -> None:
        self._requests = Rates(requests)
        self._size = Rates(size)

    def __bool__(self) -> bool:
        return bool(self._requests.rate or self._size.rate)

    @property
    def refused(self) -> dict[str, int]:
        """How many requests were too many, by the limit."""
        return {"requests": self._requests.refused, "bytes": self._size.refused}

    def ask(self, endpoint: str, principal: str, now: float) -> int:
        """One more request: 0 if it may go on, else after how many seconds another may."""
        party = f"{principal}\n{endpoint}"
        wait = self._size.take(party, now) or self._requests.take(party, now)
        return math.ceil(wait)

    def passed(self, endpoint: str, principal: str, now: float, size: int) -> None:
        """A request is over, for which `size` bytes have passed: what was too much is missing for the next."""
        self._size.charge(f"{principal}\n{endpoint}", now, size)
