"""The legs of forwards: sessions with one stream, on the proxy port, for TCP clients that are not to be cut.

A forward of ours asks for such a session in the opening of its WebSocket, or opens another carrier of the proxy port's
(see carriers.host). It opens one stream, which is joined to a stream of the endpoint's. Piko's forwards, and other
WebSocket clients, have no session: their bytes are the WebSocket's (see client.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

import trio

from engine.admin.metrics import NodeMetrics
from engine.auth.verifier import Claims, Verifies
from engine.carriers.carrier import Carrier
from engine.errors import HTTPError
from engine.limits import Traffic, Whose
from engine.log import get_logger
from engine.loop.duplex import LATER
from engine.loop.memory import Shares
from engine.loop.reactor import Reactor
from engine.node.admission import admit, by_host, key_of, party_of, seconds_left, tenant_in
from engine.node.kept import Kept, Purpose
from engine.node.trust import Trust
from engine.node.visitors import Visitors
from engine.node.way import Way, relay_to
from engine.routing import tenants
from engine.routing.registry import Registry
from engine.routing.tenants import HostPattern
from engine.session.session import Session
from engine.session.stream import Stream
from engine.tunnel.paced import paced
from engine.tunnel.relay import Relay
from engine.wire import piko, posts, resumption, websocket
from engine.wire.http1 import Request
from engine.wire.posts import Hello, Welcome
from engine.wire.resumption import New, Resume

Done = Callable[[int, int], None]
"""Told how many bytes went from the client and to it, when a leg is over."""

NOT_LET_IN: Final = "this client may not use the endpoint"
TOO_MANY: Final = "too many requests within a short time"

log = get_logger("proxy.tcp")


class Leg(NamedTuple):
    """What a forward at the address `client` asks for, an endpoint by its key, and until when it may (in the reactor's
    seconds).
    """

    endpoint: str
    tenant: bytes
    client: str
    expires_at: float
    claims: Claims | None = None  # of its token, if it needs one

    @property
    def party(self) -> str:
        return party_of(self.claims)

    @property
    def whose(self) -> Whose:
        return Whose(self.endpoint, self.party, tenants.split(self.endpoint)[1])

    @property
    def purpose(self) -> Purpose:
        return Purpose("tcp", self.endpoint, self.tenant, self.party)


class Legs:
    """The sessions of a proxy port. They are tasks in `sessions`."""

    def __init__(
        self,
        registry: Registry[Way],
        reactor: Reactor,
        metrics: NodeMetrics,
        *,
        verifier: Verifies | None,
        hosts: HostPattern | None = None,
        trust: Trust,
        visitors: Visitors,
        kept: Kept,
        traffic: Traffic | None = None,
        shares: Shares | None = None,
        sessions: trio.Nursery,
    ) -> None:
        self.kept = kept
        self.open = 0
        self._registry = registry
        self._reactor = reactor
        self._metrics = metrics
        self._verifier = verifier
        self._hosts = hosts
        self._traffic = traffic
        self._shares = shares
        self._trust = trust
        self._visitors = visitors
        self._sessions = sessions
        self._running: dict[Carrier, _Running] = {}
        self._changed = trio.Event()  # one of them has ended, or has lost its carrier

    # -- the door of carriers that are made of requests

    def admit(self, request: Request, peer: str) -> Leg:
        """See host.Door."""
        endpoint = posts.endpoint_of(request.target, posts.TCP_PATH) or ""
        named = by_host(request, self._hosts)
        claims = admit(request.fields, self._verifier, endpoint, tenant_by_host=named)
        key = key_of(request, claims, endpoint, self._hosts)
        client = self._trust.client_of(peer, request.fields)
        if self._visitors.refuse_bytes(key, client):
            raise HTTPError(403, NOT_LET_IN)
        return Leg(key, tenant_in(request.fields), client, self._reactor.now + seconds_left(claims), claims)

    def enter(self, asked: Leg, hello: Hello, carrier: Carrier) -> tuple[Welcome, Callable[[], None]]:
        """See host.Door."""
        wish = resumption.parse_wish(hello.session.encode()) if hello.session else None
        if not isinstance(wish, Resume) and self._traffic is not None:
            seconds = self._traffic.ask(asked.whose, self._reactor.now)
            if seconds:
                raise HTTPError(429, TOO_MANY, retry_after=seconds)
        answer, start = self.begin(carrier, asked, wish)
        return Welcome(answer.decode(), owner=self.kept.tag.decode()), start

    def begin(
        self, carrier: Carrier, leg: Leg, wish: New | Resume | None, done: Done | None = None
    ) -> tuple[bytes, Callable[[], None]]:
        """Find the session that `carrier` is for; the answer to `wish`, and what then gives it the carrier.

        Raises HTTPError.
        """
        if isinstance(wish, Resume):
            resumable, resumed = self.kept.claim(wish, leg.purpose)
            received = wish.received

            def go_on() -> None:
                self._running[resumable].leg = leg
                self._book(carrier, leg)
                resumable.attach(carrier, received)

            return resumed.encode(), go_on
        if self._registry.pick(leg.endpoint) is None and not self._registry.expects(leg.endpoint):
            raise HTTPError(502, piko.NO_AVAILABLE_UPSTREAMS)
        rides_on, answer = self.kept.begin(carrier, wish, leg.purpose)

        def start() -> None:
            for one in (carrier, rides_on):
                self._book(one, leg)
            run = self._enrol(rides_on, leg, done)
            self._sessions.start_soon(self._reactor.supervise, "session", run)
            self._reactor.hand_over()

        return answer, start

    def _book(self, carrier: Carrier, leg: Leg) -> None:
        if self._shares is not None:
            self._shares.book(carrier.account, leg.party, leg.whose.tenant)

    def _enrol(self, carrier: Carrier, leg: Leg, done: Done | None) -> Callable[[], Awaitable[None]]:
        """A session on `carrier`, which takes what comes from now on; what its task has to run."""
        opened = False

        def take(stream: Stream) -> None:
            """The forward has opened its stream, and may open one only."""
            nonlocal opened
            if opened:
                stream.abort()
            else:
                opened = True
                stream.pause()
                stream.receiver = LATER
                find(stream)

        def find(stream: Stream) -> None:
            if stream.gone:  # the forward has left meanwhile
                return
            way = self._registry.pick(leg.endpoint)
            if way is None and self._registry.expects(leg.endpoint):
                self._registry.wait_for(leg.endpoint, partial(self._reactor.call, "leg", stream, find, stream))
                return
            pace = self._traffic.pace(leg.whose) if self._traffic is not None else None
            running.relay = relay_to(way, paced(stream, pace, self._reactor), leg.client, self._visitors.not_let_in)
            stream.resume()

        running = _Running(Session(carrier, accepts=True, on_stream=take, on_change=self._change), leg)
        self._running[carrier] = running
        self._reactor.clock(running)
        return partial(self._run, running, done)

    def _change(self, _session: Session) -> None:
        self._changed.set()
        self._reactor.hand_over()

    async def wait_quiet(self) -> None:
        """Return when no leg has a carrier any more. Those without get no other from a node that lets nobody in."""
        while not all(running.session.suspended for running in self._running.values()):
            self._changed = trio.Event()
            await self._changed.wait()

    def end_revoked(self) -> None:
        """End the legs whose tokens are revoked."""
        verifier = self._verifier
        for running in tuple(self._running.values()):
            claims = running.leg.claims
            if verifier is not None and claims is not None and verifier.is_revoked(claims):
                running.end("token revoked")

    async def _run(self, running: _Running, done: Done | None) -> None:
        carrier = running.session.carrier
        self.open += 1
        try:
            await running.session.run()
        finally:
            self.open -= 1
            self._reactor.unclock(running)
            del self._running[carrier]
            self._changed.set()
            self.kept.forget(carrier)
            passed = running.relay.passed if running.relay is not None else [0, 0]
            if done is None:
                self._metrics.tcp_done(running.leg.endpoint, *passed)
            else:
                done(*passed)


class _Running:
    """A leg under way: its session ends when the token that permits it does, which is that of its latest carrier."""

    def __init__(self, session: Session, leg: Leg) -> None:
        self.session = session
        self.leg = leg
        self.relay: Relay | None = None  # once the forward has opened its stream

    @property
    def leg(self) -> Leg:
        return self._leg

    @leg.setter
    def leg(self, leg: Leg) -> None:
        self._leg = leg
        self.deadline = leg.expires_at

    def expired(self) -> None:
        self.end("token expired")

    def end(self, why: str) -> None:
        self.session.close(websocket.POLICY_VIOLATION, why)

    def break_off(self, error: Exception) -> None:
        self.session.lose(error)
