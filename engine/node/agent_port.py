"""The upstream port: agents register endpoints here, each by a WebSocket that then carries a yamux session."""

from __future__ import annotations

import math
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

import trio

from engine.admin.metrics import NodeMetrics
from engine.auth.key_set import Tokens
from engine.auth.verifier import Claims, UnknownKey
from engine.auth.visitors import Guard
from engine.carriers.carrier import Carrier
from engine.carriers.host import Host
from engine.carriers.opening import read_head
from engine.carriers.resumable import Resumable
from engine.carriers.websocket import MAX_FRAME, WebSocketCarrier
from engine.config import AgentLimits
from engine.errors import HTTPError, Unauthorized
from engine.limits import Counts, Rates, Visits
from engine.log import get_logger
from engine.loop.certificates import Certificates
from engine.loop.connection import Connection
from engine.loop.memory import Shares
from engine.loop.reactor import Reactor
from engine.loop.reading import start_tls
from engine.node.admission import admit, guard_in, logged, party_of, seconds_left, tenant_in, tokens_of
from engine.node.kept import Kept, Purpose
from engine.node.peers import Peers
from engine.node.registration import Crowd, Registration
from engine.node.way import Way
from engine.routing import tenants
from engine.routing.domains import Domains, Taken, permits
from engine.routing.owners import Answer, Owners, defect_of_name
from engine.routing.registry import Registry
from engine.session.probe import Answering
from engine.session.session import Session
from engine.wire import clients, http1, piko, posts, resumption, visitors, websocket, workers
from engine.wire import domains as of_domains
from engine.wire.agents import About, about_in
from engine.wire.http1 import Request
from engine.wire.peers import Port
from engine.wire.posts import Hello, Welcome
from engine.wire.public_url import PublicURL
from engine.wire.resumption import New, Resume
from engine.wire.workers import Seat

HANDSHAKE_SECONDS: Final = 10.0
NEWER_KEYS_SECONDS: Final = 8.0
MAX_PROBES: Final = 16  # at a time
PROBE_SECONDS: Final = 30.0
IDLE_SECONDS: Final = 75.0  # for the next request of a carrier that is made of them

log = get_logger("upstream")


class _Asked(NamedTuple):
    """What an agent registers for."""

    endpoint: str | None  # None: nothing, for a doctor wants to know what the way gives (see session.probe)
    claims: Claims | None  # of its token, if it needs one
    tenant: bytes
    guard: Guard | None  # whom it lets in, if not anybody
    about: About
    wants_clients: bool  # to be told who they are
    domains: Sequence[str]  # that it claims

    @property
    def key(self) -> str:
        """The endpoint's, in the tenant of the token."""
        return tenants.key(self.endpoint or "", self.tenant_of_token)

    @property
    def tenant_of_token(self) -> str:
        return self.claims.tenant if self.claims is not None else ""

    @property
    def purpose(self) -> Purpose:
        return Purpose("probe" if self.endpoint is None else "upstream", self.key, self.tenant, self.party)

    @property
    def principal(self) -> str:
        return self.claims.principal if self.claims is not None else ""

    @property
    def party(self) -> str:
        return party_of(self.claims)


class AgentPort:
    """Takes registrations and runs their sessions; those that outlive their carriers are tasks in `sessions`, and do so
    for at most `resume_seconds`. `tokens` checks who registers; where there are `by_tenant`, each tenant's do, and
    `tokens` are of no effect (as in Piko). `public_url` is what agents are told of where clients come in; an empty one
    is not told. Those of a tenant are told `public_urls` of it, if there is one.
    """

    def __init__(
        self,
        registry: Registry[Way],
        reactor: Reactor,
        metrics: NodeMetrics,
        *,
        tokens: Tokens,
        by_tenant: Mapping[str, Tokens],
        tls: Certificates,
        public_url: str = "",
        public_urls: Mapping[str, str] = MappingProxyType({}),
        domains: Domains | None = None,
        limits: AgentLimits,
        exclusive: bool = False,
        resume_seconds: float = 0,
        sessions: trio.Nursery,
    ) -> None:
        self.registrations: set[Registration] = set()
        self.kept = Kept(resume_seconds)
        self.peers: Peers | None = None
        self.seat: Seat | None = None  # if this is one of several workers, each of which agents are to register with
        self._registry = registry
        self._reactor = reactor
        self._metrics = metrics
        self._tokens = tokens
        self._by_tenant = by_tenant
        self._tls = tls
        self._domains = domains if domains is not None else Domains()
        self._public_url = str(PublicURL.parse(public_url)).encode() if public_url else b""
        self._public_urls = {tenant: url.encode() for tenant, url in public_urls.items()}
        self._host: Host[_Asked] = Host(self, reactor)
        self.owners = Owners(exclusive=exclusive)
        self.visits = Visits(limits.connections, limits.connection_rate)
        self._principals = Counts(limits.sessions)
        self._registering = Rates(limits.registrations)
        self.guarded: Counter[str] = Counter()  # sessions that go by who a client is, by the endpoint's key
        self._shares = Shares(reactor.memory, limits.principal_memory, limits.tenant_memory)
        self._streams = Counts(limits.streams)
        self._crowds: dict[str, Crowd] = {}  # by party
        self._leaving = False
        self._sessions = sessions
        self._probes = 0  # sessions that measure
        self._permits: dict[Carrier, _Permit] = {}  # what has let them in
        for each in (tokens, *by_tenant.values()):
            if each.verifier is not None:
                each.verifier.on_revoked = self._end_revoked

    @property
    def carriers_refused(self) -> int:
        """How many there was no room for."""
        return self._host.crowd.refused

    @property
    def limits(self) -> dict[str, Rates | Counts]:
        """By their names."""
        return {
            "connections": self.visits.open,
            "connection_rate": self.visits.new,
            "sessions": self._principals,
            "registrations": self._registering,
            "streams": self._streams,
            "carriers": self._host.crowd.all,
            "carriers of one": self._host.crowd.each,
            "suspended": self.kept.crowd.all,
            "suspended of one": self.kept.crowd.each,
        }

    @property
    def refused(self) -> dict[str, int]:
        """How many connections and registrations were too many, by the limit."""
        principals = {
            "sessions": self._principals.refused,
            "registrations": self._registering.refused,
            "streams": self._streams.refused,
        }
        return {**self.visits.refused, **principals, **self._shares.ended}

    async def serve(self, connection: Connection) -> None:
        """One agent, from its first byte to its last."""
        address = connection.peer[0]
        if not self.visits.refuse(address, self._reactor.now):
            with self.visits.hold(address):
                await self._serve(connection, self._tls.context)

    async def take(self, connection: Connection) -> None:
        """One agent, whose connection another node has handed over to us."""
        await self._serve(connection, None, handed=True)

    async def _serve(self, connection: Connection, tls: ssl.SSLContext | None, *, handed: bool = False) -> None:
        posted = False
        try:
            with trio.fail_after(HANDSHAKE_SECONDS):
                if tls is not None:
                    await start_tls(connection, tls, server=True)
                request = http1.parse_request(await read_head(connection))
            while True:
                if not handed and self.peers is not None and (owner := self.peers.owner(request)) is not None:
                    await self.peers.hand_over(owner, connection, Port.UPSTREAM, request)
                    await connection.run()
                    return
                if not _is_posted(request):
                    break
                posted = True
                await self._know_key(request)
                if not await self._post(connection, request, last=handed):
                    await connection.run()
                    return
                with trio.fail_after(IDLE_SECONDS):
                    request = http1.parse_request(await read_head(connection))
            run = await self._open(connection, request)
        except (OSError, trio.TooSlowError) as error:
            if not posted:
                log.info("no registration", client_ip=connection.peer[0], error=str(error) or "timeout")
            connection.close()  # behind TLS's alert, if it has said one
            await connection.run()
        except HTTPError as error:
            self._refuse(connection, error)
            await connection.run()
        else:
            await run()

    async def _post(self, connection: Connection, request: Request, *, last: bool) -> bool:
        """Have a request of a carrier answered; may another follow on this connection?"""
        over = trio.Event()
        kept = False

        def back(keep: bool) -> None:
            nonlocal kept
            kept = keep
            over.set()
            self._reactor.hand_over()

        self._host.take(connection, request, back, last=last)
        await over.wait()
        return kept

    async def _open(self, connection: Connection, request: Request) -> Callable[[], Awaitable[None]]:
        """Answer a request for a WebSocket; what this task has to run then. Raises HTTPError."""
        try:
            endpoint = _endpoint(request)
            await self._know_key(request)
            claims = admit(request.fields, self._tokens_for(request).verifier, endpoint)
            accept = websocket.check_upgrade_request(request.fields if request.upgrade else [])
            wish = resumption.wish_in(request.fields)
            carrier = WebSocketCarrier(connection, client=False, max_frame=MAX_FRAME)
            summaries = any(name.lower() == piko.SUMMARIES for name, _ in request.fields)
            asked = _asked(request, endpoint, claims)
            answer, start = self._begin(carrier, asked, wish, summaries=summaries)
        except Unauthorized as error:
            log.warning("registration refused", client_ip=connection.peer[0], status=401, error=str(error))
            connection.put(http1.error_response(401, str(error), close=True))
            connection.close()
            return connection.run  # until the answer has been taken
        fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", accept)]
        if answer:
            fields.append((resumption.FIELD, answer))
        url = self._url_for(claims)
        if url and not isinstance(wish, Resume):
            fields.append((piko.PUBLIC_URL, url))
        if asked.guard is not None:
            fields.append((visitors.FIELD, visitors.KEPT))
        if asked.wants_clients:
            fields.append((clients.FIELD, clients.TOLD))
        if asked.domains:
            fields.append((of_domains.FIELD, of_domains.KEPT))
        if self.seat is not None and not isinstance(wish, Resume):  # which other programs pass over
            fields.append((workers.FIELD, str(self.seat).encode()))
        connection.put(http1.encode_response(101, b"Switching Protocols", fields))
        start()
        return carrier.run

    async def _know_key(self, request: Request) -> None:
        """Wait for newer keys if the token names one that is not here.

        The issuer may have changed its keys, and to refuse would end the agent.
        """
        newer_keys = None
        try:
            verifier, newer_keys = self._tokens_for(request)
            if newer_keys is not None:
                admit(request.fields, verifier, None)
        except UnknownKey:
            assert newer_keys is not None
            with trio.move_on_after(NEWER_KEYS_SECONDS):  # and then it is told, while there is time to
                await newer_keys()
        except (Unauthorized, HTTPError):
            pass  # whoever admits it says so

    def _tokens_for(self, request: Request) -> Tokens:
        return tokens_of(request.fields, self._by_tenant) if self._by_tenant else self._tokens

    def _url_for(self, claims: Claims | None) -> bytes:
        tenant = claims.tenant if claims is not None else ""
        return self._public_urls.get(tenant, self._public_url)

    def _refuse(self, connection: Connection, error: HTTPError) -> None:
        log.info("registration refused", client_ip=connection.peer[0], status=error.status, error=str(error))
        answer = http1.error_response(error.status, error.public, close=True, retry_after=error.retry_after)
        connection.put(answer)
        connection.close()

    # -- the door of carriers that are made of requests

    def admit(self, request: Request, peer: str) -> _Asked:
        endpoint = None if _is_probe(request) else posts.endpoint_of(request.target, posts.UPSTREAM_PATH) or ""
        if endpoint is not None:
            _check_endpoint(endpoint)
        return _asked(request, endpoint, admit(request.fields, self._tokens_for(request).verifier, endpoint))

    def enter(self, asked: _Asked, hello: Hello, carrier: Carrier) -> tuple[Welcome, Callable[[], None]]:
        wish = resumption.parse_wish(hello.session.encode()) if hello.session else None
        answer, start = self._begin(carrier, asked, wish, summaries=hello.summaries)
        seat = str(self.seat) if self.seat is not None else ""
        url = self._url_for(asked.claims).decode()
        visitors, tells = asked.guard is not None, asked.wants_clients
        tag, keeps = self.kept.tag.decode(), bool(asked.domains)
        welcome = Welcome(answer.decode(), url, tag, seat, visitors=visitors, clients=tells, domains=keeps)
        return welcome, start

    # -- sessions

    def _begin(
        self, carrier: Carrier, asked: _Asked, wish: New | Resume | None, *, summaries: bool
    ) -> tuple[bytes, Callable[[], None]]:
        """Find the session that `carrier` is for; the answer to `wish`, and what then gives it the carrier."""
        if asked.endpoint is None:
            return b"", self._begin_probe(carrier, asked.party)
        if isinstance(wish, Resume):
            resumable, resumed = self.kept.claim(wish, asked.purpose)
            received = wish.received

            def go_on() -> None:
                permit = self._permits[resumable]
                permit.renew(asked.claims)
                if permit.registration is not None:
                    permit.registration.client, permit.registration.about = carrier.peer[0], asked.about
                self._shares.book(carrier.account, asked.party, asked.tenant_of_token)
                resumable.attach(carrier, received)

            return resumed.encode(), go_on
        self._refuse_taken(asked)
        self._refuse_domains(asked)
        self._refuse_excess(asked.party)
        session, answer = self.kept.begin(carrier, wish, asked.purpose)
        self._permits[session] = _Permit(asked.claims)

        def start() -> None:
            held = ExitStack()  # from here on, for others may ask before the task runs
            held.enter_context(self.owners.hold(asked.key, asked.principal))
            held.enter_context(self._domains.claim(asked.domains, asked.key))
            if asked.party:
                held.enter_context(self._principals.hold(asked.party))
            for one in (carrier, session):
                self._shares.book(one.account, asked.party, asked.tenant_of_token)
            run = self._enrol(session, asked, held, summaries=summaries)
            self._sessions.start_soon(self._reactor.supervise, "session", run)
            self._reactor.hand_over()

        return answer, start

    def _begin_probe(self, carrier: Carrier, party: str) -> Callable[[], None]:
        """A session that only measures `carrier`; what gives it the carrier."""
        self._refuse_haste(party)
        if self._probes >= MAX_PROBES:
            raise HTTPError(429, "too many others measure their ways")

        def start() -> None:
            self._probes += 1
            session = Session(carrier, accepts=True, on_stream=Answering().take)
            self._sessions.start_soon(self._reactor.supervise, "session", partial(self._run_probe, session))
            self._reactor.hand_over()

        return start

    async def _run_probe(self, session: Session) -> None:
        try:
            with trio.move_on_after(PROBE_SECONDS):
                await session.run()
        finally:
            self._probes -= 1
            carrier = session.carrier
            log.info("way measured", client_ip=carrier.peer[0], carrier=carrier.kind, bytes=session.bytes_out)

    def _refuse_taken(self, asked: _Asked) -> None:
        answer = self.owners.ask(asked.key, asked.principal)
        if answer is Answer.TAKEN:
            raise HTTPError(403, "the endpoint is taken by somebody else, or a name like it")
        if answer is Answer.BUSY:
            raise HTTPError(503, "the endpoint is taken, and for one session at a time")

    def _refuse_domains(self, asked: _Asked) -> None:
        permitted = asked.claims.domains if asked.claims is not None else ()
        for name in asked.domains:
            if not permits(permitted, name):
                raise HTTPError(403, f"the token does not permit the domain {name}")
        try:
            self._domains.check(asked.domains, asked.key)
        except Taken as error:
            raise HTTPError(409, str(error)) from None

    def _refuse_excess(self, party: str) -> None:
        """Who is named by no token is not told from others, so that one of them could keep out the rest."""
        self._refuse_haste(party)
        if party and self._principals.is_full(party):
            raise HTTPError(429, "too many sessions")

    def _refuse_haste(self, party: str) -> None:
        if wait := self._registering.take(party, self._reactor.now):
            raise HTTPError(429, "too many registrations within a short time", retry_after=math.ceil(wait))

    def _enrol(
        self, carrier: Carrier, asked: _Asked, held: ExitStack, *, summaries: bool
    ) -> Callable[[], Awaitable[None]]:
        """A session on `carrier`, which takes what comes from now on; what its task has to run, which closes `held`."""

        def away() -> None:
            registration.close_idle(self._reactor.now)
            if not (self._leaving and session.alive):
                self._registry.withdraw(registration)
            registration.moved.set()

        def change(session: Session) -> None:
            if session.suspended:
                registration.back_by = self._reactor.now + (resumable.seconds if resumable else 0)
                self._registry.set_aside(registration)
                log.info("upstream suspended", **named, seconds=resumable.seconds if resumable else 0)
            else:
                self._registry.bring_back(registration)
                log.info("upstream resumed", **named, client_ip=carrier.peer[0], carrier=carrier.kind)

        named = logged(asked.key)
        resumable = carrier if isinstance(carrier, Resumable) else None
        session = Session(carrier, accepts=False, on_away=away, on_change=change)
        registration = Registration(session, asked.key, self._reactor, summaries=summaries)
        registration.principal = asked.principal
        registration.client = carrier.peer[0]
        registration.about = asked.about
        self._permits[carrier].registration = registration
        registration.domains = asked.domains
        registration.guard = asked.guard
        registration.tells_clients = asked.wants_clients
        registration.agent, registration.weight = asked.about.name.encode(), asked.about.weight
        if asked.guard is not None or asked.wants_clients:
            held.enter_context(_counted(self.guarded, asked.key))
        self.registrations.add(registration)
        if asked.party:
            registration.crowd = self._crowds.setdefault(asked.party, Crowd(asked.party, self._streams))
            registration.crowd.members.add(registration)
        self._reactor.clock(registration)
        return partial(self._run_session, registration, resumable, asked, held)

    async def _run_session(
        self, registration: Registration, resumable: Resumable | None, asked: _Asked, held: ExitStack
    ) -> None:
        session, named = registration.session, logged(registration.endpoint)
        carrier = session.carrier
        log.info(
            "upstream connected",
            **named,
            client_ip=carrier.peer[0],
            principal=asked.principal or None,
            carrier=carrier.kind,
        )
        permit = self._permits[carrier]
        try:
            with held, self._registry.register(registration.endpoint, registration, registration.weight), permit.scope:
                if session.away:  # it was said before this task has begun
                    self._registry.withdraw(registration)
                elif session.suspended:
                    self._registry.set_aside(registration)
                if self._leaving:  # a connection that another node has handed over
                    session.go_away()
                await session.run()
        finally:
            if permit.scope.cancelled_caught:
                session.error = Unauthorized("token revoked" if permit.revoked else "token expired")
            self.kept.forget(carrier)
            del self._permits[carrier]
            self.registrations.discard(registration)
            self._leave_crowd(registration, asked.party)
            self._reactor.unclock(registration)
            self._metrics.session_ended(registration)
            log.info("upstream disconnected", **named, client_ip=carrier.peer[0], reason=str(session.error))

    def _leave_crowd(self, registration: Registration, party: str) -> None:
        crowd = registration.crowd
        if crowd is not None:
            crowd.members.discard(registration)
            if not crowd.members:
                crowd.settle()
                del self._crowds[party]

    def settle(self) -> None:
        """Tell the other workers what is open here of what is counted now and then only."""
        for crowd in self._crowds.values():
            crowd.settle()

    def _end_revoked(self) -> None:
        """End the sessions whose tokens are revoked."""
        for permit in self._permits.values():
            claims = permit.claims
            verifier = self._by_tenant.get(claims.tenant, self._tokens).verifier if claims is not None else None
            if claims is not None and verifier is not None and verifier.is_revoked(claims):
                permit.revoked = True
                permit.scope.cancel()

    async def leave(self) -> None:
        """Ask every agent to dial elsewhere, and return when all have.

        An agent that has arrived elsewhere says so by a go-away of its own, and goes on serving what comes here:
        its session stays in the registry until it is closed, for the requests of clients that have not moved yet.
        """
        self._leaving = True
        for registration in self.registrations:
            registration.session.go_away()
        for registration in tuple(self.registrations):
            await registration.moved.wait()

    def lose(self, endpoint: str) -> None:
        """Another worker was first to have let somebody else register it."""
        for registration in tuple(self.registrations):
            if registration.endpoint == endpoint:
                registration.session.close(websocket.POLICY_VIOLATION, "the endpoint is taken by somebody else")

    def shed(self, count: int) -> int:
        """Ask the agents of the oldest sessions to dial again, so that they come to other nodes; how many were asked.

        A session ends when its agent has arrived elsewhere and nothing is under way in it any more. Of Piko's agents
        none is asked, for they stay where they are until they are cut.
        """
        asked = [one for one in self.registrations if one.summaries and one.usable and not one.shed]
        asked = sorted(asked, key=lambda one: one.since)[:count]
        for registration in asked:
            registration.shed = True
            registration.session.go_away()
            self._sessions.start_soon(self._end_when_quiet, registration)
        return len(asked)

    async def _end_when_quiet(self, registration: Registration) -> None:
        await registration.moved.wait()
        await registration.session.wait_quiet()
        registration.session.close(websocket.GOING_AWAY, "rebalanced")

    def close(self) -> None:
        """End every session."""
        for registration in tuple(self.registrations):
            registration.session.close(websocket.GOING_AWAY, "node is stopping")


def _is_posted(request: Request) -> bool:
    """It is one of those that a carrier is made of."""
    if _is_probe(request):
        return request.method == b"POST"  # else it is for a WebSocket
    return posts.endpoint_of(request.target, posts.UPSTREAM_PATH) is not None


def _is_probe(request: Request) -> bool:
    return posts.endpoint_of(request.target, posts.PROBE_PATH) is not None


def _endpoint(request: Request) -> str | None:
    """What a request for a WebSocket is about. Raises HTTPError."""
    if _is_probe(request):
        return None
    endpoint = piko.endpoint_of_upstream_path(request.target)
    if endpoint is None:
        raise HTTPError(404, "not found")
    if request.method != b"GET":
        raise HTTPError(405, "method not allowed")
    _check_endpoint(endpoint)
    return endpoint


def _check_endpoint(endpoint: str) -> None:
    if defect := defect_of_name(endpoint):
        raise HTTPError(400, defect)


def _asked(request: Request, endpoint: str | None, claims: Claims | None) -> _Asked:
    fields = request.fields
    return _Asked(
        endpoint,
        claims,
        tenant_in(fields),
        guard_in(fields),
        about_in(fields),
        clients.are_asked_for(fields),
        of_domains.domains_in(fields),
    )


@contextmanager
def _counted(counts: Counter[str], key: str) -> Iterator[None]:
    """One more within the context."""
    counts[key] += 1
    try:
        yield
    finally:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]


class _Permit:
    """What lets a session in, and how long: it ends with `scope`."""

    def __init__(self, claims: Claims | None) -> None:
        self.scope = trio.CancelScope()
        self.revoked = False
        self.registration: Registration | None = None  # that it has let in
        self.renew(claims)

    def renew(self, claims: Claims | None) -> None:
        """The session goes on, on what these permit."""
        self.claims = claims
        self.scope.deadline = trio.current_time() + seconds_left(claims)
