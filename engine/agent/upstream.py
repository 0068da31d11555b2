"""Stream -> service: what the agent does with each stream a node opens.

HTTP: each stream is a front, whose requests go to the service over a pool of kept-alive connections that all the
streams of a listener share. TCP: each stream has a connection of its own, relayed.
"""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import trio

from engine.access_log import AccessLog
from engine.admin.metrics import AgentMetrics
from engine.log import get_logger
from engine.transport.connection import Connection
from engine.transport.dial import dial_tcp
from engine.transport.exchange import Back, Front, Timeouts, passable
from engine.transport.link import Stream
from engine.transport.poller import current_poller
from engine.transport.pulse import Pulse
from engine.transport.relay import Relay
from engine.wire import http1, piko
from engine.wire.http1 import Request

SWEEP_SECONDS: Final = 1.0

log = get_logger("proxy.http")
tcp_log = get_logger("proxy.tcp")


@dataclass(frozen=True, slots=True)
class Service:
    """Where the service is and how to speak to it. `timeout`: seconds to connect, and for an answer to begin."""

    host: str
    port: int
    path: str = ""  # put before every request's target
    timeout: float = 10.0
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    max_idle: int = 100  # kept-alive connections; -1 for no limit
    idle_seconds: float = 90.0
    keep_alive_seconds: float = 30.0  # between TCP's own questions whether the other end lives

    async def connect(self, metrics: AgentMetrics) -> Connection:
        """Raises OSError, ssl.SSLError, or trio.TooSlowError after `timeout`."""
        since = trio.current_time()
        with trio.fail_after(self.timeout or math.inf):
            connection = await dial_tcp(self.host, self.port, tls=self.tls, server_name=self.server_name)
        connection.keep_alive(self.keep_alive_seconds)
        metrics.connected("service", trio.current_time() - since)
        return connection


class UpstreamBack(Back):
    """A connection to the service, kept alive between requests."""

    __slots__ = ("_pool", "connection", "idle_since")

    def __init__(self, connection: Connection, pool: HttpUpstream) -> None:
        super().__init__(connection)
        self.connection = connection
        self.idle_since = 0.0
        self._pool = pool

    def released(self) -> None:
        self._pool.put_back(self)

    def gone(self) -> None:
        self._pool.idle.pop(self, None)


class StreamFront(Front):
    """A stream of requests from a node."""

    __slots__ = ()


class HttpUpstream:
    """The role of an HTTP listener (see exchange.Role). Its connections run in `nursery`."""

    def __init__(
        self,
        service: Service,
        endpoint: str,
        pulse: Pulse,
        metrics: AgentMetrics,
        nursery: trio.Nursery,
        access_log: AccessLog | None = None,
    ) -> None:
        # How slow a client may be is the node's to judge.
        self.timeouts = Timeouts(math.inf, math.inf, math.inf, service.timeout or math.inf, math.inf)
        self.idle: dict[UpstreamBack, None] = {}
        self.endpoint = endpoint
        self.deadline = pulse.now + SWEEP_SECONDS
        self.leaving = False
        self._service = service
        self._base_path = service.path.rstrip("/").encode()
        self._pulse = pulse
        self._metrics = metrics
        self._nursery = nursery
        self._access_log = access_log
        pulse.watch(self)

    def on_stream(self, stream: Stream) -> None:
        StreamFront(stream, self, self._pulse)

    # -- exchange.Role

    def begin(self, front: Front, request: Request) -> Back | None:
        if not front.attempt:
            self._metrics.request_started(self.endpoint)
        front.head = (_known_head if request.repeats else _head)(request, self._base_path)
        if self.idle and not front.attempt:
            return self.idle.popitem()[0]
        self._nursery.start_soon(self._connect, front, request, name="upstream connection")
        current_poller().hand_over()
        return None

    async def _connect(self, front: Front, request: Request) -> None:
        """Open a connection for `front`'s request, and run it for whatever comes after."""
        service = self._service
        try:
            connection = await service.connect(self._metrics)
        except (OSError, ssl.SSLError, trio.TooSlowError) as error:
            slow = isinstance(error, trio.TooSlowError)
            log.warning(
                "upstream unreachable",
                endpoint=self.endpoint,
                host=service.host,
                port=service.port,
                error=str(error) or "timeout",
            )
            if front.request is request and front.back is None:
                front.fail(504 if slow else 502, piko.UPSTREAM_TIMEOUT if slow else piko.UPSTREAM_UNREACHABLE)
            return
        back = UpstreamBack(connection, self)
        if front.request is request and front.back is None and not front.answered:
            front.serve_by(back)
        else:
            self.put_back(back)
        await connection.run()

    def put_back(self, back: UpstreamBack) -> None:
        back.idle_since = self._pulse.now
        self.idle[back] = None

    def close(self) -> None:
        """Say goodbye to the service, on the connections that nobody uses."""
        while self.idle:
            self.idle.popitem()[0].outlet.close()

    def finished(self, front: Front) -> None:
        if front.attempt < 0:
            self._metrics.request_started(self.endpoint)
        self._metrics.request_done(*front.figures(), self.endpoint, front.first_byte_seconds)
        if self._access_log is not None:
            front.write(self._access_log, client="", endpoint=self.endpoint)

    def expired(self) -> None:
        """Close what has idled for too long; and of what is more than `max_idle`, what nobody wanted for a while.

        Closing the latter at once would make a busy listener open and close a connection for every request.
        """
        now, service = self._pulse.now, self._service
        too_many = len(self.idle) - service.max_idle if service.max_idle >= 0 else 0
        for number, back in enumerate(tuple(self.idle)):  # the longest idle first
            idle_seconds = now - back.idle_since
            if idle_seconds < service.idle_seconds and (number >= too_many or idle_seconds < SWEEP_SECONDS):
                break
            del self.idle[back]
            back.outlet.close()
        self.deadline = self._pulse.now + SWEEP_SECONDS


def _head(request: Request, base_path: bytes) -> bytes:
    """How a request goes on to the service."""
    return (not base_path and request.whole) or passable(request, http1.end_to_end(request), base_path)


_known_head = lru_cache(maxsize=http1.KNOWN_HEADS)(_head)


class TcpUpstream:
    """A TCP listener: one connection to the service per stream."""

    def __init__(self, service: Service, endpoint: str, metrics: AgentMetrics, nursery: trio.Nursery) -> None:
        self.endpoint = endpoint
        self._service = service
        self._nursery = nursery
        self._metrics = metrics

    def close(self) -> None:
        """Nothing is kept here."""

    def on_stream(self, stream: Stream) -> None:
        early = _Early()
        stream.receiver = early
        self._nursery.start_soon(self._serve, stream, early, name="tcp upstream")
        current_poller().hand_over()

    async def _serve(self, stream: Stream, early: _Early) -> None:
        service = self._service
        try:
            connection = await service.connect(self._metrics)
        except (OSError, ssl.SSLError, trio.TooSlowError) as error:
            tcp_log.warning(
                "upstream unreachable",
                endpoint=self.endpoint,
                host=service.host,
                port=service.port,
                error=str(error) or "timeout",
            )
            stream.abort()
            return
        if early.error is not None:
            connection.abort()
            return
        relay = Relay(stream, connection)
        early.replay(relay, stream)
        tcp_log.debug("connection opened", endpoint=self.endpoint)
        try:
            await connection.run()
        finally:
            if not stream.gone and not (stream.ended_there and stream.ended_here):
                stream.abort()
            self._metrics.tcp_done(self.endpoint, relay.bytes_right, relay.bytes_left)


class _Early:
    """Keeps what a stream brings while its connection to the service is being made (a window at most)."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False
        self.error: Exception | None = None

    def received(self, data: memoryview) -> None:
        self._data += data

    def ended(self) -> None:
        self._ended = True

    def lost(self, error: Exception) -> None:
        self.error = error

    def drained(self) -> None: ...

    def replay(self, relay: Relay, stream: Stream) -> None:
        receiver = stream.receiver
        if self._data:
            receiver.received(memoryview(self._data))
        if self._ended:
            receiver.ended()
