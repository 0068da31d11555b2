"""What the node decides about one client's requests: which endpoint, whether it may, and by which session."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import trio
from h2.errors import ErrorCodes

from engine.access_log import AccessLog
from engine.admin.metrics import NodeMetrics
from engine.auth.verifier import Claims, Verifies
from engine.auth.visitors import Guard, Guards, Verdict
from engine.carriers.host import Host
from engine.carriers.websocket import MAX_FRAME, WebSocketCarrier
from engine.cluster.link import Link, level_of
from engine.errors import HTTPError, RemoteProtocolError, Unauthorized
from engine.gateway import record
from engine.gateway.clocks import Timeouts
from engine.gateway.exchange import Exchange
from engine.gateway.outbound import Outbound
from engine.gateway.pages import Pages
from engine.gateway.retry import Retries
from engine.gateway.role import Decision, Refuse, Route, TakeOver, Wait, Waiting
from engine.http2.stream import Stream
from engine.limits import Counts, Rates, Traffic, Visits, Whose, client_of
from engine.log import get_logger
from engine.loop.connection import Connection
from engine.loop.memory import Shares
from engine.loop.reactor import Reactor
from engine.loop.reading import Reader
from engine.node import sticky
from engine.node.aborts import Aborts
from engine.node.admission import logged, party_of, seconds_left, tenant_in
from engine.node.asked import Asked
from engine.node.legs import TOO_MANY, Leg, Legs
from engine.node.peers import Peers, PeerWay
from engine.node.sticky import Sticky
from engine.node.trust import Trust
from engine.node.visitors import BUSY as CHECKS_BUSY
from engine.node.visitors import CHECK_SECONDS, Visitors
from engine.node.way import ELSEWHERE, StreamOutbound, Way
from engine.routing import tenants
from engine.routing.domains import Domains
from engine.routing.registry import Registry
from engine.routing.tenants import HostPattern
from engine.session.liveness import Budget
from engine.session.session import NoStream
from engine.tracing.tracer import Tracer
from engine.tunnel.paced import paced
from engine.tunnel.relay import Relay
from engine.wire import clients, http1, http2, peers, piko, posts, proxy_protocol, resumption, websocket
from engine.wire.http1 import MAX_HEAD, Fields, Request
from engine.wire.origin import may_open
from engine.wire.peers import Port
from engine.wire.resumption import New, Resume

LEG_PATH: Final = posts.TCP_PATH.encode()
NO_UPSTREAMS = Refuse(502, piko.NO_AVAILABLE_UPSTREAMS)
BUSY = Refuse(503, "too many streams are open")
HTTP1_ONLY = Refuse(505, "expected HTTP/1.1")
PREFACE: Final = Request(http2.PREFACE_HEAD, [], False, b"PRI", b"*", 11, b"", 0, True, b"", False, [])

LINK_SECONDS: Final = 2.0  # for the link to a peer that has a session
UNSERVED_LINES: Final = 10
UNSERVED_SECONDS: Final = 60.0
HANDSHAKE_SECONDS: Final = 10.0

log = get_logger("proxy.http")
port_log = get_logger("proxy")


class Unserved:
    """Clients whose endpoint nobody offers, as the log tells of them where no access log does.

    `UNSERVED_LINES` within `UNSERVED_SECONDS` at the most, for strangers can ask for anything; the next line says how
    many were left out.
    """

    def __init__(self) -> None:
        self._budget = Budget(UNSERVED_LINES, UNSERVED_SECONDS)
        self._left_out = 0

    def tell(self, key: str, client: str, now: float, why: str = piko.NO_AVAILABLE_UPSTREAMS) -> None:
        """`client`, who wanted the endpoint of this key, was sent away."""
        if not self._budget.spend(now):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        if left_out:
            log.warning(why, **logged(key), client_ip=client, left_out=left_out)
        else:
            log.warning(why, **logged(key), client_ip=client)


@dataclass(eq=False, slots=True)
class Clients:
    """What is the same for all clients of a port, and what they share.

    `patient_until`: until then (in the reactor's seconds) a request waits for an endpoint that has no session yet.
    Agents that lost the node's predecessor are on their way.
    """

    registry: Registry[Way]
    reactor: Reactor
    metrics: NodeMetrics
    timeouts: Timeouts
    retries: Retries = field(default_factory=Retries)
    pages: Pages = field(default_factory=Pages)
    max_head: int = MAX_HEAD
    verifier: Verifies | None = None
    hosts: HostPattern | None = None  # that name a tenant; None where there are no tenants
    domains: Domains = field(default_factory=Domains)
    sticky: Sticky | None = None
    trust: Trust = field(default_factory=Trust)
    proxy_protocol: bool = False  # spoken by who is trusted
    allowed_origins: frozenset[str] = frozenset()  # of pages that may open TCP endpoints
    access_log: AccessLog | None = None
    secure: bool = False  # by TLS, here or in front of the port
    patient_until: float = -math.inf
    aborts: Aborts = field(default_factory=Aborts)
    unserved: Unserved = field(default_factory=Unserved)
    let_in_by: dict[Client, Claims] = field(default_factory=dict)  # requests under way by tokens that can be revoked
    visits: Visits = field(default_factory=Visits.unlimited)
    traffic: Traffic | None = None  # where it is limited
    shares: Shares | None = None  # of the memory, where clients have names
    guards: Guards | None = field(init=False)  # of `visitors`
    relayed: int = 0  # raw TCP connections without a session
    # Speaks HTTP/2 on a connection, of whose preface so much was read; None where it is not spoken.
    http2: Callable[[Connection, int], None] | None = None
    http2_ended: Counter[str] = field(default_factory=Counter)  # connections and streams of HTTP/2, by reason
    streaming: Timeouts = field(init=False)  # for requests whose bodies may rest
    host: Host[Leg] = field(init=False)
    tracer: Tracer | None = None
    legs: Legs = field(kw_only=True)
    visitors: Visitors = field(kw_only=True)
    peers: Peers | None = None

    def __post_init__(self) -> None:
        self.host = Host(self.legs, self.reactor)
        self.streaming = replace(self.timeouts, pause=math.inf)
        self.guards = self.visitors.guards

    async def let_in(self, connection: Connection) -> bool:
        """Find out who calls, before anything else is read: may it go on?

        Who is trusted and speaks the PROXY protocol says first for whom it calls. From there on the connection is that
        client's.
        """
        if self.proxy_protocol and self.trust.covers(connection.peer[0]):
            try:
                with trio.fail_after(HANDSHAKE_SECONDS):
                    header = await Reader(connection).until(proxy_protocol.header_end)
                connection.peer = proxy_protocol.source(header) or connection.peer
            except (OSError, trio.TooSlowError, RemoteProtocolError) as error:
                told = str(error) or "timeout"
                port_log.info("no PROXY header from a trusted proxy", client_ip=connection.peer[0], error=told)
                return False
        address, now = connection.peer[0], self.reactor.now
        if self.aborts.is_banned(address, now):
            return False
        return self.trust.covers(address) or not self.visits.refuse(address, now)

    def end_revoked(self) -> None:
        """Break off what goes on by tokens that are revoked."""
        verifier = self.verifier
        assert verifier is not None
        for client, claims in tuple(self.let_in_by.items()):
            if verifier.is_revoked(claims):
                client.break_off("token revoked")
        self.legs.end_revoked()

    @property
    def limits(self) -> dict[str, Rates | Counts]:
        """By their names."""
        traffic = self.traffic.tables if self.traffic is not None else {}
        return {
            **traffic,
            "connections": self.visits.open,
            "connection_rate": self.visits.new,
            "aborts": self.aborts.rates,
            "carriers": self.host.crowd.all,
            "carriers of one": self.host.crowd.each,
            "suspended": self.legs.kept.crowd.all,
            "suspended of one": self.legs.kept.crowd.each,
        }

    @property
    def tcp_connections(self) -> int:
        """Raw TCP connections that are being relayed."""
        return self.relayed + self.legs.open


class Client:
    """A client's connection, or a stream of one: the role of its inbound (see gateway.role)."""

    def __init__(
        self,
        connection: Connection,
        port: Clients,
        *,
        handed: bool = False,
        stream: Stream | None = None,
        streams_body: bool = False,
    ) -> None:
        """`handed`: another node has handed the connection over to us. `stream`: it speaks HTTP/2, and this is one of
        its streams; `streams_body`: what comes on it may rest.
        """
        self.retries: Retries = port.retries
        self.pages: Pages = port.pages
        self.timeouts: Timeouts = port.streaming if streams_body else port.timeouts
        self._connection = connection
        self._stream = stream
        self._port = port
        self._handed = handed
        self._proto = b"https" if port.secure else b"http"
        # Of a peer whose word counts for who the client is.
        self._trust: Trust | None = port.trust if port.trust.covers(connection.peer[0]) else None
        self._client = connection.peer[0]  # who has sent the latest request
        self._asked: Asked | None = None  # by that
        self._claims: Claims | None = None  # what its token permits, if one was asked for
        self._whose = Whose("", "", "")  # its latest request is
        self._hides = False  # what it shows as Authorization was for the node

    def next_request(self, data: memoryview, start: int) -> tuple[Request, int] | None:
        try:
            return http1.next_request(data, start, self._port.max_head)
        except HTTPError:
            if self._speaks_http2(data, start):
                return PREFACE, start + len(http2.PREFACE_HEAD)
            raise

    def _speaks_http2(self, data: memoryview, start: int) -> bool:
        """Has a connection begun with the preface of HTTP/2 (RFC 9113, 3.3)? By TLS it is agreed on before."""
        if self._port.http2 is None or self._stream is not None or self._connection.bytes_out:
            return False
        return data[start : start + 18] == http2.PREFACE_HEAD

    @property
    def address(self) -> str:
        return self._connection.peer[0]

    @property
    def _client_port(self) -> int:
        return self._connection.peer[1] if self._client == self._connection.peer[0] else 0

    def begin(self, inbound: Waiting, exchange: Exchange, lost: Outbound | None) -> Decision:
        port, request = self._port, exchange.request
        assert request is not None
        if port.peers is not None and not self._handed:
            if request.target == peers.PATH:
                return self._take_over(partial(self._accept_link, port.peers, request))
            if (owner := port.peers.owner(request)) is not None:
                start = partial(port.peers.start_hand_over, owner, self._connection, Port.PROXY, request)
                return self._take_over(start)
        if request.method == b"POST" and request.target.startswith(LEG_PATH):
            back = partial(_give_back, inbound)
            return self._take_over(partial(port.host.take, self._connection, request, back, last=self._handed))
        if lost is None:
            port.metrics.request_started()
        # A client that repeats itself asks for the same; and the parser gives equal heads the same object.
        asked = self._asked
        if asked is None or asked.request is not request or asked.domains_then != port.domains.changes:
            asked = Asked(
                request,
                self.address,
                self._proto,
                takes_tokens=port.verifier is not None,
                trust=self._trust,
                hosts=port.hosts,
                domains=port.domains,
            )
            self._asked = asked if request.repeats else None
            self._client = asked.client
        if asked.defect:
            return Refuse(400, asked.defect)
        exchange.endpoint = key = asked.key
        if not asked.endpoint:
            return TakeOver(self._begin_http2) if request is PREFACE else Refuse(400, piko.MISSING_ENDPOINT_ID)
        self._claims = None
        self._hides = False
        if port.verifier is not None:
            try:
                claims = port.verifier.verify(asked.own_credentials, asked.credentials, asked.tenants)
                claims.check(asked.endpoint)
            except Unauthorized as error:
                return Refuse(401, str(error))
            if claims.tenant:
                exchange.endpoint = key = tenants.key(asked.endpoint, claims.tenant)
            self._claims = claims
            if claims.token_id:
                port.let_in_by[self] = claims
            if request.upgrade:
                exchange.expires_at = port.reactor.now + seconds_left(claims)
        if port.shares is not None or port.traffic is not None:
            self._count_for(Whose(key, party_of(self._claims), tenants.split(key)[1]))
            if port.traffic is not None and lost is None:
                seconds = port.traffic.ask(self._whose, port.reactor.now)
                if seconds:
                    return Refuse(429, TOO_MANY, seconds)
                if request.upgrade:
                    exchange.pace = port.traffic.pace(self._whose)
        if port.guards is not None:
            guard = port.guards.of(*tenants.split(key))
            if guard is not None:
                go_on = partial(self._let_in, inbound, exchange, asked, lost)
                return self._ask(guard, inbound, exchange, asked, go_on)
        return self._let_in(inbound, exchange, asked, lost)

    def _take_over(self, start: Callable[[], None]) -> Decision:
        """Go on with the connection itself, which has to be this request's alone."""
        if self._stream is None:
            return TakeOver(start)
        self._stream.refusal = ErrorCodes.HTTP_1_1_REQUIRED  # browsers ask again, by HTTP/1.1
        return HTTP1_ONLY

    def _begin_http2(self) -> None:
        begin = self._port.http2
        assert begin is not None
        self._port.metrics.request_left()
        begin(self._connection, len(http2.PREFACE_HEAD))

    def _let_in(self, inbound: Waiting, exchange: Exchange, asked: Asked, lost: Outbound | None) -> Decision:
        """By the node's own word the request may go on."""
        port = self._port
        avoid = lost.way if isinstance(lost, StreamOutbound) else None
        way = port.registry.pick(exchange.endpoint, avoid=avoid) if port.sticky is None else self._pick(exchange, avoid)
        if asked.is_tcp:
            return self._begin_tcp(inbound, exchange, asked, way, port.reactor.now)
        return self._find(inbound, exchange, asked, way, port.reactor.now, patient=lost is None)

    def _pick(self, exchange: Exchange, avoid: Way | None) -> Way | None:
        """A session, where clients may be sticky (see sticky)."""
        port, request, key = self._port, exchange.request, exchange.endpoint
        assert port.sticky is not None
        assert request is not None
        rule = port.sticky.of(*tenants.split(key))
        best: Way | None = None
        if rule == "client":
            client = client_of(self._client)
            best = port.registry.pick_best(key, lambda way: sticky.rank(client, way.agent, way.weight), avoid=avoid)
        elif rule == "cookie":
            exchange.amend = None  # of an attempt before
            said = sticky.agent_in(request)
            if said:
                best = port.registry.pick_best(key, lambda way: float(way.agent == said), avoid=avoid)
            if best is None:
                best = port.registry.pick(key, avoid=avoid)
                if best is not None and best.agent:
                    exchange.amend = partial(sticky.with_cookie, best.agent, self._proto == b"https")
        return port.registry.pick(key, avoid=avoid) if best is None else best

    def has_another(self, exchange: Exchange, outbound: Outbound) -> bool:
        way = outbound.way if isinstance(outbound, StreamOutbound) else None
        return self._port.registry.has_other(exchange.endpoint, way)

    def _ask(
        self,
        guard: Guard,
        inbound: Waiting,
        exchange: Exchange,
        asked: Asked,
        go_on: Callable[[], Decision],
    ) -> Decision:
        """What `go_on` decides if the guard lets the client in; it may be asked when a password has been checked."""
        port, client = self._port, self._client
        verdict = guard.judge(client, asked.credentials)
        if verdict is Verdict.WELCOME:
            self._hides = self._hides or guard.users is not None
            return go_on()
        if verdict is not Verdict.UNCHECKED:
            exchange.refused = verdict.name.lower()
            return port.visitors.refuse(verdict)
        users, (shown,) = guard.users, asked.credentials
        assert users is not None

        def again(right: bool) -> Decision:
            if right:
                self._hides = True
                return go_on()
            exchange.refused = "credentials"
            return port.visitors.refuse(Verdict.CREDENTIALS)

        def told(right: bool) -> None:
            port.reactor.call("visitor", inbound, lambda: inbound.decide(exchange, again(right)))

        forget = port.visitors.passwords.ask(users, shown, client_of(client), told)
        if forget is None:
            port.visitors.refused["busy"] += 1
            exchange.refused = "busy"
            return CHECKS_BUSY
        port.reactor.hand_over()
        return Wait(port.reactor.now + CHECK_SECONDS, CHECKS_BUSY, forget)

    def _ask_agent(
        self,
        guard: Guard,
        way: Way,
        inbound: Waiting,
        exchange: Exchange,
        asked: Asked,
        go_on: Callable[[], Decision],
    ) -> Decision:
        """`_ask`, where the agent of `way` lets in certain visitors only: who has its session, asks."""
        if guard is not ELSEWHERE:
            return self._ask(guard, inbound, exchange, asked, go_on)
        if self._handed or not isinstance(way, PeerWay):  # it has moved meanwhile: the next attempt finds it
            return NO_UPSTREAMS
        return self._take_over(partial(self._hand_over, exchange, way.link))

    def _hand_over(self, exchange: Exchange, link: Link) -> None:
        """Another node goes on with the connection, from this request on, and tells of it."""
        port, request = self._port, exchange.request
        assert request is not None
        assert port.peers is not None
        port.let_in_by.pop(self, None)
        port.metrics.request_left()
        port.peers.start_hand_over(link, self._connection, Port.PROXY, request)

    def _count_for(self, whose: Whose) -> None:
        before, self._whose = self._whose, whose
        if self._port.shares is not None and whose[1:] != before[1:]:
            self._port.shares.book(self._connection.account, whose.party, whose.tenant)

    def _find(
        self, inbound: Waiting, exchange: Exchange, asked: Asked, way: Way | None, since: float, *, patient: bool
    ) -> Decision:
        """By which session a request goes, which waits for one if it may be expected. `patient`: also for an agent that
        is not known yet, or that is cut off and may not come back. Nothing of it is sent to the latter, so whichever
        session is there first serves it.
        """
        port = self._port
        if way is None:
            until = since + LINK_SECONDS if port.registry.expects(exchange.endpoint) else -math.inf
            if patient:
                until = max(until, port.patient_until)
        elif patient and way.suspended:
            until = min(way.back_by, since + port.timeouts.answer)
        elif way.guard is None:
            return self._route(way, exchange, asked)
        else:
            go_on = partial(self._route, way, exchange, asked)
            return self._ask_agent(way.guard, way, inbound, exchange, asked, go_on)

        def again(found: Way | None) -> Decision:
            return self._find(inbound, exchange, asked, found, since, patient=patient)

        return self._wait(until, inbound, exchange, again)

    def _route(self, way: Way, exchange: Exchange, asked: Asked) -> Decision:
        try:
            outbound = way.take(fresh=bool(exchange.attempts))
        except NoStream:
            return BUSY
        return Route(outbound, asked.head_for(summaries=way.summaries, hides=self._hides, client=self._told(way)))

    def _told(self, way: Way) -> bytes:
        """What `way`'s agent is told of the client; empty unless it has asked for that."""
        return clients.encode(self._client, self._client_port) if way.tells_clients else b""

    def _wait(
        self, until: float, inbound: Waiting, exchange: Exchange, again: Callable[[Way | None], Decision]
    ) -> Decision:
        """Have `exchange` wait, and decide `again` when a session has come, or one that was expected will not come."""
        port = self._port
        if port.reactor.now >= until:
            return NO_UPSTREAMS

        def come() -> None:
            way = port.registry.pick(exchange.endpoint) if port.sticky is None else self._pick(exchange, None)
            inbound.decide(exchange, again(way))

        forget = port.registry.wait_for(exchange.endpoint, lambda: port.reactor.call("registered", inbound, come))
        return Wait(until, NO_UPSTREAMS, forget)

    def finished(self, inbound: Waiting, exchange: Exchange) -> None:
        port = self._port
        port.let_in_by.pop(self, None)
        if exchange.request is None:  # refused before it could begin
            port.metrics.request_started()
        if port.traffic is not None and exchange.attempts and not (exchange.pace and exchange.status == 101):
            size = exchange.bytes_in + exchange.bytes_out
            port.traffic.passed(self._whose, port.reactor.now, size)
        served = exchange.endpoint if exchange.attempts else ""
        port.metrics.request_done(*exchange.figures(), served, exchange.first_byte_seconds)
        if exchange.status == 499:
            port.aborts.count(self._client, port.reactor.now)
        if port.access_log is not None:
            endpoint, tenant = tenants.split(exchange.endpoint)
            record.write(
                port.access_log,
                exchange,
                client=self._client,
                endpoint=endpoint,
                tenant=tenant,
                trace=self.trace_id(exchange),
                proto=b"" if self._stream is None else b"HTTP/2.0",
            )
        elif exchange.status == 502 and not exchange.attempts and exchange.request is not None:
            port.unserved.tell(exchange.endpoint, self._client, port.reactor.now)

    def trace_id(self, exchange: Exchange) -> str:
        """Of the trace that an exchange is part of, if that is known."""
        return ""

    def _accept_link(self, peers: Peers, request: Request) -> None:
        """Another node wants to send what it has for our sessions."""
        try:
            peers.links.accept(self._connection, request)
        except HTTPError as error:
            port_log.log(level_of(error), "no peer", client_ip=self.address, status=error.status, error=str(error))
            self._connection.put(http1.error_response(error.status, error.public, close=True))
            self._connection.close()

    def break_off(self, why: str) -> None:
        """End the connection, or the stream, with the request under way."""
        port_log.info("connection ended", client_ip=self._client, reason=why)
        error = ConnectionAbortedError(why)
        if self._stream is not None:
            self._stream.break_off(error)
        else:
            self._connection.break_off(error)

    # -- raw TCP

    def _begin_tcp(self, inbound: Waiting, exchange: Exchange, asked: Asked, way: Way | None, since: float) -> Decision:
        request = exchange.request
        assert request is not None
        if not may_open(request.fields, self._port.allowed_origins):
            return Refuse(403, "pages of this origin may not open TCP endpoints")
        try:
            accept = websocket.check_upgrade_request(request.fields) if request.upgrade else b""
        except HTTPError as error:
            return Refuse(error.status, error.public)
        if not accept:
            return Refuse(400, "expected a WebSocket upgrade")
        if request.body:
            return Refuse(400, "a WebSocket upgrade has no body")
        try:
            wish = resumption.wish_in(request.fields)
        except HTTPError as error:
            return Refuse(error.status, error.public)
        go_on = partial(self._open_tcp, inbound, exchange, asked, way, since, accept, wish)
        if way is None or way.guard is None or isinstance(wish, Resume):  # that was let in when it began
            return go_on()
        return self._ask_agent(way.guard, way, inbound, exchange, asked, go_on)

    def _open_tcp(
        self,
        inbound: Waiting,
        exchange: Exchange,
        asked: Asked,
        way: Way | None,
        since: float,
        accept: bytes,
        wish: New | Resume | None,
    ) -> Decision:
        port, request = self._port, exchange.request
        assert request is not None
        fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", accept)]
        if isinstance(wish, Resume) or (wish is not None and wish.seconds and port.legs.kept.seconds):
            return TakeOver(partial(self._begin_leg, inbound, exchange, wish, fields))
        if way is None:
            until = since + LINK_SECONDS if port.registry.expects(exchange.endpoint) else -math.inf
            return self._wait(
                until,
                inbound,
                exchange,
                lambda found: self._begin_tcp(inbound, exchange, asked, found, since),
            )
        try:
            stream = way.open_bytes(self._client, self._client_port)
        except NoStream:
            return BUSY
        exchange.attempts = 1
        half_close = any(name.lower() == piko.HALF_CLOSE for name, _ in request.fields)
        if half_close:
            fields.append((piko.HALF_CLOSE, b"1"))

        def start() -> None:
            self._connection.put(http1.encode_response(101, b"Switching Protocols", fields))
            carrier = WebSocketCarrier(self._connection, client=False, half_close=half_close)
            relay = Relay(paced(carrier, exchange.pace, port.reactor), stream, done)
            relays.append(relay)
            port.relayed += 1
            if exchange.expires_at < math.inf:
                relay.end_at(exchange.expires_at, port.reactor)

        def done(error: Exception | None) -> None:
            (relay,) = relays
            port.relayed -= 1
            exchange.bytes_in, exchange.bytes_out = relay.passed
            port.metrics.tcp_done(exchange.endpoint, *relay.passed)
            self.finished(inbound, exchange)

        relays: list[Relay] = []
        return TakeOver(start)

    def _begin_leg(self, inbound: Waiting, exchange: Exchange, wish: New | Resume, fields: Fields) -> None:
        """A forward wants a session in its WebSocket, or goes on with one."""
        connection, port = self._connection, self._port
        request = exchange.request
        assert request is not None

        def done(from_client: int, to_client: int) -> None:
            exchange.bytes_in, exchange.bytes_out = from_client, to_client
            port.metrics.tcp_done(exchange.endpoint, from_client, to_client)
            self.finished(inbound, exchange)

        port.let_in_by.pop(self, None)
        leg = Leg(exchange.endpoint, tenant_in(request.fields), self._client, exchange.expires_at, self._claims)
        carrier = WebSocketCarrier(connection, client=False, max_frame=MAX_FRAME)
        try:
            answer, start = port.legs.begin(carrier, leg, wish, done)
        except HTTPError as error:
            connection.put(http1.error_response(error.status, error.public, close=True))
            connection.close()
            exchange.status = error.status
            self.finished(inbound, exchange)
            return
        exchange.attempts = 1
        fields = [*fields, (resumption.FIELD, answer)]
        connection.put(http1.encode_response(101, b"Switching Protocols", fields))
        start()
        if isinstance(wish, Resume):  # what began with another connection is told of when it is over
            self.finished(inbound, exchange)


def _give_back(inbound: Waiting, keep: bool) -> None:
    """A request of a carrier was answered: may another request follow on its connection?"""
    if keep:
        inbound.take_back()
