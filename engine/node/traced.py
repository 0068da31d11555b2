"""A client whose requests are traced. A node that traces nothing has none, and so no cost.

    SERVER  the request at the node, from its head to the last byte of its answer
    CLIENT  each attempt to have it served, by an agent's session or by another node's

The last span is the one that is told to the agent, as the parent of its own.
"""

from __future__ import annotations

from time import perf_counter

from engine.gateway.exchange import Exchange
from engine.gateway.retry import LOST
from engine.gateway.role import Decision, Route, Waiting
from engine.http2.stream import Stream
from engine.loop.connection import Connection
from engine.node.asked import Asked
from engine.node.client import BUSY, Client, Clients
from engine.node.peers import PeerWay
from engine.node.registration import Registration
from engine.node.way import Way
from engine.routing import tenants
from engine.session.session import NoStream
from engine.tracing.span import Kind, Span, Value, described, described_towards, host_of, name_of, server_of
from engine.tracing.tracer import Trace, new_span_id
from engine.wire.trace_context import parent_of


class TracedClient(Client):
    """One request after the other, so what is known of the latest is all there is to know."""

    def __init__(
        self,
        connection: Connection,
        port: Clients,
        *,
        handed: bool = False,
        stream: Stream | None = None,
        streams_body: bool = False,
    ) -> None:
        super().__init__(connection, port, handed=handed, stream=stream, streams_body=streams_body)
        self._exchange: Exchange | None = None  # that `_trace` is about
        self._trace: Trace | None = None
        self._own: bytes = b""  # the id of the node's span, if there is one
        self._sent: Span | None = None  # the attempt under way

    def _trace_of(self, exchange: Exchange) -> Trace | None:
        """Of a request that is sampled; which is decided when it is first asked for."""
        tracer, request = self._port.tracer, exchange.request
        if tracer is None or request is None:
            return None
        if exchange is not self._exchange:
            self._exchange, self._sent = exchange, None
            self._trace = tracer.sample(request.head, self._port.reactor.now)
            self._own = b"" if self._trace is None else new_span_id()
        return self._trace

    def trace_id(self, exchange: Exchange) -> str:
        trace, request = self._trace_of(exchange), exchange.request
        if trace is not None:
            return trace.id.decode()
        parent = parent_of(request.head) if request is not None else None
        return parent.trace.decode() if parent is not None else ""

    def _route(self, way: Way, exchange: Exchange, asked: Asked) -> Decision:
        trace, request = self._trace_of(exchange), exchange.request
        if trace is None or request is None:
            return super()._route(way, exchange, asked)
        self._end_attempt(None, "connection_lost" if exchange.failed_by == LOST else exchange.failed_by)
        try:
            outbound = way.take(fresh=bool(exchange.attempts))
        except NoStream:
            return BUSY
        self._sent = span = Span(
            Kind.CLIENT, name_of(request), trace.id, new_span_id(), self._own, trace.flags, perf_counter()
        )
        base = f"{self._proto.decode()}://{host_of(request) or asked.endpoint}"
        span.attributes = described_towards(request, base, {**server_of(request), **self._where(exchange)})
        if exchange.attempts:
            span.attributes["http.request.resend_count"] = exchange.attempts
        if isinstance(way, Registration):
            span.attributes["trioduct.carrier"] = str(way.session.carrier.kind)
            span.attributes["network.peer.address"] = way.client
        elif isinstance(way, PeerWay):
            span.attributes["trioduct.peer"] = way.link.entry.id
        head = asked.traced_head_for(trace, span.id, summaries=way.summaries, hides=self._hides, client=self._told(way))
        return Route(outbound, head)

    def finished(self, inbound: Waiting, exchange: Exchange) -> None:
        super().finished(inbound, exchange)
        trace, request, tracer = self._trace_of(exchange), exchange.request, self._port.tracer
        self._exchange = self._trace = None  # an idle connection keeps nothing
        if trace is None or request is None or tracer is None:
            return
        self._end_attempt(exchange)
        span = Span(Kind.SERVER, name_of(request), trace.id, self._own, trace.parent, trace.flags, exchange.started_at)
        span.attributes = described(request, self._proto.decode(), by_http2=self._stream is not None)
        span.attributes.update(self._where(exchange))
        span.attributes["client.address"] = self._client
        span.attributes["network.peer.address"] = self.address
        span.end(exchange)
        tracer.put(span)

    def _end_attempt(self, exchange: Exchange | None, error: str = "") -> None:
        """The attempt under way is over, if there is one: with the exchange, or by an `error` before that."""
        span, self._sent = self._sent, None
        if span is not None and self._port.tracer is not None:
            span.end(exchange, error)
            self._port.tracer.put(span)

    def _where(self, exchange: Exchange) -> dict[str, Value]:
        endpoint, tenant = tenants.split(exchange.endpoint)
        found: dict[str, Value] = {}
        if self._port.tracer is not None:
            found["trioduct.node"] = self._port.tracer.node
        if endpoint:
            found["trioduct.endpoint"] = endpoint
        if tenant:
            found["trioduct.tenant"] = tenant
        return found
