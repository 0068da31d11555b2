"""The spans of an HTTP listener's requests: one for each, from the node's stream to the service and back."""

from __future__ import annotations

from engine.agent.service import Service
from engine.gateway.exchange import Exchange
from engine.gateway.inbound import Inbound
from engine.gateway.outbound import Outbound
from engine.gateway.role import Waiting
from engine.loop.reactor import Reactor
from engine.session.session import Session
from engine.session.stream import Stream
from engine.tracing.span import Kind, Span, Value, described_towards, name_of
from engine.tracing.tracer import Trace, Tracer, new_span_id
from engine.wire import http1
from engine.wire.trace_context import parent_of, replaced


class Spans:
    """The spans of a listener's requests that are under way, as far as they are sampled. `version` is the one of HTTP
    that its service speaks.
    """

    def __init__(self, service: Service, endpoint: str, reactor: Reactor, tracer: Tracer, version: str = "1.1") -> None:
        self._endpoint = endpoint
        self._reactor = reactor
        self._tracer = tracer
        self._version = version
        self._under_way: dict[Exchange, tuple[Trace, Span]] = {}
        self._server: dict[str, Value] = {"server.address": service.host}
        if service.port:
            self._server["server.port"] = service.port
        self._url = str(service) if not service.unix else f"http://{service.host}"

    def begin(self, inbound: Waiting, exchange: Exchange, lost: Outbound | None) -> None:
        """A request has come, or is to be sent again because an outbound was lost."""
        request = exchange.request
        assert request is not None
        trace = self._tracer.sample(request.head, self._reactor.now) if lost is None else None
        if trace is None:
            return
        span = Span(
            Kind.CLIENT, name_of(request), trace.id, new_span_id(), trace.parent, trace.flags, exchange.started_at
        )
        span.attributes = described_towards(request, self._url, self._server, self._version)
        span.attributes["trioduct.endpoint"] = self._endpoint
        # A replay of the inspector has no stream.
        stream = inbound.inlet if isinstance(inbound, Inbound) else None
        session = stream.session if isinstance(stream, Stream) else None
        if isinstance(session, Session):
            span.attributes["trioduct.carrier"] = str(session.carrier.kind)
        self._under_way[exchange] = trace, span

    def told(self, exchange: Exchange, head: bytes) -> bytes:
        """The request's head, with this span as the service's parent."""
        known = self._under_way.get(exchange)
        if known is None:
            return head
        trace, span = known
        lines = head.split(b"\r\n")[:-2]
        return http1.encode_lines(replaced(lines, trace.id, span.id, trace.flags, begins=not trace.parent))

    def trace_id(self, exchange: Exchange) -> str:
        known, request = self._under_way.get(exchange), exchange.request
        if known is not None:
            return known[0].id.decode()
        parent = parent_of(request.head) if request is not None else None
        return parent.trace.decode() if parent is not None else ""

    def finished(self, exchange: Exchange) -> None:
        known = self._under_way.pop(exchange, None)
        if known is not None:
            known[1].end(exchange)
            self._tracer.put(known[1])
