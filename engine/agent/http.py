"""An HTTP listener: each stream is an inbound, whose requests go to the service over a pool of kept-alive connections
that all the streams of the listener share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final

import trio

from engine.access_log import AccessLog
from engine.admin.metrics import AgentMetrics
from engine.agent.onward import Onward, Rewriting
from engine.agent.service import Service
from engine.agent.traced import Spans
from engine.gateway import record
from engine.gateway.clocks import Timeouts
from engine.gateway.exchange import Exchange, Watch
from engine.gateway.head import request_head
from engine.gateway.inbound import Inbound
from engine.gateway.outbound import Outbound
from engine.gateway.pages import Pages
from engine.gateway.retry import Retries
from engine.gateway.role import Decision, Refuse, Route, Wait, Waiting
from engine.gateway.states import Answer
from engine.log import get_logger
from engine.loop.connection import Connection
from engine.loop.reactor import Reactor
from engine.session.stream import Stream
from engine.wire import piko
from engine.wire.clients import Client
from engine.wire.http1 import Request, summary

SWEEP_SECONDS: Final = 1.0
UNREACHABLE: Final = Refuse(502, piko.UPSTREAM_UNREACHABLE)
TIMEOUT: Final = Refuse(504, piko.UPSTREAM_TIMEOUT)

NO_PAGES: Final = Pages()  # one for all listeners

log = get_logger("proxy.http")


class ServiceOutbound(Outbound):
    """A connection to the service, kept alive between requests."""

    __slots__ = ("_pool", "client", "connection", "idle_since")

    def __init__(self, connection: Connection, pool: HttpUpstream, client: Client | None) -> None:
        super().__init__(connection)
        self.client = client  # whose it is alone, if the service was told
        self.connection = connection
        self.idle_since = 0.0
        self._pool = pool

    def released(self, exchange: Exchange) -> None:
        self._pool.put_back(self)

    def gone(self) -> None:
        self._pool.forget(self)


class HttpUpstream:
    """The role of an HTTP listener (see gateway.role). Its connections run in `nursery`."""

    def __init__(
        self,
        service: Service,
        endpoint: str,
        reactor: Reactor,
        metrics: AgentMetrics,
        nursery: trio.Nursery,
        access_log: AccessLog | None = None,
        rewriting: Rewriting | None = None,
    ) -> None:
        # How slow a client may be is the node's to judge.
        self.timeouts = Timeouts(math.inf, math.inf, math.inf, service.timeout or math.inf, math.inf)
        self.retries = Retries()
        self.pages = NO_PAGES
        self.idle: dict[ServiceOutbound, None] = {}
        self.endpoint = endpoint
        self.watch: Callable[[Exchange], Watch] | None = None  # who looks at each exchange
        self.spans: Spans | None = None  # who traces them
        self.deadline = reactor.now + SWEEP_SECONDS
        self.service = service
        self._base_path = service.path.rstrip("/").encode()
        told = service.proxy_protocol > 0
        self._onward = Onward(service, rewriting, told=told) if told or rewriting is not None else None
        self._has_client = told  # each connection
        self._idle_of: dict[Client | None, ServiceOutbound] = {}  # those of `idle`, where each is one client's
        self._reactor = reactor
        self._metrics = metrics
        self._nursery = nursery
        self._access_log = access_log
        reactor.clock(self)

    def on_stream(self, stream: Stream) -> None:
        Inbound(stream, self, self._reactor)

    # -- gateway.Role

    def next_request(self, data: memoryview, start: int) -> tuple[Request, int] | None:
        return summary.next_request(data, start)

    def begin(self, inbound: Waiting, exchange: Exchange, lost: Outbound | None) -> Decision:
        request = exchange.request
        assert request is not None
        if lost is None:
            self._metrics.request_started(self.endpoint)
        exchange.endpoint = self.endpoint
        if self.watch is not None and exchange.watch is None:
            exchange.watch = self.watch(exchange)
        client: Client | None = None
        if self._onward is None:
            head = (_known_head if request.repeats else _head)(request, self._base_path)
        else:
            head, client = self._onward.sent(request)
            exchange.amend = self._onward.amend
        if self.spans is not None:
            self.spans.begin(inbound, exchange, lost)
            head = self.spans.told(exchange, head)
        return self.find(inbound, exchange, head, client, lost)

    def has_another(self, exchange: Exchange, outbound: Outbound) -> bool:
        return False

    def find(
        self, inbound: Waiting, exchange: Exchange, head: bytes, client: Client | None, lost: Outbound | None
    ) -> Decision:
        """By which connection a request goes, as which `head` says it. `client` is whose it has to be alone, if so."""
        while lost is None and (outbound := self._take(client)) is not None:
            if outbound.connection.look():
                return Route(outbound, head)
        connect = partial(self._connect, inbound, exchange, head, client)
        self._nursery.start_soon(self._reactor.supervise, "connect", connect, name="service connection")
        self._reactor.hand_over()
        return Wait(math.inf, UNREACHABLE, _nothing)

    def _take(self, client: Client | None) -> ServiceOutbound | None:
        """A connection that waits for a request, if there is one: the last one that has begun to."""
        if not self._has_client:
            return self.idle.popitem()[0] if self.idle else None
        own = self._idle_of.get(client)
        if own is not None:
            self.forget(own)
        return own

    async def _connect(self, inbound: Waiting, exchange: Exchange, head: bytes, client: Client | None) -> None:
        """Open a connection for `inbound`'s request, and run it for whatever comes after."""
        since = trio.current_time()
        try:
            connection = await self.service.connect(self._metrics, log, self.endpoint, client)
            if not connection.alive:
                raise ConnectionError("it has ended the connection at once")
        except (OSError, trio.TooSlowError) as error:
            slow = isinstance(error, trio.TooSlowError)
            if exchange.watch is not None:
                reason = f"no connection within {self.service.timeout:g} s" if slow else str(error)
                exchange.watch.failed(f"the service at {self.service} is unreachable: {reason}")
            self._reactor.call("connect", inbound, inbound.decide, exchange, TIMEOUT if slow else UNREACHABLE)
            return
        if exchange.watch is not None:
            exchange.watch.connected(trio.current_time() - since)
        outbound = ServiceOutbound(connection, self, client)
        if exchange.answer is Answer.ROUTING:
            self._reactor.call("connect", inbound, inbound.decide, exchange, Route(outbound, head))
        else:
            self.put_back(outbound)
        await connection.run()

    def put_back(self, outbound: ServiceOutbound) -> None:
        outbound.idle_since = self._reactor.now
        self.idle[outbound] = None
        if self._has_client:
            before = self._idle_of.get(outbound.client)
            if before is not None:  # a client has one, for its requests come one behind the other
                self.forget(before)
                before.outlet.close()
            self._idle_of[outbound.client] = outbound

    def forget(self, outbound: ServiceOutbound) -> None:
        """It does not wait for a request any more."""
        self.idle.pop(outbound, None)
        if self._has_client and self._idle_of.get(outbound.client) is outbound:
            del self._idle_of[outbound.client]

    def close(self) -> None:
        """Say goodbye to the service, on the connections that nobody uses."""
        while self.idle:
            self.idle.popitem()[0].outlet.close()
        self._idle_of.clear()

    def finished(self, inbound: Waiting, exchange: Exchange) -> None:
        if exchange.request is None:
            self._metrics.request_started(self.endpoint)
        if exchange.watch is not None:
            exchange.watch.finished()
        self._metrics.request_done(*exchange.figures(), self.endpoint, exchange.first_byte_seconds)
        if self._access_log is not None:
            trace = "" if self.spans is None else self.spans.trace_id(exchange)
            record.write(self._access_log, exchange, client="", endpoint=self.endpoint, trace=trace)
        if self.spans is not None:
            self.spans.finished(exchange)

    def expired(self) -> None:
        """Close what has idled for too long; and of what is more than `max_idle`, what nobody wanted for a while.

        Closing the latter at once would make a busy listener open and close a connection for every request.
        """
        now, service = self._reactor.now, self.service
        too_many = len(self.idle) - service.max_idle if service.max_idle >= 0 else 0
        for number, outbound in enumerate(tuple(self.idle)):  # the longest idle first
            idle_seconds = now - outbound.idle_since
            if idle_seconds < service.idle_seconds and (number >= too_many or idle_seconds < SWEEP_SECONDS):
                break
            self.forget(outbound)
            outbound.outlet.close()
        self.deadline = now + SWEEP_SECONDS

    def break_off(self, error: Exception) -> None:
        """Sweeping has failed, and will be tried again."""
        self.deadline = self._reactor.now + SWEEP_SECONDS


def _nothing() -> None: ...


def _head(request: Request, base_path: bytes) -> bytes:
    """How a request goes on to the service."""
    if request.intact and not base_path:
        return request.head
    return request_head(request, request.lines, base_path)


_known_head = lru_cache(maxsize=512)(_head)
