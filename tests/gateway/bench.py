"""A hop with ends in memory: a client's end, the inbound that reads it, and the ends of services."""

from __future__ import annotations

import math
from collections.abc import Callable

from engine.gateway.clocks import Timeouts
from engine.gateway.exchange import Exchange
from engine.gateway.head import request_head
from engine.gateway.inbound import Inbound
from engine.gateway.outbound import Outbound
from engine.gateway.pages import Pages
from engine.gateway.retry import Retries
from engine.gateway.role import Decision, Refuse, Route, Wait, Waiting
from engine.gateway.states import NEXT_ANSWER, NEXT_REQUEST, Answer, Request
from engine.loop.reactor import Reactor
from engine.wire import http1
from tests.loop.ends import End, Turns

GET = b"GET /a HTTP/1.1\r\nHost: x.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OTHERWISE = Refuse(502, "no available upstreams")


class CheckedInbound(Inbound):
    """Its states, and those of its exchanges' answers, move only as the tables say."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        if name == "state" and hasattr(self, "state") and value is not self.state:
            assert isinstance(value, Request)
            assert value in NEXT_REQUEST[self.state], f"{self.state.name} -> {value.name}"
        if name == "exchange" and isinstance(value, Exchange):
            value.__class__ = CheckedExchange
        super().__setattr__(name, value)


class CheckedExchange(Exchange):
    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        if name == "answer" and value is not self.answer:
            assert isinstance(value, Answer)
            assert value in NEXT_ANSWER[self.answer], f"{self.answer.name} -> {value.name}"
        super().__setattr__(name, value)


class MemoryOutbound(Outbound):
    __slots__ = ("_role",)

    def __init__(self, role: MemoryRole) -> None:
        super().__init__(End(role.turns))
        self._role = role

    def released(self, exchange: Exchange) -> None:
        self._role.idle.append(self)

    def gone(self) -> None:
        if self in self._role.idle:
            self._role.idle.remove(self)


class MemoryRole:
    """Routes every request to an outbound with an End, or says what `decides` says."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.timeouts = Timeouts()
        self.retries = Retries()
        self.pages = Pages()
        self.others = True  # may be asked
        self.max_head = 64 * 1024
        self.leaving = False
        self.decides: Callable[[], Decision] | None = None
        self.idle: list[MemoryOutbound] = []
        self.outbounds: list[MemoryOutbound] = []
        self.asked: list[tuple[Exchange, Outbound | None]] = []
        self.over: list[Exchange] = []

    @property
    def statuses(self) -> list[int]:
        return [exchange.status for exchange in self.over]

    def next_request(self, data: memoryview, start: int) -> tuple[http1.Request, int] | None:
        return http1.next_request(data, start, self.max_head)

    def begin(self, inbound: Waiting, exchange: Exchange, lost: Outbound | None) -> Decision:
        self.asked.append((exchange, lost))
        if self.decides is not None:
            return self.decides()
        return self.route(exchange, fresh=lost is not None)

    def route(self, exchange: Exchange, *, fresh: bool = False) -> Route:
        request = exchange.request
        assert request is not None
        head = request_head(request, request.lines)
        if self.idle and not fresh:
            return Route(self.idle.pop(), head)
        self.outbounds.append(MemoryOutbound(self))
        return Route(self.outbounds[-1], head)

    def has_another(self, exchange: Exchange, outbound: Outbound) -> bool:
        return self.others

    def finished(self, inbound: Waiting, exchange: Exchange) -> None:
        self.over.append(exchange)


class Bench:
    """A client's end, an inbound, and the ends of the services that were asked."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.turns = Turns()
        self.role = MemoryRole(self.turns)
        self.client = End(self.turns)
        self.inbound = CheckedInbound(self.client, self.role, reactor)
        self.forgotten = 0

    def service(self, number: int = -1) -> End:
        end = self.role.outbounds[number].outlet
        assert isinstance(end, End)
        return end

    def pass_seconds(self, seconds: float) -> None:
        """Let `seconds` pass on the reactor's clock."""
        self.reactor.now += seconds
        if self.inbound in self.reactor._clocked and self.inbound.deadline <= self.reactor.now:
            self.inbound.deadline = math.inf
            self.inbound.expired()
            self.turns.run()

    def have_it_wait(self, seconds: float = 10.0) -> None:
        """From now on the role looks for a way."""
        self.role.decides = lambda: Wait(self.reactor.now + seconds, OTHERWISE, self._forget)

    def _forget(self) -> None:
        self.forgotten += 1

    def find_a_way(self) -> None:
        """What the last request waits for is there."""
        exchange, _ = self.role.asked[-1]
        self.inbound.decide(exchange, self.role.route(exchange))
        self.turns.run()
