"""The legs of forwards: sessions with one stream, on the proxy port, for TCP clients that are not to be cut.

A forward of ours asks for such a session in the opening of its WebSocket, or opens another carrier of the proxy port's
(see carriers.host). It opens one stream, which is joined to a stream of the endpoint's. Piko's forwards, and other
WebSocket clients, have no session: their bytes are the WebSocket's (see client.py).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

import trio

from engine.admin.metrics import NodeMetrics
from engine.auth.verifier import Verifier
from engine.carriers.carrier import Carrier
from engine.errors import HTTPError
from engine.log import get_logger
from engine.loop.duplex import LATER
from engine.loop.reactor import Reactor
from engine.node.admission import admit, by_host, key_of, seconds_left, tenant_in
from engine.node.kept import Kept, Purpose
from engine.node.trust import Trust
from engine.node.visitors import Visitors
from engine.node.way import Way, relay_to
from engine.routing.registry import Registry
from engine.routing.tenants import HostPattern
from engine.session.session import Session
from engine.session.stream import Stream
from engine.tunnel.relay import Relay
from engine.wire import piko, posts, resumption, websocket
from engine.wire.http1 import Request
from engine.wire.posts import Hello, Welcome
from engine.wire.resumption import New, Resume

Done = Callable[[int, int], None]
"""Told how many bytes went from the client and to it, when a leg is over."""

NOT_LET_IN: Final = "this client may not use the endpoint"

log = get_logger("proxy.tcp")


class Leg(NamedTuple):
    """What a forward at the address `client` asks for, an endpoint by its key, and until when it may (in the reactor's
    seconds).
    """

    endpoint: str
    tenant: bytes
    client: str
    expires_at: float
    principal: str = ""
    token_id: str = ""

    @property
    def purpose(self) -> Purpose:
        return Purpose("tcp", self.endpoint, self.tenant, self.principal)


class Legs:
    """The sessions of a proxy port. They are tasks in `sessions`."""

    def __init__(
        self,
        registry: Registry[Way],
        reactor: Reactor,
        metrics: NodeMetrics,
        *,
        verifier: Verifier | None,
        hosts: HostPattern | None = None,
        trust: Trust,
        visitors: Visitors,
        kept: Kept,
        sessions: trio.Nursery,
    ) -> None:
        self.kept = kept
        self.open = 0
        self._registry = registry
        self._reactor = reactor
        self._metrics = metrics
        self._verifier = verifier
        self._hosts = hosts
        self._trust = trust
        self._visitors = visitors
        self._sessions = sessions
        self._running: dict[Session, tuple[str, list[Relay]]] = {}  # token ids, and what is relayed
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
        principal, token_id = (claims.principal, claims.token_id) if claims is not None else ("", "")
        expires_at = self._reactor.now + seconds_left(claims)
        return Leg(key, tenant_in(request.fields), client, expires_at, principal, token_id)

    def enter(self, asked: Leg, hello: Hello, carrier: Carrier) -> tuple[Welcome, Callable[[], None]]:
        """See host.Door."""
        wish = resumption.parse_wish(hello.session.encode()) if hello.session else None
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
            return resumed.encode(), partial(resumable.attach, carrier, wish.received)
        if self._registry.pick(leg.endpoint) is None and not self._registry.expects(leg.endpoint):
            raise HTTPError(502, piko.NO_AVAILABLE_UPSTREAMS)
        rides_on, answer = self.kept.begin(carrier, wish, leg.purpose)

        def start() -> None:
            run = self._enrol(rides_on, leg, done)
            self._sessions.start_soon(self._reactor.supervise, "session", run)
            self._reactor.hand_over()

        return answer, start

    def _enrol(self, carrier: Carrier, leg: Leg, done: Done | None) -> Callable[[], Awaitable[None]]:
        """A session on `carrier`, which takes what comes from now on; what its task has to run."""
        relays: list[Relay] = []

        def take(stream: Stream) -> None:
            """The forward has opened its stream, and may open one only."""
            if relays:
                stream.abort()
            else:
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
            join(stream, way)
            stream.resume()

        def join(stream: Stream, way: Way | None) -> None:
            relay = relay_to(way, stream, leg.client, self._visitors.not_let_in)
            if relay is None:
                return
            relays.append(relay)
            if leg.expires_at < math.inf:
                relay.end_at(leg.expires_at, self._reactor)

        session = Session(carrier, accepts=True, on_stream=take, on_change=self._change)
        return partial(self._run, session, relays, leg, done)

    def _change(self) -> None:
        self._changed.set()
        self._reactor.hand_over()

    async def wait_quiet(self) -> None:
        """Return when no leg has a carrier any more. Those without get no other from a node that lets nobody in."""
        while not all(session.suspended for session in self._running):
            self._changed = trio.Event()
            await self._changed.wait()

    def end_revoked(self) -> None:
        """End the legs whose tokens are revoked."""
        for session, (token_id, relays) in tuple(self._running.items()):
            if self._verifier is not None and self._verifier.is_revoked(token_id):
                for relay in relays:
                    relay.end_at(self._reactor.now, self._reactor)
                session.close(websocket.POLICY_VIOLATION, "token revoked")

    async def _run(self, session: Session, relays: list[Relay], leg: Leg, done: Done | None) -> None:
        self.open += 1
        self._running[session] = leg.token_id, relays
        try:
            await session.run()
        finally:
            self.open -= 1
            del self._running[session]
            self._changed.set()
            self.kept.forget(session.carrier)
            passed = relays[0].passed if relays else [0, 0]
            if done is None:
                self._metrics.tcp_done(leg.endpoint, *passed)
            else:
                done(*passed)
