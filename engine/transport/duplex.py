"""The one shape everything that carries bytes both ways has here, and the shape of whoever listens to it.

A *duplex* pushes: its own task (or its session's reader) calls the *receiver* with a view of what has arrived, and
the receiver does its work to the end, synchronously, while the bytes are still in the cache and in the shared
receive buffer. `put` never waits: it sends, or queues and says so. A task is woken only when somebody really has
to wait, which is what makes a request cost microseconds; who has to wait is told by two signals, one in each
direction:

    put(...) -> False    the way out is full: hold back the source (`pause` it) until `drained()` is called
    pause() / resume()   the way in is not wanted: a socket is not read, a stream's window is not granted

Three things are a Duplex: a socket (`connection.Connection`), a multiplexed stream (`link.Stream`) and a WebSocket
used as a byte stream (`leg.Leg`). Two things join them: `relay` (bytes) and `exchange` (HTTP).
"""

from __future__ import annotations

from typing import Protocol

Bytes = bytes | memoryview


class Receiver(Protocol):
    """Who is told what happens on a duplex. None of these may block, and none is called after `lost`."""

    def received(self, data: memoryview) -> None:
        """`data` has arrived; it is valid during this call only."""

    def ended(self) -> None:
        """The other end has said its last byte (FIN). The way out stays open."""

    def lost(self, error: Exception) -> None:
        """Nothing comes or goes any more, without a proper end."""

    def drained(self) -> None:
        """What `put` had to queue is on its way: more is welcome."""


class Duplex(Protocol):
    """A two-way byte stream that pushes what arrives and never waits when told to send."""

    receiver: Receiver

    @property
    def backlog(self) -> int:
        """Bytes that were put and have not left."""

    def put(self, *parts: Bytes) -> bool:
        """Send, in order; what can't go at once is copied and queued. False: hold back until `drained()`."""

    def end(self) -> None:
        """Half-close: the last byte has been put. What is queued still goes."""

    def close(self) -> None:
        """Send what is queued, then close both ways. The receiver hears nothing more."""

    def abort(self) -> None:
        """Break it, visibly for the other end (RST). The receiver hears nothing more."""

    def pause(self) -> None:
        """Stop calling `received` soon; what was under way may still come."""

    def resume(self) -> None:
        """Undo `pause`."""


class Nobody:
    """The receiver of a duplex that nobody has taken (yet, or any more)."""

    def received(self, data: memoryview) -> None: ...

    def ended(self) -> None: ...

    def lost(self, error: Exception) -> None: ...

    def drained(self) -> None: ...


NOBODY = Nobody()
