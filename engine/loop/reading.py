"""For tasks that read a connection by themselves: TLS handshakes, and the openings of what is no plain HTTP.

Both are receivers like any other, so a handshake gets turns like everybody else's, and one flood of them does not
hold up those who are through with theirs.
"""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Callable
from typing import Protocol

import trio

from engine.loop.connection import Connection
from engine.loop.duplex import NOBODY
from engine.loop.reactor import current_reactor
from engine.wire.tls import TLS


class HungUp(ConnectionResetError):
    """The other end has said its last byte, before what was waited for."""


class Failing(Protocol):
    error: Exception | None


def _raise_of(thing: Failing) -> None:
    """Raise the error that `thing` has, and leave it to the caller alone.

    An error leads to all frames that it has passed, and they to their variables: if one of those leads back to it, all
    of them wait for the garbage collector.
    """
    error, thing.error = thing.error, None
    assert error is not None
    try:
        raise error
    finally:
        del error


class Reader:
    """Reads `connection` for a task, as much as it asks for and nothing more.

    What was read and not asked for stays with the connection, which is paused whenever the task does not wait.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._data = b""
        self._find: Callable[[bytes], int] = len
        self._end = -1  # of what was asked for, in `_data`
        self._over = False  # nothing more will come
        self.error: Exception | None = None
        self._told = trio.Event()
        connection.receiver = self

    async def until(self, find: Callable[[bytes], int]) -> bytes:
        """All through the index that `find` gives, once it gives one: -1 asks for more.

        Raises HungUp when it ends before, what the connection was lost by (ConnectionResetError if that has been said
        before), and what `find` raises.
        """
        self._find = find
        self._connection.receiver = self
        try:
            while not self._is_found():
                if self.error is not None:
                    _raise_of(self)
                if self._over:
                    raise HungUp("hung up")
                if not self._connection.alive:
                    raise ConnectionResetError("the connection is closed")
                self._told = trio.Event()
                self._connection.resume()
                await self._told.wait()
            data, self._data = self._data[: self._end], self._data[self._end :]
            return data
        finally:
            self._end = -1
            self._connection.pause()

    async def some(self) -> bytes:
        """The next bytes; b"" at the end of them. Raises what the connection was lost by."""
        try:
            return await self.until(lambda data: len(data) or -1)
        except HungUp:
            return b""

    def _is_found(self) -> bool:
        if self._end < 0:
            self._end = self._find(self._data)
        return self._end >= 0

    # -- the connection's receiver

    @property
    def idle(self) -> bool:
        return True

    def received(self, data: memoryview) -> int:
        before = len(self._data)
        self._data += data
        taken = len(data)
        try:
            if self._is_found():
                taken = self._end - before
                self._data = self._data[: self._end]
                self._connection.pause()
                self._tell()
        except Exception as error:  # what it finds is the task's to judge
            self.error = error
            self._connection.pause()
            self._tell()
        return taken

    def ended(self) -> None:
        self._over = True
        self._tell()

    def lost(self, error: Exception) -> None:
        self.error = error
        self._tell()

    def drained(self) -> None: ...

    def break_off(self, error: Exception) -> None:
        self.lost(_broken_off(error))

    def _tell(self) -> None:
        self._told.set()
        current_reactor().hand_over()


def _broken_off(error: Exception) -> OSError:
    """What the task is told. The defect has been counted; to the task this is a connection that is lost like others: an
    agent, for one, dials again.
    """
    return error if isinstance(error, OSError) else ConnectionAbortedError(f"broken off: {error!r}")


async def start_tls(
    connection: Connection, context: ssl.SSLContext, *, server_hostname: str | None = None, server: bool = False
) -> TLS:
    """Put one more layer of TLS on top of `connection`. Raises ssl.SSLError; OSError when the other end hangs up.

    The deadline is the caller's.
    """
    if not connection.alive:
        raise ConnectionResetError("closed before the TLS handshake")
    layer = TLS.over(context, server_side=server, server_hostname=server_hostname)
    handshake = _Handshake(connection, layer)
    connection.receiver = handshake
    if not server:
        handshake.step(b"")
    connection.resume()
    await handshake.over.wait()
    connection.receiver = NOBODY
    if handshake.error is not None:
        _raise_of(handshake)
    connection.add_layer(layer)
    return layer


class _Handshake:
    """A handshake of TLS, driven by what the connection receives."""

    def __init__(self, connection: Connection, layer: TLS) -> None:
        self.over = trio.Event()
        self.error: Exception | None = None
        self._connection = connection
        self._layer = layer
        self._reactor = current_reactor()

    def step(self, data: bytes | memoryview) -> None:
        """Take what the other end says, answer it, and see whether that was all."""
        done = False
        try:
            done = self._layer.handshake(data)
        except OSError as error:  # ssl.SSLError is one
            self._end(error)
        except MemoryError:
            self._end(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
        self._connection.put(self._layer.pending())
        if done:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        self.error = error
        self._connection.pause()
        self.over.set()
        self._reactor.hand_over()

    @property
    def idle(self) -> bool:
        return True

    def received(self, data: memoryview) -> int:
        if not self._reactor.going_on:
            # A step is a millisecond of arithmetic. Those who ask for less than that come first.
            return 0
        self.step(data)
        return len(data)

    def ended(self) -> None:
        self._end(ConnectionResetError("hung up during the TLS handshake"))

    def lost(self, error: Exception) -> None:
        self._end(error)

    def drained(self) -> None: ...

    def break_off(self, error: Exception) -> None:
        self._end(_broken_off(error))
