"""The proxy port: a task for each client, from its first byte to its last.

client socket -> Inbound (its role: Client) -> stream of a session -> ... the agent
"""

from __future__ import annotations

import math

import trio

from engine.gateway.inbound import Inbound
from engine.log import Logger, get_logger
from engine.loop.certificates import Certificates
from engine.loop.connection import Connection
from engine.loop.reading import start_tls
from engine.node.client import HANDSHAKE_SECONDS, Client, Clients
from engine.node.traced import TracedClient

log = get_logger("proxy")


class ClientPort:
    """Takes clients; `tls.context`, if there is one, is what they have to speak."""

    def __init__(self, clients: Clients, tls: Certificates) -> None:
        self._clients = clients
        self._tls = tls
        self._leaving = False
        self._inbounds: set[Inbound] = set()
        self._gone = trio.Event()  # a client has left

    async def serve(self, connection: Connection) -> None:
        """One client, from its first byte to its last."""
        if await self._clients.let_in(connection):
            with self._clients.visits.hold(connection.peer[0]):
                await self._serve(connection)

    async def _serve(self, connection: Connection) -> None:
        if await secured(connection, self._tls, log):
            await self._converse(connection)

    async def take(self, connection: Connection) -> None:
        """One client, whose connection another node has handed over to us."""
        await self._converse(connection, handed=True)

    async def _converse(self, connection: Connection, *, handed: bool = False) -> None:
        reactor = self._clients.reactor
        if self._clients.timeouts.stall < math.inf:
            connection.stall_seconds = self._clients.timeouts.stall
        made = Client if self._clients.tracer is None else TracedClient
        inbound = Inbound(connection, made(connection, self._clients, handed=handed), reactor)
        if self._leaving:
            inbound.leave()
        self._inbounds.add(inbound)
        try:
            await connection.run()
        finally:
            self._inbounds.discard(inbound)
            reactor.unclock(inbound)
            self._gone.set()

    def leave(self, *, carriers: bool) -> None:
        """No new requests on the connections there are (those under way go on), but those of `carriers` if they do not
        leave yet.
        """
        self._leaving = True
        for inbound in tuple(self._inbounds):
            self._clients.reactor.call("leave", inbound, inbound.leave, carriers=carriers)

    async def wait_quiet(self) -> None:
        """Return when no client is connected any more."""
        while self._inbounds:
            self._gone = trio.Event()
            await self._gone.wait()


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
