"""The upstream port: agents register endpoints here, each by a WebSocket that then carries a yamux session."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import trio

from engine.admin.metrics import NodeMetrics
from engine.auth.verifier import Claims, UnknownKey, Verifier
from engine.errors import HTTPError, Unauthorized
from engine.log import get_logger
from engine.loop.connection import Connection
from engine.loop.reactor import Reactor
from engine.loop.reading import start_tls
from engine.node.registration import Registration
from engine.routing.registry import Registry
from engine.session.session import Session
from engine.tunnel.opening import read_head
from engine.wire import http1, piko, websocket
from engine.wire.http1 import Request
from engine.wire.public_url import PublicURL

HANDSHAKE_SECONDS: Final = 10.0
MAX_ENDPOINT: Final = 255  # bytes

log = get_logger("upstream")


class _Opened(NamedTuple):
    """What an agent has registered for."""

    endpoint: str
    claims: Claims | None  # of its token, if it needs one
    summaries: bool  # it understands them


class AgentPort:
    """Takes registrations and runs their sessions. `public_url` is what agents are told of where clients come in; an
    empty one is not told.
    """

    def __init__(
        self,
        registry: Registry[Registration],
        reactor: Reactor,
        metrics: NodeMetrics,
        *,
        verifier: Verifier | None = None,
        newer_keys: Callable[[], Awaitable[None]] | None = None,
        tls: ssl.SSLContext | None = None,
        public_url: str = "",
    ) -> None:
        self.registrations: set[Registration] = set()
        self._registry = registry
        self._reactor = reactor
        self._metrics = metrics
        self._verifier = verifier
        self._newer_keys = newer_keys
        self._tls = tls
        self._told = [(piko.PUBLIC_URL, str(PublicURL.parse(public_url)).encode())] if public_url else []
        self._leaving = False
        self._moved = trio.Event()  # an agent has gone away

    async def serve(self, connection: Connection) -> None:
        """One agent, from its first byte to its last."""
        try:
            with trio.fail_after(HANDSHAKE_SECONDS):
                if self._tls is not None:
                    await start_tls(connection, self._tls, server=True)
                opened = await self._open(connection)
        except (OSError, trio.TooSlowError) as error:
            log.info("no registration", client_ip=connection.peer[0], error=str(error) or "timeout")
            connection.close()  # behind TLS's alert, if it has said one
            await connection.run()
            return
        if opened is None:
            connection.close()
            await connection.run()  # until the answer has been taken
            return
        await self._run_session(connection, opened)

    async def _open(self, connection: Connection) -> _Opened | None:
        """Read the request and answer it; what was asked for, if the WebSocket is open now."""
        try:
            request = http1.parse_request(await read_head(connection))
            endpoint = _endpoint(request)
            try:
                claims = self._admit(request, endpoint)
            except UnknownKey:
                # The issuer may have changed its keys; to refuse would end the agent, so it waits for the new ones.
                if self._newer_keys is None:
                    raise
                await self._newer_keys()
                claims = self._admit(request, endpoint)
            accept = websocket.check_upgrade_request(request.fields if request.upgrade else [])
        except HTTPError as error:
            log.info("registration refused", client_ip=connection.peer[0], status=error.status, error=str(error))
            connection.put(http1.error_response(error.status, error.public, close=True))
            return None
        except Unauthorized as error:
            log.warning("registration refused", client_ip=connection.peer[0], status=401, error=str(error))
            connection.put(http1.error_response(401, str(error), close=True))
            return None
        connection.put(
            http1.encode_response(
                101,
                b"Switching Protocols",
                [
                    (b"Connection", b"Upgrade"),
                    (b"Upgrade", b"websocket"),
                    (b"Sec-WebSocket-Accept", accept),
                    *self._told,
                ],
            )
        )
        summaries = any(name.lower() == piko.SUMMARIES for name, _ in request.fields)
        return _Opened(endpoint, claims, summaries)

    def _admit(self, request: Request, endpoint: str) -> Claims | None:
        fields = [(name.lower(), value) for name, value in request.fields]
        if any(name == b"origin" for name, _ in fields):
            raise HTTPError(403, "browsers have no business here")
        if self._verifier is None:
            return None
        credentials = ([value for name, value in fields if name == wanted] for wanted in piko.CREDENTIALS)
        claims = self._verifier.verify(*credentials)
        claims.check(endpoint)
        return claims

    async def _run_session(self, connection: Connection, opened: _Opened) -> None:
        endpoint, claims, summaries = opened

        def away() -> None:
            registration.close_idle(self._reactor.now)
            if not (self._leaving and session.alive):
                self._registry.withdraw(registration)
            self._moved.set()

        session = Session(connection, agent=False, on_away=away)
        registration = Registration(session, endpoint, self._reactor, summaries=summaries)
        self.registrations.add(registration)
        self._reactor.clock(registration)
        log.info("upstream connected", endpoint_id=endpoint, client_ip=connection.peer[0])
        expiry = trio.CancelScope()
        if claims is not None and claims.expires_at is not None:
            expiry.deadline = trio.current_time() + claims.expires_at - time.time()
        try:
            with self._registry.register(endpoint, registration), expiry:
                await session.run()
        finally:
            if expiry.cancelled_caught:
                session.error = Unauthorized("token expired")
            self.registrations.discard(registration)
            self._reactor.unclock(registration)
            self._metrics.session_ended(registration)
            log.info(
                "upstream disconnected", endpoint_id=endpoint, client_ip=connection.peer[0], reason=str(session.error)
            )

    async def leave(self) -> None:
        """Ask every agent to dial elsewhere, and return when all have.

        An agent that has arrived elsewhere says so by a go-away of its own, and goes on serving what comes here:
        its session stays in the registry until it is closed, for the requests of clients that have not moved yet.
        """
        self._leaving = True
        for registration in self.registrations:
            registration.session.go_away()
        while not all(registration.session.away for registration in self.registrations):
            self._moved = trio.Event()
            await self._moved.wait()

    def close(self) -> None:
        """End every session."""
        for registration in tuple(self.registrations):
            registration.session.close(websocket.GOING_AWAY, "node is stopping")


def _endpoint(request: Request) -> str:
    endpoint = piko.endpoint_of_upstream_path(request.target)
    if endpoint is None:
        raise HTTPError(404, "not found")
    if request.method != b"GET":
        raise HTTPError(405, "method not allowed")
    if len(endpoint.encode()) > MAX_ENDPOINT or not endpoint.isprintable():
        raise HTTPError(400, f"an endpoint id has at most {MAX_ENDPOINT} printable bytes")
    return endpoint
