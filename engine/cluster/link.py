"""Links between two peers: sessions in which one end opens streams, and the other joins each to a session it has.

A link goes one way: who has requests for a peer's sessions dials it. It is dialled when it is first wanted, kept, and
dialled again when it is wanted after it was lost. For requests the other way, the peer dials a link of its own.

The workers of a node share its ports, and the kernel chooses who answers. Who was not meant says so (421), and the
link is dialled again at once.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Final, Protocol

import trio

from engine.carriers.opening import read_head
from engine.carriers.plain import PlainCarrier
from engine.cluster.entry import Entry
from engine.errors import HTTPError, RemoteProtocolError
from engine.log import get_logger
from engine.loop.backoff import Backoff
from engine.loop.certificates import Certificates, now
from engine.loop.connection import Connection
from engine.loop.dial import dial_tcp
from engine.loop.duplex import NOBODY
from engine.loop.listen import split_address
from engine.loop.reactor import Reactor
from engine.session.session import Session
from engine.session.stream import Stream
from engine.wire import http1, peers
from engine.wire.http1 import Request
from engine.wire.peers import Hello, Wanted
from engine.wire.websocket import GOING_AWAY

DIAL_SECONDS: Final = 5.0
PROOF_SECONDS: Final = 5.0
REST_SECONDS: Final = 2.0  # the longest pause behind a failed dial
DIALS_PER_WORKER: Final = 8  # then the one that was meant has answered, but for 0.03 % of the links
UNIX: Final = "unix:"

log = get_logger("cluster")


class LinkState(Enum):
    """Of a link, at the end that dials."""

    IDLE = auto()  # nobody has wanted it since it was last up
    DIALLING = auto()
    UP = auto()
    RESTING = auto()  # a dial has failed: it is dialled again in a moment, if it is wanted
    GONE = auto()  # the peer has left


class Link:
    """The way to one peer. `changed(link)` is called when it is up, and when it is not (any more)."""

    def __init__(
        self,
        entry: Entry,
        own_id: str,
        secret: bytes,
        changed: Callable[[Link], None],
        *,
        tls: ssl.SSLContext | Certificates | None = None,
        server_name: str = "",
    ) -> None:
        self.entry = entry
        self.state = LinkState.IDLE
        self.session: Session | None = None  # in UP
        self._own_id = own_id
        self._secret = secret
        self._changed = changed
        self._tls = tls
        self._server_name = server_name
        self._wanted = trio.Event()
        self._settled = trio.Event()  # it is up, or was not to be
        self._backoff = Backoff()
        self._scope = trio.CancelScope()
        self._left = trio.Event()

    def __repr__(self) -> str:
        return f"<Link {self.entry.id} {self.state.name}>"

    @property
    def up(self) -> bool:
        """Streams may be opened in it."""
        session = self.session
        return self.state is LinkState.UP and session is not None and session.alive and not session.away

    def want(self, reactor: Reactor) -> None:
        """There is something to be sent by it."""
        if self.state is LinkState.IDLE:
            self.state = LinkState.DIALLING
            self._settled = trio.Event()
            self._wanted.set()
            reactor.hand_over()

    async def ready(self, reactor: Reactor) -> bool:
        """See to it that it is up, if it can be; is it?"""
        self.want(reactor)
        await self._settled.wait()
        return self.up

    def leave(self) -> None:
        """The peer is gone, or has another address: nothing new is sent to it. What is under way goes on as long as it
        can, for a node that leaves finishes it.
        """
        self.state = LinkState.GONE
        self._left.set()
        if self.session is None:
            self._scope.cancel()

    async def run(self) -> None:
        """Keep it, until `leave`."""
        with self._scope:
            while self.state is not LinkState.GONE:
                await self._wanted.wait()
                try:
                    with trio.fail_after(DIAL_SECONDS):
                        session = await self._dial()
                except (OSError, trio.TooSlowError, RemoteProtocolError) as error:
                    await self._rest(str(error) or "no answer")
                    continue
                log.info("link up", peer=self.entry.id, addr=self.entry.addr)
                self.session = session
                self._enter(LinkState.UP)
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._end_when_left, session)
                        await session.run()
                        nursery.cancel_scope.cancel()
                finally:
                    self.session = None
                log.info("link lost", peer=self.entry.id, reason=str(session.error))
                self._backoff.settled()
                if not self._left.is_set():
                    self._wanted = trio.Event()
                    self._enter(LinkState.IDLE)
        self._enter(LinkState.GONE)

    async def _end_when_left(self, session: Session) -> None:
        await self._left.wait()
        await session.wait_quiet()
        session.close(GOING_AWAY, "the peer is gone")

    async def _rest(self, why: str) -> None:
        delay = self._backoff.next(ceiling=REST_SECONDS)
        log.warning("no link to a peer", peer=self.entry.id, addr=self.entry.addr, error=why, again_seconds=delay)
        self._wanted = trio.Event()
        self._enter(LinkState.RESTING)
        await trio.sleep(delay)
        self.state = LinkState.IDLE

    def _enter(self, state: LinkState) -> None:
        self.state = state
        self._settled.set()
        self._changed(self)

    async def _dial(self) -> Session:
        workers = self.entry.workers
        left = DIALS_PER_WORKER * workers if workers > 1 else 1
        while True:
            left -= 1
            try:
                return await self._dial_once()
            except _OtherWorker:
                if not left:
                    raise

    async def _dial_once(self) -> Session:
        connection = await self._connect()
        try:
            hello = Hello(self._own_id, self.entry.id, peers.new_nonce())
            connection.put(
                http1.encode_request(
                    b"GET",
                    peers.PATH,
                    [
                        (b"Host", b"peer"),
                        (b"Connection", b"Upgrade"),
                        (b"Upgrade", peers.PROTOCOL),
                        (peers.FIELD, hello.encode()),
                    ],
                )
            )
            response = http1.parse_response(await read_head(connection), b"GET")
            if response.status == 421:
                raise _OtherWorker("another node or worker has answered")
            if response.status != 101:
                raise RemoteProtocolError(f"it answered {response.status} {response.reason.decode('latin-1')}")
            connection.put(peers.check_answer(self._secret, hello, response.fields))
        except BaseException:
            connection.abort()
            raise
        connection.stall_seconds = math.inf  # pings tell whether it lives
        return Session(PlainCarrier(connection), accepts=False, on_away=lambda: self._changed(self))

    async def _connect(self) -> Connection:
        addr = self.entry.addr
        if addr.startswith(UNIX):
            stream = await trio.open_unix_socket(addr.removeprefix(UNIX))
            return Connection(socket.socket(fileno=stream.socket.detach()))
        host, port = split_address(addr)
        return await dial_tcp(host, port, tls=now(self._tls), server_name=self._server_name or host)


class _OtherWorker(RemoteProtocolError):
    """Not the peer that was meant."""


class Take(Protocol):
    """Joins a stream to a session of this process, or to one of its ports, whichever it has said that it is for."""

    def __call__(self, stream: Stream, wanted: Wanted) -> None: ...


def level_of(error: Exception) -> str:
    """At which a failed attempt to open a link is told. That another worker was meant is in the order of things."""
    return "debug" if isinstance(error, HTTPError) and error.status == 421 else "info"


class Links:
    """Takes the links that peers dial. Their sessions are tasks in `sessions`. Without a secret there are no peers."""

    def __init__(self, own_id: str, secret: bytes, reactor: Reactor, sessions: trio.Nursery, take: Take) -> None:
        self._own_id = own_id
        self._secret = secret
        self._reactor = reactor
        self._sessions = sessions
        self._take = take
        self.accepted: set[Session] = set()
        self._leaving = False

    async def serve(self, connection: Connection) -> None:
        """A connection to a port that is for peers alone."""
        try:
            with trio.fail_after(PROOF_SECONDS):
                request = http1.parse_request(await read_head(connection))
            self.accept(connection, request)
        except (OSError, trio.TooSlowError, RemoteProtocolError) as error:
            level = level_of(error)
            log.log(level, "no peer", client_ip=connection.peer[0], error=str(error) or "timeout")
            if isinstance(error, HTTPError):
                connection.put(http1.error_response(error.status, error.public, close=True))
            connection.close()
        await connection.run()

    def accept(self, connection: Connection, request: Request) -> None:
        """Answer a request for a link, and take what follows. Raises HTTPError."""
        if not self._secret or request.target != peers.PATH:
            raise HTTPError(404, "not found")
        if not request.upgrade or request.body:
            raise HTTPError(400, "expected an upgrade to trioduct-peer")
        hello = peers.hello_in(request.fields)
        if hello.from_id == self._own_id:
            raise HTTPError(508, "a node has dialled itself: its address or its id is another's, too")
        if hello.to_id != self._own_id:
            raise HTTPError(421, "another node was meant")
        if self._leaving:  # who has just been sent away, and does not know that there is nothing to come back for
            raise HTTPError(503, "the node is leaving")
        nonce = peers.new_nonce()
        connection.put(
            http1.encode_response(
                101,
                b"Switching Protocols",
                [
                    (b"Connection", b"Upgrade"),
                    (b"Upgrade", peers.PROTOCOL),
                    (peers.FIELD, peers.answer(self._secret, hello, nonce)),
                ],
            )
        )
        proof = peers.proof_of_dialler(self._secret, hello, nonce)
        _Proof(connection, proof, partial(self._begin, connection, hello.from_id), self._reactor)

    def _begin(self, connection: Connection, peer: str) -> None:
        connection.stall_seconds = math.inf
        session = Session(PlainCarrier(connection), accepts=True, on_stream=self._open)
        self.accepted.add(session)
        self._sessions.start_soon(self._reactor.supervise, "link", self._run, session, peer)
        self._reactor.hand_over()

    def _open(self, stream: Stream) -> None:
        _Opening(stream, self._take)

    async def _run(self, session: Session, peer: str) -> None:
        log.info("link accepted", peer=peer, addr=session.carrier.peer[0])
        try:
            await session.run()
        finally:
            self.accepted.discard(session)
            log.info("link ended", peer=peer, reason=str(session.error))

    async def leave(self) -> None:
        """Have peers send nothing more, and end their links when nothing is under way."""
        self._leaving = True
        for session in self.accepted:
            session.go_away()
        for session in tuple(self.accepted):
            if session.alive:  # what was opened before the other end has heard it is served, too
                await session.round_trip_done()
            await session.wait_quiet()
            session.close(GOING_AWAY, "node is stopping")


class _Proof:
    """Receives the dialling end's proof."""

    idle = True

    def __init__(self, connection: Connection, proof: bytes, begin: Callable[[], None], reactor: Reactor) -> None:
        self.deadline = reactor.now + PROOF_SECONDS
        self._connection = connection
        self._proof = proof
        self._begin = begin
        self._reactor = reactor
        self._got = b""
        connection.receiver = self
        reactor.clock(self)

    def received(self, data: memoryview) -> int:
        taken = peers.PROOF_SIZE - len(self._got)
        self._got += data[:taken]
        if len(self._got) < peers.PROOF_SIZE:
            return len(data)
        self._reactor.unclock(self)
        if not peers.same(self._got, self._proof):
            log.warning("a peer does not know the cluster's secret", addr=self._connection.peer[0])
            self._connection.abort()
            return len(data)
        self._begin()
        rest = data[taken:]
        return taken + (self._connection.receiver.received(rest) if rest else 0)

    def ended(self) -> None:
        self._give_up()

    def lost(self, error: Exception) -> None:
        self._reactor.unclock(self)

    def drained(self) -> None: ...

    def expired(self) -> None:
        self._give_up()

    def break_off(self, error: Exception) -> None:
        self._give_up()

    def _give_up(self) -> None:
        self._reactor.unclock(self)
        self._connection.abort()


class _Opening:
    """Receives what a stream of a link begins with."""

    idle = False

    def __init__(self, stream: Stream, take: Take) -> None:
        self._stream = stream
        self._take = take
        self._got = b""
        stream.receiver = self

    def received(self, data: memoryview) -> int:
        known = len(self._got)
        self._got += data[: peers.LENGTH_SIZE + peers.MAX_NAME - known]
        try:
            found = peers.read_opening(self._got)
        except RemoteProtocolError:
            self._stream.abort()
            return len(data)
        if found is None:
            return len(data)
        wanted, end = found
        taken = end - known
        self._take(self._stream, wanted)
        rest = data[taken:]
        if not rest or self._stream.receiver is NOBODY:
            return len(data)
        return taken + self._stream.receiver.received(rest)

    def ended(self) -> None:
        self._stream.abort()

    def lost(self, error: Exception) -> None: ...

    def drained(self) -> None: ...

    def break_off(self, error: Exception) -> None:
        self._stream.abort()
