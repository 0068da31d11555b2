"""Public TCP ports: a task for each connection, which a relay joins to a stream of the endpoint's session.

client socket -> Relay -> stream of a session -> ... the agent

A port belongs to one endpoint, for a TCP client cannot name any. Nor can it be told why it is not served: its
connection is reset, which a client tells from the end of a service, and a line in the log says why.
"""

from __future__ import annotations

import math

import trio

from engine.log import get_logger
from engine.loop.connection import Connection
from engine.node.client import Clients
from engine.node.registration import Registration
from engine.session.session import NoStream
from engine.tunnel.relay import LEFT, Relay

access_log = get_logger("proxy.tcp.access")


class TCPPort:
    """Takes clients for `endpoint`. `access_level` is that of the lines which say that a connection was opened, and
    closed; None: there are none.
    """

    def __init__(self, endpoint: str, clients: Clients, access_level: str | None = None) -> None:
        self.endpoint = endpoint
        self._clients = clients
        self._access_level = access_level
        self._open = 0
        self._gone = trio.Event()  # the last client has left

    async def serve(self, connection: Connection) -> None:
        """One client, from its first byte to its last. Who accepts resets what is open when this returns."""
        if await self._clients.let_in(connection):
            with self._clients.visits.hold(connection.peer[0]):
                await self._serve(connection)

    async def _serve(self, connection: Connection) -> None:
        clients = self._clients
        client = connection.peer[0]
        registration = await self._find()
        if registration is None:
            clients.unserved.tell(self.endpoint, client, clients.reactor.now)
            return
        if not connection.alive:  # closed while it waited, to make room for others
            return
        try:
            stream = registration.session.open()
        except NoStream as error:
            clients.unserved.tell(self.endpoint, client, clients.reactor.now, str(error))
            return
        # A client may stop reading for as long as it likes: a person looks at a page of rows. What waits for it is
        # bounded by its stream's window, and TCP itself finds out whether it is still there.
        connection.stall_seconds = math.inf
        relay = Relay(connection, stream)
        self._open += 1
        clients.relayed += 1
        self._log("connection opened", client_ip=client)
        begun = trio.current_time()
        try:
            await connection.run()
        finally:
            self._open -= 1
            clients.relayed -= 1
            bytes_in, bytes_out = relay.passed
            if relay.lost == LEFT and not bytes_out:
                clients.aborts.count(client, clients.reactor.now)
            clients.metrics.tcp_done(self.endpoint, bytes_in, bytes_out)
            self._log(
                "connection closed",
                client_ip=client,
                bytes_in=bytes_in,
                bytes_out=bytes_out,
                seconds=round(trio.current_time() - begun, 3),
            )
            if not self._open:
                self._gone.set()

    async def wait_quiet(self) -> None:
        """Return when no client is connected any more."""
        while self._open:
            self._gone = trio.Event()
            await self._gone.wait()

    async def _find(self) -> Registration | None:
        """A session that serves the endpoint. Where the node has just started, its agent is waited for for a moment."""
        clients = self._clients
        registration = clients.registry.pick(self.endpoint)
        if registration is not None or clients.reactor.now >= clients.patient_until:
            return registration
        come = trio.Event()

        def tell() -> None:
            come.set()
            clients.reactor.hand_over()

        forget = clients.registry.wait_for(self.endpoint, tell)
        try:
            with trio.move_on_at(clients.patient_until):
                await come.wait()
        finally:
            forget()
        return clients.registry.pick(self.endpoint)

    def _log(self, event: str, **values: object) -> None:
        if self._access_level is not None:
            access_log.log(self._access_level, event, endpoint_id=self.endpoint, **values)
