"""The proxy port: a task for each client, from its first byte to its last.

client socket -> Inbound (its role: Client) -> stream of a session -> ... the agent

Who is trusted and speaks the PROXY protocol says first for whom it calls. From there on the connection is that
client's.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from engine.errors import RemoteProtocolError
from engine.gateway.inbound import Inbound
from engine.log import get_logger
from engine.loop.certificates import Certificates
from engine.loop.connection import Connection
from engine.loop.reading import Reader, start_tls
from engine.node.client import Client, Clients
from engine.wire import proxy_protocol

HANDSHAKE_SECONDS: Final = 10.0

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
        reactor = self._clients.reactor
        if self._clients.proxy_protocol and self._clients.trust.covers(connection.peer[0]):
            try:
                with trio.fail_after(HANDSHAKE_SECONDS):
                    header = await Reader(connection).until(proxy_protocol.header_end)
                connection.peer = proxy_protocol.source(header) or connection.peer
            except (OSError, trio.TooSlowError, RemoteProtocolError) as error:
                told = str(error) or "timeout"
                log.info("no PROXY header from a trusted proxy", client_ip=connection.peer[0], error=told)
                return
        if self._clients.aborts.is_banned(connection.peer[0], reactor.now):
            return
        tls = self._tls.context
        if tls is not None:
            try:
                with trio.fail_after(HANDSHAKE_SECONDS):
                    await start_tls(connection, tls, server=True)
            except (OSError, trio.TooSlowError) as error:
                log.info("TLS handshake failed", client_ip=connection.peer[0], error=str(error))
                connection.close()  # behind the alert that says why
                await connection.run()
                return
        if self._clients.timeouts.stall < math.inf:
            connection.stall_seconds = self._clients.timeouts.stall
        inbound = Inbound(connection, Client(connection, self._clients), reactor)
        if self._leaving:
            inbound.leave()
        self._inbounds.add(inbound)
        try:
            await connection.run()
        finally:
            self._inbounds.discard(inbound)
            reactor.unclock(inbound)
            self._gone.set()

    def leave(self) -> None:
        """No new requests on the connections there are (those under way go on)."""
        self._leaving = True
        for inbound in tuple(self._inbounds):
            self._clients.reactor.call("leave", inbound, inbound.leave)

    async def wait_quiet(self) -> None:
        """Return when no client is connected any more."""
        while self._inbounds:
            self._gone = trio.Event()
            await self._gone.wait()
