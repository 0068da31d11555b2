"""The proxy port: which endpoint a client asks for, whether it may, and what its request looks like when it goes on.

    client socket -> ClientFront -> (endpoint, token, session) -> stream -> ... the agent

HTTP itself is `transport.exchange`; raw TCP is a WebSocket at `/_piko/v1/tcp/{endpoint}`, relayed.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

import trio

from engine.access_log import AccessLog
from engine.admin.metrics import NodeMetrics
from engine.auth.verifier import Verifier
from engine.errors import HTTPError, Unauthorized
from engine.log import get_logger
from engine.node.session import Session
from engine.routing.registry import Registry
from engine.transport.connection import Connection
from engine.transport.duplex import Duplex
from engine.transport.exchange import Back, Front, Timeouts, passable
from engine.transport.leg import Leg
from engine.transport.pulse import Pulse
from engine.transport.relay import Relay
from engine.wire import http1, piko, websocket
from engine.wire.http1 import Fields, Request

HANDSHAKE_SECONDS: Final = 10.0

log = get_logger("proxy")


class ClientFront(Front):
    """A client's connection, and what its present request is about."""

    __slots__ = ("asked", "connection", "endpoint", "forwarded", "give_up_waiting", "session", "takes_tokens")

    def __init__(self, connection: Connection, port: ClientPort) -> None:
        super().__init__(connection, port, port.pulse)
        self.connection = connection
        self.asked: _Asked | None = None  # by the latest request
        self.takes_tokens = port.takes_tokens
        self.endpoint = ""
        self.session: Session | None = None
        self.forwarded = [(b"X-Forwarded-Proto", b"https" if port.tls else b"http")]
        self.give_up_waiting: Callable[[], None] | None = None  # set while waiting for an agent to register

    def expired(self) -> None:
        if self.give_up_waiting is not None:
            self.fail(502, piko.NO_AVAILABLE_UPSTREAMS)
        else:
            super().expired()


class _Asked:
    """What a request's head asks for, and how it goes on: the same for every request with this head and connection."""

    __slots__ = ("credentials", "endpoint", "head", "is_tcp", "own_credentials", "request", "tenants")

    def __init__(self, request: Request, front: ClientFront) -> None:
        self.request = request
        self.credentials: list[bytes] = []
        self.own_credentials: list[bytes] = []
        self.tenants: list[bytes] = []
        tcp_endpoint = piko.endpoint_of_tcp_path(request.target) if request.method == b"GET" else None
        self.is_tcp = tcp_endpoint is not None
        named = b""
        fields: Fields = []
        forwarded_for: list[bytes] = []
        for field in http1.end_to_end(request):
            name = field[0].lower()
            if name[:2] == b"x-":
                if name[:7] == piko.PREFIX:
                    if name == piko.ENDPOINT:
                        named = field[1]
                    elif name == piko.AUTHORIZATION:
                        self.own_credentials.append(field[1])
                    elif name == piko.TENANT_ID:
                        self.tenants.append(field[1])
                    continue
                if name == b"x-forwarded-for":
                    forwarded_for.append(field[1])
                    continue
                if name in (b"x-forwarded-proto", b"x-forwarded-host"):
                    continue
            elif name == b"authorization" and front.takes_tokens:
                self.credentials.append(field[1])
                continue
            fields.append(field)
        self.endpoint = tcp_endpoint or named.decode("utf-8", "replace") or piko.endpoint_of_host(request.host)
        if any(self.own_credentials):
            # The service's own credentials, which were not ours to look at.
            own = self.own_credentials
            fields += [(b"Authorization", value) for value in self.credentials if value not in own]
        forwarded_for.append(front.connection.peer[0].encode())
        fields.append((b"X-Forwarded-For", b", ".join(forwarded_for)))
        if request.host:
            fields.append((b"X-Forwarded-Host", request.host))
        else:  # HTTP/1.0 can do without; 1.1, in which the request goes on, cannot (RFC 9112, 3.2)
            fields.append((b"Host", quote(self.endpoint, safe="").encode()))
        fields += front.forwarded
        self.head = passable(request, fields)


class ClientPort:
    """The role of the proxy port (see exchange.Role).

    `patience_seconds`: how long after its start the node lets a request wait for an endpoint that has no session
    yet; agents that lost the node's predecessor are on their way.
    """

    def __init__(
        self,
        registry: Registry[Session],
        pulse: Pulse,
        metrics: NodeMetrics,
        *,
        timeouts: Timeouts,
        verifier: Verifier | None = None,
        access_log: AccessLog | None = None,
        tls: ssl.SSLContext | None = None,
        patience_seconds: float = 0.0,
    ) -> None:
        self.registry = registry
        self.pulse = pulse
        self.timeouts = timeouts
        self.tls = tls
        self.fronts: set[ClientFront] = set()
        self.legs = 0  # raw TCP connections being relayed
        self.leaving = False
        self._metrics = metrics
        self.takes_tokens = verifier is not None
        self._verifier = verifier
        self._access_log = access_log
        self._gone = trio.Event()  # a client has left
        self._patient_until = pulse.now + patience_seconds

    async def serve(self, connection: Connection) -> None:
        """One client, from its first byte to its last."""
        if self.tls is not None:
            try:
                with trio.fail_after(HANDSHAKE_SECONDS):
                    await connection.start_tls(self.tls, server=True)
            except (OSError, ssl.SSLError, trio.TooSlowError) as error:
                log.info("TLS handshake failed", client=connection.peer[0], error=str(error))
                return
        front = ClientFront(connection, self)
        self.fronts.add(front)
        try:
            await connection.run()
        finally:
            self.fronts.discard(front)
            self.pulse.forget(front)
            self._gone.set()

    # -- exchange.Role

    def begin(self, front: Front, request: Request) -> Back | None:
        assert isinstance(front, ClientFront)
        if not front.attempt:
            self._metrics.request_started()
            front.session = None
        # A client that repeats itself asks for the same; and the parser gives equal heads the same object.
        asked = front.asked
        if asked is None or asked.request is not request:
            asked = _Asked(request, front)
            front.asked = asked if request.repeats else None
        front.endpoint = asked.endpoint
        if not asked.endpoint:
            front.fail(400, piko.MISSING_ENDPOINT_ID)
            return None
        if self._verifier is not None:
            try:
                self._verifier.verify(asked.own_credentials, asked.credentials, asked.tenants).check(asked.endpoint)
            except Unauthorized as error:
                front.fail(401, str(error))
                return None
        if asked.is_tcp:
            self._begin_tcp(front, request)
            return None
        front.head = asked.head
        session = self.registry.pick(front.endpoint, avoid=front.session if front.attempt else None)
        if session is not None:
            front.session = session
            return session.take(fresh=front.attempt > 0)
        if self.pulse.now < self._patient_until and not front.attempt:
            front.deadline = self._patient_until
            front.give_up_waiting = self.registry.wait_for(front.endpoint, lambda: self._registered(front))
        else:
            front.fail(502, piko.NO_AVAILABLE_UPSTREAMS)
        return None

    def _registered(self, front: ClientFront) -> None:
        """An agent has come for the endpoint that `front` waits for."""
        front.give_up_waiting = None
        front.deadline = self.pulse.now + self.timeouts.answer
        session = front.session = self.registry.pick(front.endpoint)
        if session is None:
            front.fail(502, piko.NO_AVAILABLE_UPSTREAMS)
        else:
            front.serve_by(session.take())

    def finished(self, front: Front) -> None:
        assert isinstance(front, ClientFront)
        if front.give_up_waiting is not None:
            front.give_up_waiting()
            front.give_up_waiting = None
        if front.attempt < 0:
            self._metrics.request_started()
            front.endpoint, front.session = "", None
        served = front.endpoint if front.session is not None else ""
        self._metrics.request_done(*front.figures(), served, front.first_byte_seconds)
        if self._access_log is not None:
            front.write(self._access_log, client=front.connection.peer[0], endpoint=front.endpoint)

    # -- raw TCP

    def _begin_tcp(self, front: ClientFront, request: Request) -> None:
        try:
            accept = websocket.check_upgrade_request(request.fields) if request.upgrade else b""
        except HTTPError as error:
            front.fail(error.status, error.public)
            return
        if not accept:
            front.fail(400, "a WebSocket upgrade is wanted here")
            return
        session = self.registry.pick(front.endpoint)
        if session is None:
            front.fail(502, piko.NO_AVAILABLE_UPSTREAMS)
            return
        half_close = any(name.lower() == piko.HALF_CLOSE for name, _ in request.fields)
        fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", accept)]
        if half_close:
            fields.append((piko.HALF_CLOSE, b"1"))
        front.status = 101
        front.answered = True
        front.take_over()
        connection = front.connection
        connection.put(http1.encode_response(101, b"Switching Protocols", fields))
        leg = Leg(connection, client=False, half_close=half_close)
        stream: Duplex = session.link.open()
        self.legs += 1
        relay: Relay

        def done(error: Exception | None) -> None:
            self.legs -= 1
            front.bytes_in, front.bytes_out = relay.bytes_right, relay.bytes_left
            self.finished(front)
            self._metrics.tcp_done(front.endpoint, relay.bytes_right, relay.bytes_left)

        relay = Relay(leg, stream, done)

    # -- leaving

    def leave(self) -> None:
        """No new requests on the connections there are (those under way go on)."""
        self.leaving = True
        for front in tuple(self.fronts):
            front.leave()

    async def wait_quiet(self) -> None:
        """Return when no client is connected any more."""
        while self.fronts:
            self._gone = trio.Event()
            await self._gone.wait()
