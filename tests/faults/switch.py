"""The fault switch: for the time of a block, one of every so many calls raises, or a socket fails.

It is the tests' own, the product has none. `break_off` is never planted with a fault: it is what the guard itself uses.
"""

from __future__ import annotations

import errno
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from engine.agent.http import HttpUpstream
from engine.carriers.host import Host, _Post
from engine.carriers.inbox import Inbox
from engine.carriers.poll import PollEnd
from engine.carriers.resumable import Resumable
from engine.carriers.stream import StreamCarrier, _Writing
from engine.carriers.websocket import WebSocketCarrier
from engine.gateway.inbound import Inbound
from engine.gateway.outbound import Outbound
from engine.loop.connection import Connection
from engine.loop.reading import Reader
from engine.node.client import Client
from engine.node.registration import Registration
from engine.session.session import Session
from engine.session.stream import Stream
from engine.tunnel.relay import _Side

CALLS = ("received", "ended", "lost", "drained")  # of a receiver
RECEIVERS = (Inbound, Outbound, Session, _Side, WebSocketCarrier)
CALLBACKS = [
    *((owner, name) for owner in RECEIVERS for name in CALLS),
    *((owner, "expired") for owner in (Inbound, Session, Connection, Registration, WebSocketCarrier)),
    (Session, "flush"),
    (Stream, "turn"),
    (Connection, "ready"),
    (Connection, "turn"),
    (Reader, "received"),
    *((role, name) for role in (Client, HttpUpstream) for name in ("begin", "finished")),
]
# What is in the way besides, at both ends, where sessions ride on plain HTTP requests and outlive them.
RESUMED = [(Resumable, name) for name in (*CALLS, "flush", "turn")]
OF_CARRIERS: dict[str, list[tuple[type, str]]] = {
    "stream": [
        *((owner, name) for owner in (StreamCarrier, _Writing, _Post) for name in CALLS),
        (StreamCarrier, "turn"),
        (_Post, "expired"),
        *RESUMED,
    ],
    "poll": [
        *((_Post, name) for name in CALLS),
        (_Post, "_act"),
        (PollEnd, "flush"),
        (PollEnd, "expired"),
        (PollEnd, "up"),
        (PollEnd, "down"),
        (Inbox, "turn"),
        (Inbox, "_offer"),
        (Host, "expired"),
        *RESUMED,
    ],
}


class Planted(Exception):
    """A defect that a test has planted."""


@dataclass
class Faults:
    """How many there were so far."""

    raised: int = 0
    _another: trio.Event = field(default_factory=trio.Event)

    def count(self) -> None:
        self.raised += 1
        self._another.set()
        self._another = trio.Event()

    async def wait(self, number: int) -> None:
        """Return when there were so many."""
        while self.raised < number:
            await self._another.wait()


@contextmanager
def raising(owner: type, name: str, *, every: int, seed: int, behind: bool = False) -> Iterator[Faults]:
    """One of `every` calls of `owner.name` raises, in place of what it does, or `behind` it."""
    chance = random.Random(seed)
    faults = Faults()
    real: Callable[..., Any] = getattr(owner, name)

    def planted(self: object, *args: object, **kwargs: object) -> object:
        hit = chance.randrange(every) == 0
        if hit and not behind:
            faults.count()
            raise Planted(f"{owner.__name__}.{name}")
        done = real(self, *args, **kwargs)
        if hit:
            faults.count()
            raise Planted(f"{owner.__name__}.{name}")
        return done

    setattr(owner, name, planted)
    try:
        yield faults
    finally:
        setattr(owner, name, real)


ERRORS: dict[str, Callable[[], Exception]] = {
    "ECONNRESET": lambda: ConnectionResetError(errno.ECONNRESET, "planted"),
    "EPIPE": lambda: BrokenPipeError(errno.EPIPE, "planted"),
    "ENOBUFS": lambda: OSError(errno.ENOBUFS, "planted"),
    "EIO": lambda: OSError(errno.EIO, "planted"),
    "SSLError": lambda: ssl.SSLError(1, "planted"),
    "MemoryError": lambda: MemoryError("planted"),
}


class FaultySocket(socket.socket):
    """A socket whose calls fail now and then, or send less than they could."""

    chance = random.Random(1)
    every = 1 << 30
    error: Callable[[], Exception] | None = None  # None: short writes
    faults: Faults

    @classmethod
    def hit(cls) -> bool:
        if cls.chance.randrange(cls.every):
            return False
        cls.faults.count()
        if cls.error is not None:
            raise cls.error()
        return True

    def send(self, data: Any, flags: int = 0, /) -> int:
        return super().send(data[: len(data) // 2 + 1] if self.hit() else data, flags)

    def sendmsg(self, buffers: Any, *args: Any) -> int:
        return super().sendmsg(list(buffers)[:1] if self.hit() else buffers, *args)

    def recv_into(self, buffer: Any, *args: Any) -> int:
        self.hit()
        return super().recv_into(buffer, *args)


@contextmanager
def failing_sockets(error: Callable[[], Exception] | None, *, every: int, seed: int) -> Iterator[Faults]:
    """Connections that are made meanwhile have sockets of which one of `every` calls raises `error`, or (None) sends
    less than it could.
    """
    real = Connection.__init__

    def planted(self: Connection, sock: socket.socket, **kwargs: Any) -> None:
        faulty = FaultySocket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        real(self, faulty, **kwargs)

    FaultySocket.chance = random.Random(seed)
    FaultySocket.every, FaultySocket.error, FaultySocket.faults = every, error, Faults()
    Connection.__init__ = planted  # type: ignore[method-assign]
    try:
        yield FaultySocket.faults
    finally:
        Connection.__init__ = real  # type: ignore[method-assign]
        FaultySocket.every = 1 << 30
