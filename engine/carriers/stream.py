"""A carrier made of two HTTP messages that do not end: one body brings the session's bytes, another takes them.

For networks that let HTTP stream and know no WebSocket. The client's way up is the body of a request, its way down the
body of an answer, both in chunks (RFC 9112, 7.1). The two are on connections of their own, for HTTP/1.1 lets a server
answer only when it likes to. A last chunk says that the session has ended; a body that breaks off is a loss.

Both ends are one class: what one end reads, the other writes.
"""

from __future__ import annotations

from typing import Final

import trio

from engine.carriers.carrier import BACKLOG, Kind
from engine.errors import HTTPError
from engine.loop.connection import Address, Connection
from engine.loop.duplex import NOBODY, Bytes, Receiver
from engine.loop.memory import Account
from engine.loop.reactor import current_reactor
from engine.wire.http1 import Body

LAST_CHUNK: Final = b"0\r\n\r\n"
JOIN_BYTES: Final = 64 * 1024  # smaller chunks are joined rather than heard one by one: nginx makes some of 4 KiB


class StreamCarrier:
    """Reads a body from `reading`, what `body` has not yet decoded of it, and writes one of chunks to `writing`.

    Owns both connections. `leftover` was decoded and is the first to be received; `answer` is said on `reading` in the
    end, for a request has to be answered.
    """

    idle = False
    kind = Kind.STREAM

    def __init__(
        self,
        reading: Connection,
        writing: Connection,
        body: Body,
        *,
        leftover: bytes = b"",
        answer: bytes = b"",
    ) -> None:
        self.receiver: Receiver = NOBODY
        self.farewell = ""
        self.queued = False
        self._reading = reading
        self._writing = writing
        self._answer = answer
        self._reactor = current_reactor()
        self._body = body
        self._held: Bytes = leftover  # what has come and was not taken
        self._paused = False
        self._open = True
        reading.receiver = self
        writing.receiver = _Writing(self)
        if leftover:
            reading.account.charge(len(leftover))
        if leftover or body.done:
            self._reactor.again(self)

    def __repr__(self) -> str:
        return f"<StreamCarrier {self._reading!r} {self._writing!r}>"

    async def run(self) -> None:
        """See Carrier."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run, self._reading)
                nursery.start_soon(self._run, self._writing)
        finally:
            self.lost(ConnectionAbortedError("stopped"))

    async def _run(self, connection: Connection) -> None:
        await connection.run()
        self.lost(ConnectionResetError("half of it is closed"))  # before it was ours, or we have heard of it already

    # -- Duplex

    @property
    def peer(self) -> Address:
        return self._writing.peer

    @property
    def account(self) -> Account:
        return self._writing.account

    @property
    def backlog(self) -> int:
        return self._writing.backlog

    @property
    def full(self) -> bool:
        return self._writing.backlog > BACKLOG

    @property
    def room(self) -> int:
        return self._writing.room

    def put(self, *parts: Bytes) -> bool:
        size = sum(map(len, parts))
        return not (self._open and size) or self._writing.put(b"%x\r\n" % size, *parts, b"\r\n")

    def read_at_most(self, size: int) -> None:
        self._reading.read_at_most(size)

    def pause(self) -> None:
        self._paused = True
        self._reading.pause()

    def resume(self) -> None:
        self._paused = False
        if self._held:
            self._reactor.again(self)
        else:
            self._reading.resume()

    def end(self) -> None:
        """It has no half-close."""
        self.close()

    def close(self) -> None:
        if self._open:
            self._writing.put(LAST_CHUNK)
            self._reading.put(self._answer)
            self._leave()
            self._writing.close()
            self._reading.close()

    def bid_farewell(self, code: int, reason: str) -> None:
        self.close()

    def abort(self) -> None:
        if self._open:
            self._leave()
            self._writing.abort()
            self._reading.abort()

    def fail(self, error: Exception) -> None:
        self.lost(error)

    def give_back(self) -> None:
        """It is not to be, and its connections are another's again."""
        self._leave()

    def _leave(self) -> None:
        self._open = False
        self.receiver = NOBODY
        self._reading.account.release(len(self._held))
        self._held = b""

    # -- the receiver of `reading`

    def received(self, data: memoryview) -> int:
        if self._held:
            return 0
        try:
            parts = self._body.receive(data)
        except HTTPError as error:
            self._reactor.call("lost", self, self.lost, error)
            return len(data)
        if len(parts) > 1 and len(data) < len(parts) * JOIN_BYTES:
            parts = [b"".join(parts)]
        for index, part in enumerate(parts):
            view = memoryview(part)
            taken = self.receiver.received(view)
            if taken != len(view) and self._open:
                self._hold(b"".join((view[taken:], *parts[index + 1 :])))
                break
        if self._body.done and self._open and not self._held:
            self._ended()
        return self._body.taken

    def _hold(self, data: bytes) -> None:
        self._held = data
        if not self._reading.account.charge(len(data)):
            self._reactor.call("lost", self, self.lost, MemoryError(f"{len(data)} bytes are held for it"))
            return
        self._reading.pause()
        if not self._paused:
            self._reactor.again(self)

    def ready(self, events: int) -> None:
        """It has no socket of its own: only `turn` is called."""

    def turn(self) -> None:
        """Offer again what is held."""
        held = self._held
        wanted = self._open and not self._paused
        if not wanted or not (held or self._body.done):
            return
        taken = self.receiver.received(memoryview(held)) if held else 0
        if not self._open:
            return
        self._reading.account.release(taken)
        self._held = held[taken:]
        if self._held:
            self._reactor.again(self)
        elif self._body.done:
            self._ended()
        else:
            self._reading.resume()

    def _ended(self) -> None:
        receiver = self.receiver
        self.farewell = "its stream has ended"
        self._reactor.call("ended", receiver, receiver.ended)

    def ended(self) -> None:
        if not self._body.done:
            self.lost(ConnectionResetError("hung up inside a stream"))

    def lost(self, error: Exception) -> None:
        if not self._open:
            return
        receiver = self.receiver
        self.abort()
        self._reactor.call("lost", receiver, receiver.lost, error)

    def drained(self) -> None: ...

    def break_off(self, error: Exception) -> None:
        receiver = self.receiver
        self.abort()
        receiver.break_off(error)


class _Writing:
    """The receiver of the connection that is written to."""

    idle = False

    def __init__(self, carrier: StreamCarrier) -> None:
        self._carrier = carrier

    def received(self, data: memoryview) -> int:
        """On a client's end an answer before its time, which says that the request is not taken; else nothing comes."""
        line = bytes(data[:80]).partition(b"\r\n")[0].decode("latin-1")
        self._carrier.lost(ConnectionResetError(f"answered before its end: {line}"))
        return len(data)

    def ended(self) -> None:
        self._carrier.lost(ConnectionResetError("hung up on a stream"))

    def lost(self, error: Exception) -> None:
        self._carrier.lost(error)

    def drained(self) -> None:
        self._carrier.receiver.drained()

    def break_off(self, error: Exception) -> None:
        self._carrier.break_off(error)
