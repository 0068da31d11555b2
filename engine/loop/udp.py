"""UDP sockets in the reactor: a turn reads what has come as long as it lasts, a send is tried at once.

What the kernel does not take waits in a backlog, where the oldest are dropped. What it says of earlier datagrams (that
nobody listens at the other end: ECONNREFUSED) is told to the owner and ends nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import trio

from engine.errors import CannotListen
from engine.loop import backlog
from engine.loop.backlog import Backlog
from engine.loop.duplex import Bytes
from engine.loop.listen import inherited, split_address
from engine.loop.reactor import READABLE, WRITABLE, Reactor

KERNEL_BYTES: Final = 1024 * 1024  # for what comes while others have their turns, if the kernel allows as much
_buffer = memoryview(bytearray(65536))  # one for all: from the read to the last use of the bytes nothing waits
_POISON: Final = "TRIODUCT_POISON" in os.environ

Name = tuple[Any, ...]  # what the kernel calls an address
Place = tuple[int, Name]
"""A family of addresses, and an address of it."""


class Flow(backlog.Flow, Protocol):
    name: Name | None  # where its datagrams go; None: to whom the socket is connected


F = TypeVar("F", bound=Flow)
A = TypeVar("A", bound=Flow, contravariant=True)


class Owner(Protocol):
    def datagram(self, sock: UdpSocket[Any], data: memoryview, name: Name) -> None:
        """A datagram from `name` has come; `data` is valid during this call only."""

    def refused(self, sock: UdpSocket[Any], error: OSError) -> None:
        """One that was sent before has not arrived."""

    def break_off(self, error: Exception) -> None:
        """One of the calls above has raised `error`."""


class UdpSocket(Generic[F]):
    """Takes ownership of `sock`. `most`: how many datagrams of each flow may wait to be sent."""

    __slots__ = ("_owner", "_reactor", "_sock", "_watched", "backlog", "queued")

    def __init__(self, sock: socket.socket, owner: Owner, reactor: Reactor, most: int) -> None:
        sock.setblocking(False)
        self.queued = False
        self.backlog: Backlog[F] = Backlog(reactor.memory, most)
        self._sock = sock
        self._owner = owner
        self._reactor = reactor
        self._watched = 0
        self._watch(READABLE)

    def __repr__(self) -> str:
        return f"<UdpSocket {self._sock.fileno()}>"

    def _watch(self, events: int) -> None:
        if events != self._watched:
            before, self._watched = self._watched, events
            self._reactor.watch(self._sock, self, events, before)

    # -- the reactor's calls

    def ready(self, events: int) -> None:
        if events & WRITABLE:
            self._send_backlog()
        if events & ~WRITABLE:
            self.turn()

    def turn(self) -> None:
        """Read what has come."""
        while self._watched:
            try:
                size, name = self._sock.recvfrom_into(_buffer)
            except BlockingIOError:
                return
            except OSError as error:  # about one that was sent
                self._owner.refused(self, error)
            else:
                self._owner.datagram(self, _buffer[:size], name)
                if _POISON:
                    _buffer[:size] = b"\xa5" * size
            if self._reactor.over():
                self._reactor.again(self)
                return

    def break_off(self, error: Exception) -> None:
        self._owner.break_off(error)

    # -- the way out

    def send(self, flow: F, data: Bytes) -> None:
        """Send to where the flow's datagrams go, or keep it until the kernel takes it."""
        if not self._watched:
            return
        if self.backlog or not self._sent(flow, data):
            self.backlog.add(flow, data)
            self._watch(READABLE | WRITABLE)

    def _sent(self, flow: F, data: Bytes) -> bool:
        """False: the kernel has no room."""
        for _ in range(2):  # the first may tell only of what was sent before
            try:
                if flow.name is None:
                    self._sock.send(data)
                else:
                    self._sock.sendto(data, flow.name)
                return True
            except BlockingIOError:
                return False
            except OSError as error:
                self._owner.refused(self, error)
                if not self._watched:
                    return True
        flow.dropped += 1
        self.backlog.dropped += 1
        return True

    def _send_backlog(self) -> None:
        while self.backlog:
            flow, data = self.backlog.take()
            if not self._sent(flow, data):
                self.backlog.put_back(flow, data)
                return
            if self._reactor.over():
                return
        if self._watched:
            self._watch(READABLE)

    def close(self) -> None:
        if self._watched:
            self._watch(0)
            self._sock.close()
            self.backlog.close()


def open_udp(address: str) -> list[socket.socket]:
    """Sockets that are bound to `address` (no host: every address of the machine, v6 and v4). Raises CannotListen."""
    try:
        return _open_udp(*split_address(address))
    except OSError as error:
        raise CannotListen(address, error) from error


def _open_udp(host: str, port: int) -> list[socket.socket]:
    if found := inherited(port, socket.SOCK_DGRAM):
        return found
    if not host:
        everywhere = (socket.AF_INET6, ("::", port)) if socket.has_dualstack_ipv6() else (socket.AF_INET, ("", port))
        places: list[Place] = [everywhere]
    else:
        found_places = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
        places = [(family, name) for family, _, _, _, name in found_places]
    sockets: list[socket.socket] = []
    try:
        for family, name in places:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sockets.append(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
            bound = port or sockets[0].getsockname()[1]  # the same for all
            sock.bind((name[0], bound, *name[2:]))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def connect_udp(place: Place) -> socket.socket:
    """A socket whose datagrams go to `place`, and come from there. Raises OSError."""
    family, name = place
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        sock.connect(name)
    except OSError:
        sock.close()
        raise
    return sock


async def resolve_udp(host: str, port: int) -> Sequence[Place]:
    """Where the datagrams for a service may go: IPv4 first, because a service that is bound to one family only is bound
    to that one, as a rule, and nobody answers to the other. Raises OSError.
    """
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return sorted(((family, name) for family, _, _, _, name in found), key=lambda place: place[0] != socket.AF_INET)
