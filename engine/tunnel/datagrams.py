"""Datagrams through a tunnel: the flows of both ends, and the stream that carries them (see wire.datagrams).

The stream never holds a sender back, and a socket never holds the stream back: what there is no room for waits in a
backlog, where the oldest are dropped. What flows have to say in one turn of the loop leaves together, one datagram of
each in turn.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Generic, Protocol, TypeVar

from engine.loop.backlog import Backlog
from engine.loop.duplex import Bytes, Duplex
from engine.loop.reactor import Reactor
from engine.wire import datagrams
from engine.wire.datagrams import MAX_LINE, OPEN, READY, DatagramError

LINE_SECONDS: Final = 10.0  # for the other end's first line
BLOCK_BYTES: Final = 64 * 1024  # put at once
BLOCK_DATAGRAMS: Final = 256


class Flow:
    """One client's datagrams, both ways. `dropped`: those that waited in vain, for the stream or for the socket."""

    __slots__ = ("begun_at", "bytes_in", "bytes_out", "datagrams_in", "datagrams_out", "dropped", "id", "used_at")

    def __init__(self, id: int, now: float) -> None:
        self.id = id
        self.begun_at = self.used_at = now
        self.datagrams_in = self.datagrams_out = self.bytes_in = self.bytes_out = self.dropped = 0  # in: to the service

    def shown(self, now: float) -> dict[str, float]:
        """As fields of a log line."""
        return {**counts(self), "seconds": round(now - self.begun_at, 3)}


F = TypeVar("F", bound=Flow)
COUNTED: Final = ("datagrams_in", "datagrams_out", "bytes_in", "bytes_out", "dropped")


def counts(flow: Flow) -> dict[str, int]:
    return {name: getattr(flow, name) for name in COUNTED}


class Flows(Generic[F]):
    """Flows under way, `most` at once: for one more, the one that was not used for longest ends. So does each that was
    not used for `idle_seconds`. `end(flow, why)` is called for those two, and has them `leave`.

    `begun`: how many there were.
    """

    def __init__(self, reactor: Reactor, most: int, idle_seconds: float, end: Callable[[F, str], None]) -> None:
        self.deadline = math.inf
        self._reactor = reactor
        self._most = most
        self._idle_seconds = idle_seconds
        self._end = end
        self._flows: OrderedDict[F, None] = OrderedDict()  # the longest unused first
        self._ended: Counter[str] = Counter()
        self.begun = 0
        reactor.clock(self)

    def __len__(self) -> int:
        return len(self._flows)

    def enter(self, flow: F) -> None:
        while len(self._flows) >= self._most and self.make_room():
            pass
        self._flows[flow] = None
        self.begun += 1
        self.deadline = min(self.deadline, self._reactor.now + self._idle_seconds)

    def passed_in(self, flow: F, size: int) -> None:
        """A datagram of `size` bytes, on its way to the service."""
        flow.datagrams_in += 1
        flow.bytes_in += size
        self._used(flow)

    def passed_out(self, flow: F, size: int) -> None:
        """The same, on its way to the client."""
        flow.datagrams_out += 1
        flow.bytes_out += size
        self._used(flow)

    def _used(self, flow: F) -> None:
        flow.used_at = self._reactor.now
        self._flows.move_to_end(flow)

    def leave(self, flow: F) -> None:
        """It is over, and nothing of it waits any more."""
        del self._flows[flow]
        self._ended.update(counts(flow))

    def counts(self) -> Counter[str]:
        """What all flows have had together, by the names of COUNTED."""
        total = self._ended.copy()
        for flow in self._flows:
            total.update(counts(flow))
        return total

    def make_room(self) -> bool:
        """End the flow that was not used for longest; False if there is none."""
        if not self._flows:
            return False
        self._end(next(iter(self._flows)), "too many flows")
        return True

    def expired(self) -> None:
        """End who was idle for too long, and look again when the next may be."""
        while self._flows:
            flow = next(iter(self._flows))
            self.deadline = flow.used_at + self._idle_seconds
            if self.deadline > self._reactor.now:
                return
            self._end(flow, "idle")
        self.deadline = math.inf

    def break_off(self, error: Exception) -> None:
        """Ending a flow has raised; the others go on."""

    def close(self) -> None:
        self._reactor.unclock(self)


class State(Enum):
    GREETING = auto()  # the other end has not said its first line
    OPEN = auto()
    OVER = auto()


class Owner(Protocol):
    def arrived(self, flow: int, data: memoryview | None) -> None:
        """A datagram of this flow; None: the flow is over."""

    def greeted(self) -> None:
        """The other end speaks of datagrams as well."""

    def over(self, error: Exception | None) -> None:
        """Nothing comes or goes any more; None: the other end has ended it. The tunnel has closed its stream."""


class Tunnel(Generic[F]):
    """Carries flows on `duplex`, whose receiver it becomes. `begins`: it says the first line, else it answers.

    `backlog` is the owner's, who may have put datagrams into it before. What the other end says that is no datagram is
    answered with `farewell`.
    """

    idle = False

    def __init__(
        self,
        duplex: Duplex,
        owner: Owner,
        reactor: Reactor,
        backlog: Backlog[F],
        *,
        begins: bool,
        farewell: bytes = b"",
    ) -> None:
        self.state = State.GREETING
        self.queued = False
        self.deadline = reactor.precise_now() + LINE_SECONDS
        self._duplex = duplex
        self._owner = owner
        self._reactor = reactor
        self._backlog = backlog
        self._begins = begins
        self._farewell = farewell
        self._said = b""  # of the other end's first line
        self._reader = datagrams.Reader()
        self._is_held = False  # until the duplex has drained
        self._is_to_flush = False
        duplex.receiver = self
        reactor.clock(self)
        if begins:
            duplex.put(OPEN)

    # -- the way out

    def send(self, flow: F, data: Bytes) -> None:
        """Send it with this turn's others, or when there is room."""
        self._backlog.add(flow, data)
        self._flush_soon()

    def say_over(self, flow: F) -> None:
        """The flow will not be used any more."""
        if self.state is State.OPEN and not self._is_held:  # else the other end finds out, when the flow is idle
            self._duplex.put(datagrams.encode_over(flow.id))

    def _flush_soon(self) -> None:
        if not self._is_to_flush and not self._is_held and self.state is State.OPEN:
            self._is_to_flush = True
            self._reactor.flush_soon(self)

    def flush(self) -> None:
        self._is_to_flush = False
        self._send_block()
        self._go_on()

    def turn(self) -> None:
        while self._may_send():
            self._send_block()
            if self._reactor.over():
                break
        self._go_on()

    def ready(self, events: int) -> None:
        """It has no socket: only `turn` is called."""

    def _go_on(self) -> None:
        if self._may_send():
            self._reactor.again(self)

    def _may_send(self) -> bool:
        return bool(self._backlog) and not self._is_held and self.state is State.OPEN

    def _send_block(self) -> None:
        block = bytearray()
        for _ in range(BLOCK_DATAGRAMS):
            if not self._may_send() or len(block) >= BLOCK_BYTES:
                break
            flow, data = self._backlog.take()
            block += datagrams.encode_head(flow.id, len(data))
            block += data
        if block:
            self._is_held = not self._duplex.put(memoryview(block))

    def drained(self) -> None:
        self._is_held = False
        self._flush_soon()

    # -- the way in

    def received(self, data: memoryview) -> int:
        reader = self._reader
        reader.position = 0
        try:
            if self.state is State.GREETING:
                reader.position = self._greet(data)
            while self.state is State.OPEN and (frame := reader.next(data)) is not None:
                self._owner.arrived(*frame)
                if self._reactor.over():
                    break
        except DatagramError as error:
            self._refuse(error)
        return reader.position if self.state is State.OPEN else len(data)

    def _greet(self, data: memoryview) -> int:
        """Take of the other end's first line what has come; how many bytes of `data` that is."""
        known = len(self._said)
        self._said += bytes(data[:MAX_LINE])
        end = datagrams.line_end(self._said, READY if self._begins else OPEN)
        if end < 0:
            return len(data)
        self.state = State.OPEN
        self._reactor.unclock(self)
        if not self._begins:
            self._duplex.put(READY)
        self._owner.greeted()
        self._flush_soon()
        return end - known

    def expired(self) -> None:
        """The other end's first line does not come."""
        self._refuse(DatagramError(f"expected UDP in a tunnel, got nothing within {LINE_SECONDS:g} s"))

    # -- the end

    def _refuse(self, error: DatagramError) -> None:
        """The other end speaks of something else."""
        self._duplex.put(self._farewell)
        self._duplex.close()
        self._finish(error)

    def ended(self) -> None:
        greeted = self.state is State.OPEN
        self._duplex.close()
        self._finish(None if greeted else DatagramError("expected UDP in a tunnel, got an end"))

    def lost(self, error: Exception) -> None:
        self._finish(error)

    def break_off(self, error: Exception) -> None:
        self._duplex.abort()
        self._finish(error)

    def close(self) -> None:
        """End it from this side; the owner hears nothing more."""
        if self.state is not State.OVER:
            self.state = State.OVER
            self._reactor.unclock(self)
            self._duplex.close()

    def _finish(self, error: Exception | None) -> None:
        if self.state is not State.OVER:
            self.state = State.OVER
            self._reactor.unclock(self)
            self._owner.over(error)
