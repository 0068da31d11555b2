"""What other nodes and workers serve, as the registry of this one sees it; and what is served for them."""

from __future__ import annotations

import math
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Final

import trio

from engine.cluster.directory import Directory
from engine.cluster.entry import Entry
from engine.cluster.link import Link, Links, LinkState
from engine.log import get_logger
from engine.loop.certificates import Certificates
from engine.loop.connection import Connection
from engine.loop.duplex import LATER
from engine.loop.listen import Handler
from engine.loop.reactor import Reactor
from engine.node.way import ELSEWHERE, StreamOutbound, Way, relay_to
from engine.routing.registry import SharedRegistry
from engine.session.session import NoStream
from engine.session.stream import Stream
from engine.tunnel.relay import Relay
from engine.wire import http1, peers, posts, resumption
from engine.wire.http1 import Request
from engine.wire.owner import find, owner_of_session, tag_of
from engine.wire.peers import Handed, Port, Visit, Wanted

CLOSE_ALL: Final = math.inf
HAND_OVER_SECONDS: Final = 3.0  # for the link

log = get_logger("cluster")


class PeerWay(Way):
    """An endpoint by a peer that serves it. Its streams say first what they are for."""

    def __init__(self, endpoint: str, link: Link, reactor: Reactor, counted: Callable[[str], None]) -> None:
        super().__init__(endpoint, reactor)
        self.link = link
        self._opening = peers.opening(endpoint)
        self._counted = counted

    def __repr__(self) -> str:
        return f"<PeerWay {self.endpoint} {self.link!r}>"

    @property
    def usable(self) -> bool:
        return self.link.up

    def open(self) -> Stream:
        return self._open(self._opening)

    def open_for(self, client: str, port: int = 0) -> Stream:
        return self._open(Visit(client, self.endpoint).encode() if self.guard is not None else self._opening)

    def _open(self, opening: bytes) -> Stream:
        session = self.link.session
        if session is None:
            raise NoStream("the link is lost")
        stream = session.open()
        stream.put(opening)
        return stream

    def take(self, *, fresh: bool = False) -> StreamOutbound:
        self._counted(self.link.entry.node)
        return super().take(fresh=fresh)

    def break_off(self, error: Exception) -> None:
        if self.link.session is not None:
            self.link.session.lose(error)


class _Servers:
    """The peers that serve one endpoint, each with its number of sessions; those that let in certain visitors only are
    `guarded`.
    """

    __slots__ = ("counts", "guarded", "ways")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.guarded: set[str] = set()
        self.ways: dict[str, PeerWay] = {}  # those that have been used

    def candidates(self, links: dict[str, Link], avoid: Way | None, *, first_choice: bool) -> list[Link]:
        """Those that may be asked, in an order drawn in proportion to their sessions; `avoid` only if it is alone, and
        those whose sessions are all standbys or suspended only if all are, and never for `first_choice`.
        """
        known = [(links[id], count) for id, count in self.counts.items() if links[id].state is not LinkState.RESTING]
        best = [one for one in known if one[1] > 0]
        known = best if best or first_choice else [(link, -count) for link, count in known]
        if isinstance(avoid, PeerWay) and len(known) > 1:
            known = [one for one in known if one[0] is not avoid.link]
        if len(known) < 2:
            return [link for link, _ in known]
        # Efraimidis and Spirakis: the greatest of u^(1/w) comes first with a probability in proportion to w.
        return [link for link, _ in sorted(known, key=lambda one: random.random() ** (1 / one[1]), reverse=True)]


class Peers:
    """The other nodes and workers. Watches `directory`; links are tasks in `nursery`.

    `counted` is told the peer's node for each request that goes there, `not_let_in` of each client that came by a peer
    and may not use the endpoint.
    """

    def __init__(
        self,
        directory: Directory,
        own: Entry,
        secret: bytes,
        registry: SharedRegistry[Way],
        reactor: Reactor,
        nursery: trio.Nursery,
        *,
        tls: ssl.SSLContext | Certificates | None = None,
        server_name: str = "",
        counted: Callable[[str], None] = lambda node: None,
        not_let_in: Callable[[], None] = lambda: None,
    ) -> None:
        self.directory = directory
        self.own = own  # as it was in the beginning
        self.links = Links(directory.own_id, secret, reactor, nursery, self._take)
        self.ports: dict[Port, Handler] = {}  # what goes on with connections that are handed over
        self.tag = tag_of(directory.own_id)
        self.streams = 0  # that peers have opened here
        self.handed_over = 0
        self._secret = secret
        self._registry = registry
        self._reactor = reactor
        self._nursery = nursery
        self._context = copy_context()  # that of the reactor: who tells of peers may be a task of another
        self._tls = tls
        self._server_name = server_name
        self._counted = counted
        self._not_let_in = not_let_in
        self._dialled: dict[str, Link] = {}
        self._by_tag: dict[bytes, Link] = {}
        self._servers: dict[str, _Servers] = {}  # by endpoint
        registry.peers = self
        directory.watcher = self
        for entry in directory.peers:
            self.peer_changed(entry)
            for endpoint, count in entry.endpoints.items():
                self.endpoint_changed(entry.id, endpoint, count, endpoint in entry.guarded)

    # -- for the registry

    def pick(self, endpoint: str, *, avoid: Way | None = None, first_choice: bool = False) -> Way | None:
        """See routing.registry.Elsewhere."""
        servers = self._servers.get(endpoint)
        if servers is None:
            return None
        for link in servers.candidates(self._dialled, avoid, first_choice=first_choice):
            if link.up:
                break
            link.want(self._reactor)  # and until it is up, another does it
        else:
            return None
        way = servers.ways.get(link.entry.id)
        if way is None or way.link is not link:
            self._drop_way(servers, link.entry.id)
            way = servers.ways[link.entry.id] = PeerWay(endpoint, link, self._reactor, self._counted)
            way.guard = ELSEWHERE if link.entry.id in servers.guarded else None
            self._reactor.clock(way)
        return way

    def expects(self, endpoint: str) -> bool:
        servers = self._servers.get(endpoint)
        return servers is not None and any(
            self._dialled[id].state is LinkState.DIALLING or self._dialled[id].up for id in servers.counts
        )

    def _start(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        self._context.run(self._nursery.start_soon, task, *args)
        self._reactor.hand_over()

    # -- what the directory tells

    def peer_changed(self, entry: Entry) -> None:
        """See directory.Watcher."""
        before = self._dialled.get(entry.id)
        link = Link(
            entry,
            self.directory.own_id,
            self._secret,
            self._link_changed,
            tls=self._tls,
            server_name=self._server_name,
        )
        self._dialled[entry.id] = self._by_tag[tag_of(entry.id)] = link
        if before is not None:
            before.leave()
        self._start(link.run)

    def peer_removed(self, entry: Entry) -> None:
        """See directory.Watcher."""
        self._dialled.pop(entry.id).leave()
        self._by_tag.pop(tag_of(entry.id), None)

    def endpoint_changed(self, peer: str, endpoint: str, count: int, guarded: bool) -> None:
        """See directory.Watcher."""
        servers = self._servers.setdefault(endpoint, _Servers())
        if guarded != (peer in servers.guarded):
            servers.guarded ^= {peer}
            self._drop_way(servers, peer)
        if count:
            servers.counts[peer] = count
            self._registry.call_waiting(endpoint)
            return
        del servers.counts[peer]
        self._drop_way(servers, peer)
        if not servers.counts:
            del self._servers[endpoint]

    # -- links

    def _link_changed(self, link: Link) -> None:
        """A link is up, or is not any more: who waits for it may ask again."""
        id = link.entry.id
        entry = self.directory.get(id)
        for endpoint in tuple(entry.endpoints) if entry is not None else ():
            servers = self._servers[endpoint]
            way = servers.ways.get(id)
            if way is not None and way.link is link and not link.up:
                self._drop_way(servers, id)
            self._registry.call_waiting(endpoint)

    def _drop_way(self, servers: _Servers, peer: str) -> None:
        way = servers.ways.pop(peer, None)
        if way is not None:
            way.close_idle(CLOSE_ALL)
            self._reactor.unclock(way)

    # -- connections of others' sessions

    def owner(self, request: Request) -> Link | None:
        """Whose the connection is on which this request has come; None if it is our own, or nobody's."""
        tag = posts.tag_of(request.target)
        if not tag and request.upgrade:
            said = [value for name, value in request.fields if name.lower() == resumption.FIELD]
            tag = owner_of_session(said[0]) if len(said) == 1 else b""
        if not tag or tag == self.tag:
            return None
        if tag in self._by_tag:
            return self._by_tag[tag]
        if tag[:1] == b"r":
            return self._dialled.get(find(tag, [self.directory.own_id, *self._dialled]))
        return None

    def start_hand_over(self, link: Link, connection: Connection, port: Port, request: Request) -> None:
        """`hand_over` in a task of its own."""
        connection.pause()
        self._start(self._reactor.supervise, "hand over", self.hand_over, link, connection, port, request)

    async def hand_over(self, link: Link, connection: Connection, port: Port, request: Request) -> None:
        """Have the owner go on with a connection, whose next bytes are behind `request`'s head."""
        connection.pause()
        connection.receiver = LATER
        with trio.move_on_after(HAND_OVER_SECONDS):
            await link.ready(self._reactor)
        if not connection.alive:
            return
        try:
            if link.session is None:
                raise NoStream("the link is lost")
            stream = link.session.open()
        except NoStream as error:
            log.info("cannot hand over", peer=link.entry.id, client_ip=connection.peer[0], error=str(error))
            connection.put(http1.error_response(503, "the node that has the session is not to be reached", close=True))
            connection.close()
            return
        self.handed_over += 1
        stream.put(Handed(port, connection.peer).encode() + request.head)
        Relay(connection, stream)
        connection.resume()

    # -- what peers want of us

    def _take(self, stream: Stream, wanted: Wanted) -> None:
        """A peer has opened a stream for what this process has itself."""
        if isinstance(wanted, str):
            self._join(stream, wanted, "")  # which an agent that lets in certain visitors only does not let in
        elif isinstance(wanted, Visit):
            self._join(stream, wanted.endpoint, wanted.address)
        else:
            self._converse(stream, wanted)

    def _converse(self, stream: Stream, handed: Handed) -> None:
        """A connection has come to a port of ours by way of another node."""
        near, far = (Connection(one, peer=handed.address) for one in socket.socketpair())
        Relay(stream, far)
        for connection, handler in ((far, Connection.run), (near, self.ports[handed.port])):
            self._start(self._reactor.supervise, "connection", self._run_handed, connection, handler)

    async def _run_handed(self, connection: Connection, handler: Handler) -> None:
        try:
            await handler(connection)
        finally:
            connection.abort()

    def _join(self, stream: Stream, endpoint: str, client: str) -> None:
        if relay_to(self._registry.pick_local(endpoint), stream, client, self._not_let_in, self._done) is not None:
            self.streams += 1

    def _done(self, error: Exception | None) -> None:
        self.streams -= 1

    async def leave(self) -> None:
        """Have peers send nothing more, and end their links when nothing of theirs is under way."""
        await self.links.leave()
