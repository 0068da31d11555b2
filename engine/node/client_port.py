"""The proxy port: a task for each client, from its first byte to its last.

client socket -> Inbound (its role: Client) -> stream of a session -> ... the agent

Where HTTP/2 is spoken, it is agreed on with TLS (ALPN), or begins with its preface (RFC 9113, 3.3), which is no request
of HTTP/1.1: who reads that finds it out where it would be refused, so that nobody else pays for it.
"""

from __future__ import annotations

import math
from functools import partial

import trio

from engine.gateway.inbound import Inbound
from engine.http2 import Connection as Http2
from engine.log import Logger, get_logger
from engine.loop.certificates import Certificates
from engine.loop.connection import Connection
from engine.loop.reading import start_tls
from engine.loop.wait_group import WaitGroup
from engine.node.client import HANDSHAKE_SECONDS, Client, Clients
from engine.node.http2 import converse
from engine.node.traced import TracedClient

log = get_logger("proxy")


class ClientPort:
    """Takes clients; `tls.context`, if there is one, is what they have to speak. `http2`: they may speak it."""

    def __init__(self, clients: Clients, tls: Certificates, *, http2: bool) -> None:
        self._clients = clients
        self._tls = tls
        self._leaving = False
        self._talks: dict[Connection, Inbound | Http2] = {}  # of those that may speak
        if http2:
            clients.http2 = self._speak_http2
        self._connected = WaitGroup()

    async def serve(self, connection: Connection) -> None:
        """One client, from its first byte to its last."""
        with self._connected:
            if await self._clients.let_in(connection):
                with self._clients.visits.hold(connection.peer[0]):
                    await self._serve(connection)

    async def _serve(self, connection: Connection) -> None:
        if await secured(connection, self._tls, log):
            await self._converse(connection)

    async def take(self, connection: Connection) -> None:
        """One client, whose connection another node has handed over to us."""
        with self._connected:
            await self._converse(connection, handed=True)

    async def _converse(self, connection: Connection, *, handed: bool = False) -> None:
        reactor = self._clients.reactor
        if self._clients.timeouts.stall < math.inf:
            connection.stall_seconds = self._clients.timeouts.stall
        if self._clients.http2 is not None and connection.alpn == "h2":
            self._speak_http2(connection, 0)
        else:
            made = Client if self._clients.tracer is None else TracedClient
            inbound = Inbound(connection, made(connection, self._clients, handed=handed), reactor)
            if self._leaving:
                inbound.leave()
            self._talks[connection] = inbound
        try:
            await connection.run()
        finally:
            reactor.unclock(self._talks.pop(connection))

    def _speak_http2(self, connection: Connection, seen: int) -> None:
        """From now on. So much of the client's preface has been read."""
        talk = self._talks[connection] = converse(connection, self._clients, seen=seen)
        if self._leaving:
            talk.leave()

    def leave(self, *, carriers: bool) -> None:
        """No new requests on the connections there are (those under way go on), but those of `carriers` if they do not
        leave yet.
        """
        self._leaving = True
        for talk in tuple(self._talks.values()):
            leave = partial(talk.leave, carriers=carriers) if isinstance(talk, Inbound) else talk.leave
            self._clients.reactor.call("leave", talk, leave)

    async def wait_quiet(self) -> None:
        """Return when no client is connected any more."""
        await self._connected.wait()


async def secured(connection: Connection, tls: Certificates, log: Logger) -> bool:
    """Speak TLS from here on, if there is something to speak it with. False: the handshake has failed, and `log` says
    so; the connection is closed.
    """
    if tls.context is None:
        return True
    try:
        with trio.fail_after(HANDSHAKE_SECONDS):
            await start_tls(connection, tls.context, server=True)
    except (OSError, trio.TooSlowError) as error:
        log.info("TLS handshake failed", client_ip=connection.peer[0], error=str(error) or "timeout")
        connection.close()  # behind the alert that says why
        await connection.run()
        return False
    return True
