"""A listener whose service speaks HTTP/2: its requests are streams of a few connections, which all of them share.

A connection is used once the service has said how many streams it may have. Requests that come before wait, and so do
those for which no connection has room.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import trio

from engine import http2
from engine.access_log import AccessLog
from engine.admin.metrics import AgentMetrics
from engine.agent.http import TIMEOUT, UNREACHABLE, HttpUpstream
from engine.agent.onward import Rewriting
from engine.agent.service import Service
from engine.gateway.exchange import Exchange
from engine.gateway.outbound import Outbound
from engine.gateway.role import Decision, Refuse, Route, Wait, Waiting
from engine.http2.connection import Timeouts
from engine.log import get_logger
from engine.loop.reactor import Reactor
from engine.wire.clients import Client

MAX_CONNECTIONS: Final = 16
STALL_SECONDS: Final = 60.0
NO_UPGRADE: Final = Refuse(501, "the service speaks HTTP/2, and cannot switch protocols")

log = get_logger("proxy.http")


class CallOutbound(Outbound):
    """A stream, which carries one request."""

    __slots__ = ()

    def released(self, exchange: Exchange) -> None:
        self.outlet.close()


class Http2Upstream(HttpUpstream):
    """The role of such a listener."""

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
        super().__init__(service, endpoint, reactor, metrics, nursery, access_log, rewriting)
        self._connections: list[http2.Connection] = []
        self._dials = False
        self._waiting: dict[Exchange, tuple[Waiting, bytes]] = {}

    def find(
        self, inbound: Waiting, exchange: Exchange, head: bytes, client: Client | None, lost: Outbound | None
    ) -> Decision:
        request = exchange.request
        assert request is not None
        if request.upgrade:
            return NO_UPGRADE
        connection = self._with_room()
        if connection is not None:
            return Route(CallOutbound(connection.open()), head)
        self._waiting[exchange] = (inbound, head)
        self._open_another()
        return Wait(math.inf, UNREACHABLE, partial(self._forget, exchange))

    def close(self) -> None:
        """Say goodbye to the service."""
        for connection in tuple(self._connections):
            connection.leave()

    def expired(self) -> None:
        """Close what has idled for too long."""
        now = self._reactor.now
        for connection in tuple(self._connections):
            if connection.idle and now - connection.idle_since >= self.service.idle_seconds:
                connection.leave()
        super().expired()

    def _forget(self, exchange: Exchange) -> None:
        self._waiting.pop(exchange, None)

    def _with_room(self) -> http2.Connection | None:
        return next((one for one in self._connections if one.has_room), None)

    def _open_another(self) -> None:
        opening = self._dials or not all(one.heard_settings for one in self._connections)
        if not opening and len(self._connections) < MAX_CONNECTIONS:
            self._dials = True
            self._nursery.start_soon(self._reactor.supervise, "connect", self._open, name="service connection")
            self._reactor.hand_over()

    async def _open(self) -> None:
        """Open a connection, and run it."""
        service = self.service
        try:
            connection = await service.connect(self._metrics, log, self.endpoint)
        except (OSError, trio.TooSlowError) as error:
            slow = isinstance(error, trio.TooSlowError)
            told = f"no connection within {service.timeout:g} s" if slow else str(error)
            self._refuse_all(TIMEOUT if slow else UNREACHABLE, told)
            return
        finally:
            self._dials = False
        if service.tls is not None and connection.alpn != "h2":
            connection.abort()
            self._refuse_all(UNREACHABLE, "it has not agreed to speak HTTP/2 (ALPN)")
            return
        opened = http2.Connection(
            connection,
            self._reactor,
            timeouts=Timeouts(service.timeout or math.inf, math.inf, STALL_SECONDS),
            on_end=lambda reason: self._ended(opened, reason),
            on_room=self._dispatch,
            scheme=b"http" if service.tls is None else b"https",
        )
        self._connections.append(opened)
        await connection.run()

    def _ended(self, connection: http2.Connection, reason: str) -> None:
        """A connection is over, or (`reason` stalled) a stream of it."""
        if connection.over and connection in self._connections:
            self._connections.remove(connection)
            if not connection.heard_settings:
                self._refuse_all(UNREACHABLE, f"it does not speak HTTP/2 ({reason or 'it has hung up'})")
            elif self._waiting:
                self._open_another()

    def _dispatch(self) -> None:
        """A connection has room."""
        while self._waiting:
            connection = self._with_room()
            if connection is None:
                self._open_another()
                return
            exchange = next(iter(self._waiting))
            inbound, head = self._waiting.pop(exchange)
            route = Route(CallOutbound(connection.open()), head)
            self._reactor.call("connect", inbound, inbound.decide, exchange, route)

    def _refuse_all(self, refusal: Refuse, told: str) -> None:
        """Who waits for a connection gets none."""
        log.warning("no HTTP/2 with the service", endpoint_id=self.endpoint, error=told)
        waiting, self._waiting = self._waiting, {}
        for exchange, (inbound, _) in waiting.items():
            if exchange.watch is not None:
                exchange.watch.failed(f"the service at {self.service}: {told}")
            self._reactor.call("connect", inbound, inbound.decide, exchange, refusal)
