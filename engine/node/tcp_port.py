"""Public TCP ports: a task for each connection, which a relay joins to a stream of the endpoint's session.

client socket -> Relay -> stream of a session -> ... the agent

A port belongs to one endpoint, for a TCP client cannot name any. Nor can it be told why it is not served: its
connection is reset, which a client tells from the end of a service, and a line in the log says why.
"""

from __future__ import annotations

import math

import trio

from engine.limits import Whose
from engine.log import get_logger
from engine.loop.connection import Connection
from engine.loop.wait_group import WaitGroup
from engine.node.admission import logged
from engine.node.client import LINK_SECONDS, Clients
from engine.node.legs import NOT_LET_IN, TOO_MANY
from engine.node.way import NotLetIn, Way
from engine.routing import tenants
from engine.session.session import NoStream
from engine.tunnel.paced import paced
from engine.tunnel.relay import LEFT, Relay

access_log = get_logger("proxy.tcp.access")


class TCPPort:
    """Takes clients for the endpoint of `key`. `access_level` is that of the lines which say that a connection was
    opened, and closed; None: there are none.
    """

    def __init__(self, key: str, clients: Clients, access_level: str | None = None) -> None:
        self.endpoint = key
        self._clients = clients
        self._access_level = access_level
        self._connected = WaitGroup()

    async def serve(self, connection: Connection) -> None:
        """One client, from its first byte to its last. Who accepts resets what is open when this returns."""
        with self._connected:
            if await self._clients.let_in(connection):
                with self._clients.visits.hold(connection.peer[0]):
                    await self._serve(connection)

    async def _serve(self, connection: Connection) -> None:
        clients = self._clients
        client = connection.peer[0]
        if clients.visitors.refuse_bytes(self.endpoint, client):
            clients.unserved.tell(self.endpoint, client, clients.reactor.now, NOT_LET_IN)
            return
        way = await self._find()
        if way is None:
            clients.unserved.tell(self.endpoint, client, clients.reactor.now)
            return
        if not connection.alive:  # closed while it waited, to make room for others
            return
        whose = Whose(self.endpoint, "", tenants.split(self.endpoint)[1])
        traffic, pace = clients.traffic, None
        if traffic is not None:
            if traffic.ask(whose, clients.reactor.now):
                clients.unserved.tell(self.endpoint, client, clients.reactor.now, TOO_MANY)
                return
            pace = traffic.pace(whose)
        if clients.shares is not None:
            clients.shares.book(connection.account, whose.party, whose.tenant)
        try:
            stream = way.open_for(client, connection.peer[1])
        except NoStream as error:
            if isinstance(error, NotLetIn):
                clients.visitors.not_let_in()
            clients.unserved.tell(self.endpoint, client, clients.reactor.now, str(error))
            return
        # A client may stop reading for as long as it likes: a person looks at a page of rows. What waits for it is
        # bounded by its stream's window, and TCP itself finds out whether it is still there.
        connection.stall_seconds = math.inf
        relay = Relay(paced(connection, pace, clients.reactor), stream)
        clients.relayed += 1
        self._log("connection opened", client_ip=client)
        begun = trio.current_time()
        try:
            await connection.run()
        finally:
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

    async def wait_quiet(self) -> None:
        """Return when no client is connected any more."""
        await self._connected.wait()

    async def _find(self) -> Way | None:
        """A session that serves the endpoint. Its agent is waited for for a moment where the node has just started, and
        the link to a peer that has one.
        """
        clients = self._clients
        registry, since = clients.registry, clients.reactor.now
        while (way := registry.pick(self.endpoint)) is None:
            until = clients.patient_until
            if registry.expects(self.endpoint):
                until = max(until, since + LINK_SECONDS)
            if clients.reactor.now >= until:
                return None
            come = trio.Event()

            def tell(come: trio.Event = come) -> None:
                come.set()
                clients.reactor.hand_over()

            forget = registry.wait_for(self.endpoint, tell)
            try:
                with trio.move_on_at(until):
                    await come.wait()
            finally:
                forget()
        return way

    def _log(self, event: str, **values: object) -> None:
        if self._access_level is not None:
            access_log.log(self._access_level, event, **logged(self.endpoint), **values)
