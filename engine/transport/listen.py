"""Listening: sockets from an address, and one task per connection.

A supervisor that hands over listening sockets (systemd's LISTEN_FDS) is honoured: the socket then outlives the
process, so that connections made during a restart wait in its backlog instead of being refused.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence

import trio

from engine.errors import CannotListen
from engine.log import get_logger
from engine.transport.connection import Connection
from engine.transport.poller import current_poller

BACKLOG = 4096
FULL_SECONDS = 0.1  # out of file descriptors: how long to leave the queue alone
_FIRST_INHERITED = 3  # SD_LISTEN_FDS_START

log = get_logger("server")


def split_address(address: str) -> tuple[str, int]:
    """ ":8000" -> ("", 8000), "[::1]:80" -> ("::1", 80). ValueError for what is no host:port."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"expected host:port, got {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def open_listeners(address: str) -> list[socket.socket]:
    """Listening sockets for `address` (no host: every address of the machine, v6 and v4). Raises CannotListen."""
    try:
        return _open_listeners(address)
    except OSError as error:
        raise CannotListen(address, error) from error


def _open_listeners(address: str) -> list[socket.socket]:
    host, port = split_address(address)
    inherited = _inherited(port)
    if inherited:
        return inherited
    if not host:
        if socket.has_dualstack_ipv6():
            try:
                return [socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)]
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
        return [socket.create_server(("", port), backlog=BACKLOG)]
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            if port == 0 and sockets:
                where = (where[0], sockets[0].getsockname()[1], *where[2:])
            sockets.append(socket.create_server(where[:2], family=family, backlog=BACKLOG))
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


def _inherited(port: int) -> list[socket.socket]:
    """Listening sockets on `port` that a supervisor passed to this very process (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not port:
        return []
    found = []
    for fd in range(_FIRST_INHERITED, _FIRST_INHERITED + int(os.environ.get("LISTEN_FDS", "0"))):
        try:
            candidate = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue  # not a socket
        if candidate.getsockname()[1] == port:
            found.append(candidate)
        else:
            candidate.close()
    return found


Handler = Callable[[Connection], Awaitable[None]]


async def serve(listeners: Sequence[socket.socket], handler: Handler, connections: trio.Nursery) -> None:
    """Accept until cancelled; `handler(connection)` runs as a task in `connections`. Closes the listeners.

    `connections` is a nursery of its own so that accepting can stop while what was accepted goes on.
    """
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(_accept, listener, handler, connections, name=f"accept {listener.getsockname()[1]}")


async def _accept(listener: socket.socket, handler: Handler, connections: trio.Nursery) -> None:
    listener.setblocking(False)
    poller = current_poller()
    full = False
    with listener:
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                await poller.wait_readable(listener)
                continue
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # The queue stays; asking again at once would be a busy loop.
                    if not full:
                        log.error("cannot accept connections", error=str(error))
                    full = True
                    await trio.sleep(FULL_SECONDS)
                # anything else is about one client that is gone already
                continue
            full = False
            try:
                connection = Connection(sock)
            except OSError:
                sock.close()
                continue
            connections.start_soon(_guard, handler, connection, name=handler)


async def _guard(handler: Handler, connection: Connection) -> None:
    """The outermost edge of a connection: whatever goes wrong with one ends here."""
    try:
        await handler(connection)
    except Exception as error:
        log.error("connection handler failed", peer=connection.peer[0], exc_info=error)
    finally:
        connection.abort()
