"""How much one party may have, and how often: token buckets and counts, each kept for many parties in a bounded table.

Nothing here waits or knows the time, which comes as `now`, in seconds of any clock that only goes forward.

A table of buckets has at most `MAX_PARTIES`. Strangers can make up parties, so the one that was heard of longest ago
is forgotten for a new one, and begins anew when it comes back. Who has something now (a connection, a session) stays.

A limit may hold for several processes together (`share`). Each then tells the others what parties have taken or hold
with it, and counts in what it was told. Nobody is told of the last bit, less than 1/QUANTA of the limit for all of them
together: so much more than the limit, and what comes within the moment that telling takes, may be had; and a count that
was told may be as much behind when it falls. A small limit is told one by one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple

from engine.wire.addresses import as_meant

MAX_PARTIES: Final = 16384
BURST_SECONDS: Final = 10.0  # what may come at once is what may come within so many
NETWORK_BITS: Final = 64  # of an IPv6 address: whoever has one has them all
QUANTA: Final = 16


class Bucket:
    """A token bucket: `rate` tokens a second, and as many at once as come within BURST_SECONDS."""

    __slots__ = ("_at", "_left", "untold")

    def __init__(self, rate: float, now: float) -> None:
        self.untold = 0.0  # what was taken here, and the others do not know
        self._left = rate * BURST_SECONDS
        self._at = now

    def left(self, rate: float, now: float) -> float:
        """How many tokens there are; a debt is below 0."""
        self._left = min(rate * BURST_SECONDS, self._left + (now - self._at) * rate)
        self._at = now
        return self._left

    def wait(self, rate: float, now: float) -> float:
        """Seconds until there is a token; 0 if there is one."""
        return max(0.0, (1.0 - self.left(rate, now)) / rate)

    def charge(self, amount: float) -> None:
        """Take `amount`, which may leave a debt."""
        self._left -= amount


class Rates:
    """A bucket for each party. A `rate` of 0 is no limit, and neither has the party without a name one. `refused`
    counts.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.refused = 0
        self._buckets: dict[str, Bucket] = {}
        self._quantum = math.inf
        self._tell: Callable[[str, float], None] = _nobody

    def share(self, processes: int, tell: Callable[[str, float], None]) -> None:
        """Have so many processes take from the same buckets: `tell` the others what a party has taken here."""
        self._quantum = _quantum(self.rate * BURST_SECONDS, processes)
        self._tell = tell

    def wait(self, party: str, now: float) -> float:
        """Seconds until the party may have another; 0 if it may now."""
        if not self.rate or not party:
            return 0.0
        return self._bucket(party, now).wait(self.rate, now)

    def charge(self, party: str, now: float, amount: float) -> None:
        """The party has had `amount`, which may leave a debt."""
        if self.rate and party and amount:
            bucket = self._bucket(party, now)
            bucket.charge(amount)
            self._taken(party, bucket, amount)

    def take(self, party: str, now: float) -> float:
        """Take one, if there is one: see `wait`."""
        wait = self.wait(party, now)
        if wait:
            self.refused += 1
        else:
            self.charge(party, now, 1.0)
        return wait

    def charge_elsewhere(self, party: str, now: float, amount: float) -> None:
        """Another process has told that `party` has taken so much with it."""
        if self.rate:
            self._bucket(party, now).charge(amount)

    def is_owing(self, party: str, now: float) -> bool:
        """Is the party's bucket in debt?"""
        bucket = self._buckets.get(party)
        return bucket is not None and bucket.left(self.rate, now) < 0

    def _taken(self, party: str, bucket: Bucket, amount: float) -> None:
        bucket.untold += amount
        if bucket.untold >= self._quantum:
            self._tell(party, bucket.untold)
            bucket.untold = 0.0

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
        self.processes = 1  # for which it holds together
        self._held: Counter[str] = Counter()
        self._elsewhere: Counter[str] = Counter()  # of all others, as they have told
        self._of_others: dict[str, dict[str, int]] = {}  # by process, by party
        self._told: dict[str, int] = {}
        self._quantum = math.inf
        self._tell: Callable[[str, int], None] = _nobody

    def share(self, processes: int, tell: Callable[[str, int], None]) -> None:
        """Have the limit hold for so many processes together: `tell` the others how much a party has here."""
        self.processes = processes
        self._quantum = _quantum(self.limit, processes) if self.limit else math.inf
        self._tell = tell

    def is_full(self, party: str) -> bool:
        """Has the party as much as it may? Counts as a refusal if so."""
        if not self.limit or self._held[party] + self._elsewhere[party] < self.limit:
            return False
        self.refused += 1
        return True

    def enter(self, party: str) -> None:
        """The party has one more, until it leaves."""
        self._held[party] += 1
        self._changed(party)

    def leave(self, party: str) -> None:
        self._held[party] -= 1
        if not self._held[party]:
            del self._held[party]
        self._changed(party)

    def put(self, party: str, count: int) -> None:
        """The party has so many now."""
        if count:
            self._held[party] = count
        else:
            self._held.pop(party, None)
        self._changed(party)

    def left(self, party: str, held: int) -> int:
        """How many more the party may have that has so many here; below 0 if that is too many."""
        return self.limit - held - self._elsewhere[party]

    @contextmanager
    def hold(self, party: str) -> Iterator[None]:
        """The party has one more within the context."""
        self.enter(party)
        try:
            yield
        finally:
            self.leave(party)

    def _changed(self, party: str) -> None:
        held, told = self._held[party], self._told.get(party, 0)
        if abs(held - told) < self._quantum and (held or not told):
            return
        if held:
            self._told[party] = held
        else:
            del self._told[party]
        self._tell(party, held)

    def told(self) -> dict[str, int]:
        """What others know that parties have here."""
        return self._told

    def hold_elsewhere(self, process: str, party: str, count: int) -> None:
        """Another process has told how much a party has there."""
        others = self._of_others.setdefault(process, {})
        before = others.pop(party, 0)
        if count:
            others[party] = count
        elif not others:
            del self._of_others[process]
        self._elsewhere[party] += count - before
        if not self._elsewhere[party]:
            del self._elsewhere[party]

    def put_elsewhere(self, held: Mapping[str, Mapping[str, int]]) -> None:
        """All that others have told, by process and party, in place of what was known of it."""
        for process in tuple(self._of_others):
            self.forget(process)
        for process, parties in held.items():
            for party, count in parties.items():
                self.hold_elsewhere(process, party, count)

    def forget(self, process: str) -> None:
        """It is gone."""
        for party in tuple(self._of_others.get(process, ())):
            self.hold_elsewhere(process, party, 0)


def _nobody(party: str, amount: float) -> None:
    """Nobody has to be told."""


def _quantum(limit: float, processes: int) -> float:
    """What each of the processes may keep to itself."""
    return max(1.0, limit / (QUANTA * processes))


class Crowd:
    """How many there are of something at once: `most` in all, and `of_one` by one principal, or from one address."""

    def __init__(self, most: int, of_one: int) -> None:
        self.all = Counts(most)
        self.each = Counts(of_one)

    @property
    def refused(self) -> int:
        return self.all.refused + self.each.refused

    def is_full(self, address: str, principal: str) -> bool:
        """Is there no room for one more?"""
        return self.all.is_full("") or any(self.each.is_full(one) for one in _whose(address, principal))

    def enter(self, address: str, principal: str) -> None:
        self.all.enter("")
        for one in _whose(address, principal):
            self.each.enter(one)

    def leave(self, address: str, principal: str) -> None:
        self.all.leave("")
        for one in _whose(address, principal):
            self.each.leave(one)


def _whose(address: str, principal: str) -> list[str]:
    """Whom it counts for."""
    return [f"address {address}", f"principal {principal}"] if principal else [f"address {address}"]


class Visits:
    """The connections of a port by client: at most `connections` at once, and `rate` new ones a second. Those of this
    machine are not counted: programs that stand in front of a node on it call for many clients.
    """

    def __init__(self, connections: int, rate: float) -> None:
        self.open = Counts(connections)
        self.new = Rates(rate)

    @classmethod
    def unlimited(cls) -> Visits:
        return cls(0, 0)

    @property
    def refused(self) -> dict[str, int]:
        """How many there were too many, by the limit."""
        return {"connections": self.open.refused, "connection_rate": self.new.refused}

    def refuse(self, address: str, now: float) -> bool:
        """A connection comes from `address`: is it one too many?"""
        client = client_of(address)
        return bool(client) and (bool(self.new.take(client, now)) or self.open.is_full(client))

    @contextmanager
    def hold(self, address: str) -> Iterator[None]:
        """It is open within the context."""
        if client := client_of(address):
            with self.open.hold(client):
                yield
        else:
            yield


@lru_cache(4096)
def client_of(address: str) -> str:
    """Who has an address: itself, of IPv6 its network; empty for this machine."""
    try:
        parsed = as_meant(ip_address(address))
    except ValueError:
        return address
    if parsed.is_loopback:
        return ""
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed) >> NETWORK_BITS << NETWORK_BITS, NETWORK_BITS)))
    return str(parsed)


class Whose(NamedTuple):
    """What a request or connection is for, and whose it is: the key of an endpoint, a party and a tenant, which may be
    empty.
    """

    endpoint: str
    party: str
    tenant: str

    @property
    def parties(self) -> tuple[str, str, str]:
        """Those with limits: the party at the endpoint, the party, its tenant."""
        return f"{self.party}\n{self.endpoint}", self.party, self.tenant


Pace = Callable[[int, float], float]
"""Told how many bytes have passed, and now; gives the seconds for which no more should."""


class Traffic:
    """What comes for endpoints, by whom. Three limits each, of `requests` and of `size` (bytes, both ways) a second:
    for an endpoint by one party, for a party, for a tenant.
    """

    NAMES: Final = ("", "principal_", "tenant_")

    def __init__(self, requests: Sequence[float], size: Sequence[float]) -> None:
        self._requests = [Rates(rate) for rate in requests]
        self._size = [Rates(rate) for rate in size]

    def __bool__(self) -> bool:
        return any(rates.rate for rates in (*self._requests, *self._size))

    @property
    def refused(self) -> dict[str, int]:
        """How many requests were too many, and how often a connection was held back, by the limit."""
        return {name: rates.refused for name, rates in self.tables.items()}

    @property
    def tables(self) -> dict[str, Rates]:
        """By the limit."""
        found = {}
        for what, tables in (("requests", self._requests), ("bytes", self._size)):
            for prefix, rates in zip(self.NAMES, tables, strict=True):
                found[prefix + what] = rates
        return found

    def ask(self, whose: Whose, now: float) -> int:
        """One more request: 0 if it may go on, else after how many seconds another may."""
        parties = whose.parties
        for tables in (self._size, self._requests):
            for rates, party in zip(tables, parties, strict=True):
                if wait := rates.wait(party, now):
                    rates.refused += 1
                    return math.ceil(wait)
        for rates, party in zip(self._requests, parties, strict=True):
            rates.charge(party, now, 1.0)
        return 0

    def passed(self, whose: Whose, now: float, size: int) -> None:
        """A request is over, for which `size` bytes have passed: what was too much is missing for the next."""
        for rates, party in zip(self._size, whose.parties, strict=True):
            rates.charge(party, now, size)

    def pace(self, whose: Whose) -> Pace | None:
        """That of a connection, which is not refused but held back; None if its bytes are not limited."""
        both = zip(self._size, whose.parties, strict=True)
        tables = [(rates, party) for rates, party in both if rates.rate and party]

        def passed(size: int, now: float) -> float:
            longest = 0.0
            for rates, party in tables:
                rates.charge(party, now, size)
                if wait := rates.wait(party, now):
                    rates.refused += 1
                    longest = max(longest, wait)
            return longest

        return passed if tables else None
