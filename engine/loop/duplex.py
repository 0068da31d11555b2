"""The one shape everything that carries bytes both ways has here, and the shape of whoever listens to it.

A *duplex* pushes: the reactor (or the session that a stream belongs to) calls the *receiver* with a view of what has
arrived, and the receiver does its work to the end, synchronously, while the bytes are still in the cache and in the
shared receive buffer. `put` never waits: it sends, or queues and says so. A task is woken only when somebody really
has to wait, which is what makes a request cost microseconds; who has to wait is told by signals in each direction:

    put(...) -> False        the way out is full: hold back the source (`pause` it) until `drained()` is called
    pause() / resume()       the way in is not wanted: a socket is not read, a stream's window is not granted
    received(...) -> fewer   the receiver's turn is over, or it waits: the duplex keeps the rest and offers it again

Three things are a Duplex: a socket (`connection.Connection`), a multiplexed stream (`session.stream.Stream`) and a
WebSocket used as a byte stream (`carriers.websocket.WebSocketCarrier`). Two things join them: `tunnel.relay`
(bytes) and `gateway` (HTTP).

`put`, `end`, `close` and `abort` may be called in any order and any number of times. `end` is said once; what is put
behind it, or behind `close` or `abort`, is dropped. None of them raises, whatever the other end does.
"""

from __future__ import annotations

from typing import Final, Protocol

from engine.loop.memory import Account

Bytes = bytes | memoryview

FIRST_READ: Final = 64 * 1024  # of what is to be passed on, before it is known how much of it is taken
LEAST_READ: Final = 16 * 1024
MOST_READ: Final = 256 * 1024


class Receiver(Protocol):
    """Who is told what happens on a duplex. None of these may block, and none is called after `lost`.

    One that raises has a defect: the reactor ends its duplex, and calls `break_off`.
    """

    @property
    def idle(self) -> bool:
        """Nothing is under way: the duplex may be closed when its descriptor or its memory is needed for others."""

    def received(self, data: memoryview) -> int:
        """`data` has arrived; it is valid during this call only. Returns how many bytes of it are taken.

        The rest is offered again in a later turn: after `resume` if the receiver has paused the duplex, soon if not.
        """

    def ended(self) -> None:
        """The other end has said its last byte (FIN), and all before it was taken. The way out stays open."""

    def lost(self, error: Exception) -> None:
        """Nothing comes or goes any more, without a proper end."""

    def drained(self) -> None:
        """What `put` had to queue is on its way: more is welcome."""

    def break_off(self, error: Exception) -> None:
        """One of the calls above has raised `error`: abort every duplex that this receiver joins, and no more."""


class Duplex(Protocol):
    """A two-way byte stream that pushes what arrives and never waits when told to send."""

    receiver: Receiver

    @property
    def account(self) -> Account:
        """What is held in memory for it."""

    @property
    def backlog(self) -> int:
        """Bytes that were put and have not left."""

    @property
    def room(self) -> int:
        """How much it is worth reading at once, by who puts it here: about what `put` would not have to keep."""

    def put(self, *parts: Bytes) -> bool:
        """Send, in order; what can't go at once is copied and queued. False: hold back until `drained()`."""

    def end(self) -> None:
        """Half-close: the last byte has been put. What is queued still goes."""

    def close(self) -> None:
        """Send what is queued, then close both ways. The receiver hears nothing more."""

    def abort(self) -> None:
        """Break it, visibly for the other end (RST). The receiver hears nothing more."""

    def read_at_most(self, size: int) -> None:
        """Give the receiver about so much at once, from now on: the `room` there is where it puts it."""

    def pause(self) -> None:
        """Stop calling `received` soon; what was under way may still come."""

    def resume(self) -> None:
        """Undo `pause`."""


class Nobody:
    """The receiver of a duplex that nobody has taken (yet, or any more): takes all, and does nothing."""

    idle = True

    def received(self, data: memoryview) -> int:
        return len(data)

    def ended(self) -> None: ...

    def lost(self, error: Exception) -> None: ...

    def drained(self) -> None: ...

    def break_off(self, error: Exception) -> None: ...


class Later(Nobody):
    """The receiver of a paused duplex that somebody will take when it can: nothing is taken until then."""

    idle = False

    def received(self, data: memoryview) -> int:
        return 0


LATER = Later()
NOBODY = Nobody()
