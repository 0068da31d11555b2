"""Which request is sent once more, by another way: one whose way has failed before anything of an answer was passed on,
whose method may be repeated (RFC 9110, 9.2.2), and whose whole body is still held.

What a way can fail by is its cause: LOST, TIMEOUT, or the status of an answer which is then not passed on. What is lost
may be asked for again where it was; for the others there has to be somebody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final, Protocol

from engine.gateway.exchange import Exchange
from engine.gateway.states import Answer
from engine.loop.duplex import Bytes
from engine.loop.memory import Account
from engine.loop.reactor import Reactor

RESEND_BYTES: Final = 64 * 1024
REPEATABLE: Final = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
LOST: Final = "lost"
TIMEOUT: Final = "timeout"
STATUSES: Final = ("502", "503", "504")
ATTEMPTS: Final = 2
STEP_SECONDS: Final = 5.0
FEW: Final = 10


class Served(Protocol):
    """Requests of an endpoint."""

    @property
    def count(self) -> int: ...


class Budget:
    """How many requests of an endpoint may be sent once more: a `share` of those that it has `served` within the last
    one or two steps, and FEW whatever came. So many retries make an outage worse, and no more.
    """

    def __init__(self, share: float, served: Mapping[str, Served], reactor: Reactor) -> None:
        self._share = share
        self._served = served
        self._reactor = reactor
        self._marks: tuple[dict[str, int], dict[str, int]] = ({}, {})  # what was served by the last two steps
        self._spent: tuple[Counter[str], Counter[str]] = (Counter(), Counter())  # since then
        self.expired()
        reactor.clock(self)

    def spend(self, endpoint: str) -> bool:
        """May one more? Then it is counted."""
        known = self._served.get(endpoint)
        served = known.count - self._marks[0].get(endpoint, 0) if known is not None else 0
        if sum(spent[endpoint] for spent in self._spent) >= FEW + self._share * served:
            return False
        self._spent[1][endpoint] += 1
        return True

    def expired(self) -> None:
        """A step is over."""
        self._marks = (self._marks[1], {endpoint: served.count for endpoint, served in self._served.items()})
        self._spent = (self._spent[1], Counter())
        self.deadline = self._reactor.now + STEP_SECONDS

    def break_off(self, error: Exception) -> None:
        """That has failed, and will be tried again."""
        self.deadline = self._reactor.now + STEP_SECONDS


class Retries:
    """Requests are sent at most `attempts` times, the first included, again for these `causes` and by these `methods`,
    and as far as there is a `budget` within that.
    """

    def __init__(
        self,
        attempts: int = ATTEMPTS,
        causes: Collection[str] = (LOST,),
        methods: Collection[str] = REPEATABLE,
        budget: Budget | None = None,
    ) -> None:
        self.methods = frozenset(method.encode() for method in methods) if attempts > 1 else frozenset()
        self.counts: Counter[str] = Counter()  # by cause
        self.over_budget = 0  # that would have been more than it allows
        self._attempts = attempts
        self._causes = frozenset(causes)
        self._budget = budget

    def cover(self, exchange: Exchange, cause: str, *, whole: bool) -> bool:
        """May it be sent once more? `whole`: the request has come to its last byte."""
        request = exchange.request
        if request is None or request.method not in self.methods or (request.body and exchange.kept is None):
            return False
        repeats = whole and exchange.attempts < self._attempts and exchange.answer is Answer.AWAITED
        return repeats and cause in self._causes

    def spend(self, exchange: Exchange, cause: str) -> bool:
        """Is there enough of the budget? Then it is counted."""
        if self._budget is not None and not self._budget.spend(exchange.endpoint):
            self.over_budget += 1
            return False
        self.counts[cause] += 1
        exchange.failed_by = cause
        return True

    def begin(self, exchange: Exchange) -> None:
        """From now on keep the body of a request that may be repeated."""
        request = exchange.request
        if request is not None and request.method in self.methods:
            exchange.kept = []


def keep(exchange: Exchange, parts: list[Bytes], account: Account) -> None:
    """`parts` are the next of the body; what is kept of it is charged to `account`."""
    if exchange.kept is None:
        return
    if exchange.bytes_in > RESEND_BYTES:
        forget(exchange, account)
    else:
        exchange.kept.extend(bytes(part) for part in parts)
        account.charge(sum(map(len, parts)))


def forget(exchange: Exchange, account: Account) -> None:
    """The body will not be wanted again."""
    account.release(sum(map(len, exchange.kept or ())))
    exchange.kept = None
