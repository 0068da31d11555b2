"""A duplex of the engine, which pushes, as a stream of Trio, which is asked.

What arrives is kept until it is asked for, `KEPT_BYTES` at most: then the duplex is paused, which holds back the other
end. What is sent goes to the duplex piece by piece, and the sender waits as soon as it is told to hold back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from engine.loop.duplex import NOBODY, Duplex, Nobody
from engine.loop.reactor import Reactor

KEPT_BYTES: Final = 64 * 1024  # that have arrived and were not asked for
PIECE_BYTES: Final = 64 * 1024  # given to the duplex at once
LINGER_SECONDS: Final = 60.0  # for the other end to end, once we have closed


class TunnelStream(trio.abc.HalfCloseableStream):
    """A byte stream through a node. One task may receive and one may send at the same time.

    What arrived before the other end was lost can still be received; then there is trio.BrokenResourceError.
    A stream that is closed says its end behind what was sent. The other end is reset if it goes on sending.
    """

    def __init__(self, duplex: Duplex, reactor: Reactor, on_over: Callable[[], None] | None = None) -> None:
        self._duplex = duplex
        self._reactor = reactor
        self._on_over = on_over
        self._kept = bytearray()
        self._paused = False
        self._full = False  # the way out
        self._ended_there = False
        self._ended_here = False
        self._closed = False
        self._error: Exception | None = None
        self._arrived = trio.Event()
        self._drained = trio.Event()
        self._receiving = _OneTask("another task is receiving from this stream")
        self._sending = _OneTask("another task is sending on this stream")
        self._incoming = _Incoming(self)
        duplex.receiver = self._incoming

    @property
    def readable(self) -> bool:
        """`receive_some` would not wait: something has come, or nothing more will."""
        return bool(self._kept) or self._ended_there or self._closed or self._error is not None

    # -- the way in

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At least a byte, at most `max_bytes`; b"" once the other end has said its last."""
        if max_bytes is not None and not isinstance(max_bytes, int):
            raise TypeError(f"max_bytes is {max_bytes!r}; expected a whole number")
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}; expected 1 or more")
        with self._receiving:
            await trio.lowlevel.checkpoint()
            while True:
                if self._closed:
                    raise trio.ClosedResourceError("this stream was closed")
                if self._kept:
                    return self._take(max_bytes)
                if self._error is not None:
                    raise trio.BrokenResourceError(str(self._error)) from self._error
                if self._ended_there:
                    return b""
                self._arrived = trio.Event()
                await self._arrived.wait()

    def _take(self, max_bytes: int | None) -> bytes:
        taken = bytes(self._kept[:max_bytes])
        del self._kept[:max_bytes]
        if self._paused and not self._kept:
            self._paused = False
            self._duplex.resume()
        return taken

    # -- the way out

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; a part of it has been sent if this is cancelled."""
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._check_can_send()
            view = memoryview(data).cast("B")
            for start in range(0, len(view), PIECE_BYTES):
                await self._wait_room()
                if not self._duplex.put(view[start : start + PIECE_BYTES]):
                    self._full = True
            await self._wait_room()

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._check_can_send()
            await self._wait_room()

    async def send_eof(self) -> None:
        with self._sending:
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError("this stream was closed")
            if self._ended_here:
                return
            self._check_can_send()
            self._ended_here = True
            self._duplex.end()
            self._see_whether_over()

    def _check_can_send(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._ended_here:
            raise trio.ClosedResourceError("the end was sent already")
        if self._error is not None:
            raise trio.BrokenResourceError(str(self._error)) from self._error

    async def _wait_room(self) -> None:
        while self._full:
            self._drained = trio.Event()
            await self._drained.wait()
            self._check_can_send()

    # -- the end

    async def aclose(self) -> None:
        """Close both ways. What was sent still goes, and its end behind it."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The same, without waiting for anything."""
        if self._closed:
            return
        self._closed = True
        self._kept.clear()
        self._arrived.set()
        self._drained.set()
        if self._error is None:
            if self._ended_there:
                self._duplex.end()
                self._over()
            else:
                closing = _Closing(self._duplex, self._reactor, self._over)
                self._duplex.receiver = closing
                self._duplex.end()
                self._duplex.resume()

    def abort(self) -> None:
        """Close it with a reset, as what is sent is of no use without the rest."""
        self._closed = True
        self._kept.clear()
        self._duplex.abort()
        self._lose(ConnectionAbortedError("this stream was aborted"))

    def _see_whether_over(self) -> None:
        if self._ended_here and self._ended_there:
            self._over()

    def _over(self) -> None:
        on_over, self._on_over = self._on_over, None
        if on_over is not None:
            on_over()

    def _lose(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._full = False
        self._wake(self._arrived)
        self._wake(self._drained)
        self._over()

    def _wake(self, event: trio.Event) -> None:
        event.set()
        self._reactor.hand_over()

    # -- what the duplex says

    def _received(self, data: memoryview) -> int:
        taken = data[: KEPT_BYTES - len(self._kept)]
        self._kept += taken
        if len(self._kept) >= KEPT_BYTES and not self._paused:
            self._paused = True
            self._duplex.pause()
        self._wake(self._arrived)
        return len(taken)

    def _heard_end(self) -> None:
        self._ended_there = True
        self._wake(self._arrived)
        self._see_whether_over()

    def _has_drained(self) -> None:
        self._full = False
        self._wake(self._drained)


class _Incoming:
    """The receiver of an open stream's duplex."""

    idle = False

    def __init__(self, stream: TunnelStream) -> None:
        self._stream = stream

    def received(self, data: memoryview) -> int:
        return self._stream._received(data)

    def ended(self) -> None:
        self._stream._heard_end()

    def lost(self, error: Exception) -> None:
        self._stream._lose(error)

    def drained(self) -> None:
        self._stream._has_drained()

    def break_off(self, error: Exception) -> None:
        self._stream._duplex.abort()
        self._stream._lose(error)


class _Closing(Nobody):
    """The receiver of a duplex that was closed: who goes on sending is reset, and so is who does not end in time."""

    idle = False

    def __init__(self, duplex: Duplex, reactor: Reactor, over: Callable[[], None]) -> None:
        self.deadline = reactor.now + LINGER_SECONDS
        self._duplex = duplex
        self._reactor = reactor
        self._over = over
        reactor.clock(self)

    def received(self, data: memoryview) -> int:
        if not self._duplex.backlog:  # what was sent goes first
            self.expired()
        return len(data)

    def ended(self) -> None:
        self._duplex.receiver = NOBODY
        self._done()

    def lost(self, error: Exception) -> None:
        self._done()

    def expired(self) -> None:
        self._duplex.abort()
        self._done()

    def break_off(self, error: Exception) -> None:
        self.expired()

    def _done(self) -> None:
        self._reactor.unclock(self)
        self._over()


class _OneTask:
    """A block that one task may be in."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._taken = False

    def __enter__(self) -> None:
        if self._taken:
            raise trio.BusyResourceError(self._text)
        self._taken = True

    def __exit__(self, *_: object) -> None:
        self._taken = False
