"""Listening: sockets from an address, and one task per connection, as long as there is room for it.

A supervisor that hands over listening sockets (systemd's LISTEN_FDS) is honoured: the socket then outlives the
process, so that connections made during a restart wait in its backlog instead of being refused.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import trio

from engine.errors import CannotListen
from engine.log import get_logger
from engine.loop.connection import Connection, address_of, tune
from engine.loop.reactor import READABLE, current_reactor

BACKLOG = 4096
ACCEPTED_PER_TURN = 4
FULL_SECONDS = 0.1  # out of file descriptors: how long to leave the queue alone
FRESH_SECONDS = 1.0  # in which who has come may say what for
RESERVED = 64  # descriptors (a quarter where there are few) for all but clients and agents: the admin port, logs
MANY = 1 << 20
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_FIRST_INHERITED = 3  # SD_LISTEN_FDS_START

log = get_logger("server")


def split_address(address: str) -> tuple[str, int]:
    """ ":8000" -> ("", 8000), "[::1]:80" -> ("::1", 80). ValueError for what is no host:port."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"expected host:port, got {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """The other way round: "::1", 80 -> "[::1]:80"."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def open_listeners(address: str) -> list[socket.socket]:
    """Listening sockets for `address` (no host: every address of the machine, v6 and v4). Raises CannotListen."""
    try:
        listeners = _open_listeners(address)
        for listener in listeners:
            tune(listener)  # what it accepts is like it
        return listeners
    except OSError as error:
        raise CannotListen(address, error) from error


def open_shared_listeners(address: str, count: int) -> list[list[socket.socket]]:
    """`count` times the listening sockets for `address`, among which the kernel distributes connections (SO_REUSEPORT).

    Raises CannotListen, also if somebody else listens there already: he would be given a share.
    """
    try:
        host, _ = split_address(address)
        alone = _open_listeners(address)
        port = alone[0].getsockname()[1]
        for one in alone:
            one.close()
        sets = [_open_listeners(join_address(host, port), True) for _ in range(count)]
        for one in (one for each in sets for one in each):
            tune(one)
        return sets
    except OSError as error:
        raise CannotListen(address, error) from error


def has_inherited() -> bool:
    """Whether a supervisor such as systemd has passed sockets to this very process."""
    return os.environ.get("LISTEN_PID") == str(os.getpid())


def _open_listeners(address: str, reuse_port: bool = False) -> list[socket.socket]:
    host, port = split_address(address)
    if found := inherited(port, socket.SOCK_STREAM):
        return found
    if not host:
        if socket.has_dualstack_ipv6():
            try:
                return [
                    socket.create_server(
                        ("", port),
                        family=socket.AF_INET6,
                        backlog=BACKLOG,
                        dualstack_ipv6=True,
                        reuse_port=reuse_port,
                    )
                ]
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
        return [socket.create_server(("", port), backlog=BACKLOG, reuse_port=reuse_port)]
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            if port == 0 and sockets:
                where = (where[0], sockets[0].getsockname()[1], *where[2:])
            sockets.append(socket.create_server(where[:2], family=family, backlog=BACKLOG, reuse_port=reuse_port))
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


def inherited(port: int, kind: int) -> list[socket.socket]:
    """Sockets of this kind on `port` that a supervisor passed to this very process (sd_listen_fds(3))."""
    if not has_inherited() or not port:
        return []
    found = []
    for fd in range(_FIRST_INHERITED, _FIRST_INHERITED + int(os.environ.get("LISTEN_FDS", "0"))):
        try:
            candidate = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue  # not a socket
        if candidate.type == kind and candidate.getsockname()[1] == port:
            found.append(candidate)
        else:
            candidate.close()
    return found


Handler = Callable[[Connection], Awaitable[None]]


class Room:
    """How many connections a process may have from outside at once, so that descriptors are left for everything else.

    When there is no more room, the oldest connection on which nothing is under way goes: a crowd of silent connections
    keeps nobody out (RFC 9112, 9.5, lets a server close what is idle at any time). Where all but those who have just
    come and had no time to ask are busy, the oldest that `dawdles` goes.
    """

    def __init__(self, limit: int | None = None, dawdles: Callable[[Connection], bool] = lambda _: False) -> None:
        descriptors = _descriptors()
        self.limit = descriptors - min(RESERVED, descriptors // 4) if limit is None else limit
        self.made = 0  # how many had to go
        self._dawdles = dawdles
        self._members: dict[Connection, float] = {}  # in order of arrival, which is when they came

    def enter(self, connection: Connection) -> None:
        self._members[connection] = current_reactor().now

    def leave(self, connection: Connection) -> None:
        self._members.pop(connection, None)

    @property
    def full(self) -> bool:
        return len(self._members) >= self.limit

    def make(self) -> bool:
        """Close one that is idle or dawdles; False if nobody does."""
        slow = None
        now = current_reactor().now
        for connection, since in self._members.items():
            fresh = now - since < FRESH_SECONDS
            if fresh and slow is not None:
                break
            if connection.receiver.idle:
                self._close("idle", connection)
                return True
            if slow is None and not fresh and self._dawdles(connection):
                slow = connection
        if slow is not None:
            self._close("slow", slow)
        return slow is not None

    def _close(self, what: str, connection: Connection) -> None:
        log.info(f"{what} connection closed: too many are open", peer=connection.peer[0])
        self.made += 1
        del self._members[connection]
        connection.break_off(ConnectionAbortedError("closed to make room for others"))


def _descriptors() -> int:
    """How many this process may have (RLIMIT_NOFILE)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MANY if soft == resource.RLIM_INFINITY else soft


async def serve(listeners: Sequence[socket.socket], handler: Handler, connections: trio.Nursery, room: Room) -> None:
    """Accept until cancelled; `handler(connection)` runs as a task in `connections`. Closes the listeners.

    `connections` is a nursery of its own so that accepting can stop while what was accepted goes on.
    """
    ports = [Listener(sock, handler, connections, room) for sock in listeners]
    try:
        await trio.sleep_forever()
    finally:
        for port in ports:
            port.close()


class Listener:
    """A listening socket as a source of the reactor's: accepts a few connections per turn, and starts a task for
    each.
    """

    def __init__(self, sock: socket.socket, handler: Handler, connections: trio.Nursery, room: Room) -> None:
        sock.setblocking(False)
        self.queued = False
        self.deadline = math.inf
        self._sock = sock
        self._handler = handler
        self._connections = connections
        self._room = room
        self._reactor = current_reactor()
        self._full = False
        self._watched = 0
        self._watch(READABLE)

    def __repr__(self) -> str:
        return f"<Listener {self._sock.fileno()}>"

    def _watch(self, events: int) -> None:
        if events != self._watched:
            before, self._watched = self._watched, events
            self._reactor.watch(self._sock, self, events, before)

    def ready(self, events: int) -> None:
        self._reactor.again(self)  # new ones come when those who are there have had their turn

    def turn(self) -> None:
        exhausted = False
        for _ in range(ACCEPTED_PER_TURN):
            if not self._watched:
                return
            if self._room.full and not self._room.make():
                self._rest("no room for more connections")
                return
            try:
                sock, name = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    continue  # about one client that is gone already
                if not self._room.make():
                    self._rest(str(error))
                    return
                exhausted = True
                continue
            self._full = False
            self._let_in(Connection(sock, peer=address_of(name)))
            if exhausted or self._room.full or self._reactor.over():
                return  # room is made only for who is known to wait

    def _let_in(self, connection: Connection) -> None:
        self._room.enter(connection)
        self._connections.start_soon(self._serve, connection, name=self._handler)
        self._reactor.hand_over()

    async def _serve(self, connection: Connection) -> None:
        """The task of one connection."""
        try:
            await self._reactor.supervise("connection", self._handler, connection)
        finally:
            connection.abort()
            self._room.leave(connection)

    def _rest(self, why: str) -> None:
        """The queue stays; asking again at once would be a busy loop."""
        if not self._full:
            log.error("cannot accept connections", error=why)
        self._full = True
        self._watch(0)
        self.deadline = self._reactor.now + FULL_SECONDS
        self._reactor.clock(self)

    def expired(self) -> None:
        self._reactor.unclock(self)
        self._watch(READABLE)

    def break_off(self, error: Exception) -> None:
        """One connection could not be made; the port goes on."""

    def close(self) -> None:
        """Let those in who are in the queue, which would be reset with the socket, and nobody else any more."""
        with suppress(OSError):  # nobody waits
            for _ in range(BACKLOG):
                if self._room.full:
                    break
                sock, name = self._sock.accept()
                self._let_in(Connection(sock, peer=address_of(name)))
        self._reactor.unclock(self)
        self._watch(0)
        self._sock.close()
