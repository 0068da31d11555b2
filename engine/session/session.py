"""A session: yamux on a carrier, streams as Duplexes.

The session is the receiver of its carrier: what arrives is taken apart and handed to the streams, in turns: after
every `FRAMES` frames it is asked whether the turn is over, and what is left is offered again in the next one. Frames to
be sent are collected and leave together when the loop's turn is over (see reactor.py), or at once when one of them is
large: a large payload is a view into somebody's receive buffer, which will not wait, and gains nothing by waiting.

A defect in one stream's receiver ends that stream. What the session's peer does against the protocol ends the session.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

import trio

from engine.carriers.carrier import Carrier, Kind
from engine.carriers.resumable import Resumable
from engine.carriers.resumable import State as Suspension
from engine.carriers.websocket import MAX_OWED
from engine.errors import RemoteProtocolError, YamuxError
from engine.log import get_logger
from engine.loop.duplex import MOST_READ, Bytes
from engine.loop.reactor import current_reactor
from engine.session.liveness import (
    MAX_RESETS,
    PING_SECONDS,
    PONG_SECONDS,
    RESET_SECONDS,
    STREAM_PING_SECONDS,
    Budget,
    Pings,
)
from engine.session.stream import Stream
from engine.session.window import Pool
from engine.wire import mux, yamux
from engine.wire.mux import Mux, State
from engine.wire.websocket import NORMAL, PROTOCOL_ERROR

DIRECT_BYTES: Final = 16 * 1024  # a part this large leaves at once instead of being copied
FLUSH_BYTES: Final = 64 * 1024
FRAMES: Final = 16  # of yamux, handled before it is asked whether the turn is over
_random: Final = random.SystemRandom().getrandbits  # one for all: a session's own would weigh 2.5 KiB
MAX_STREAMS: Final = 10_000  # that live at once; a stream that waits weighs a KiB or two at each end

log = get_logger("upstream")


class NoStream(Exception):
    """The session cannot open another stream: too many live, or it has ended."""


class Session:
    """One session: owns `carrier`.

    `accepts` says which end this is: that of who accepts streams (`on_stream`) is the yamux client, as an agent is to
    its node; the other opens them. `on_away` is called when the other end wants no new streams, and when the session
    has ended; `on_change`, with it, when its carrier was lost, and when it has the next.
    """

    idle = False

    def __init__(
        self,
        carrier: Carrier,
        *,
        accepts: bool,
        on_stream: Callable[[Stream], None] | None = None,
        on_away: Callable[[], None] | None = None,
        on_change: Callable[[Session], None] | None = None,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        self.carrier = carrier
        self.account = carrier.account
        self.reactor = current_reactor()
        self.windows = Pool()
        self._resumable = carrier if isinstance(carrier, Resumable) else None
        self.mux: Mux[Stream] = Mux(
            client=accepts,
            accepts=accepts,
            new_stream=lambda i: Stream(i, self),
            confirms=self._resumable is not None,
        )
        self._accepts = accepts
        self._on_stream = on_stream
        self._on_away = on_away
        self._on_change = on_change
        self.ping_seconds = ping_seconds
        self._pings = Pings()
        self._owed = 0  # pongs, since all that was sent was taken
        self._resets = Budget(MAX_RESETS, RESET_SECONDS)
        # When the last ping or pong came, and bytes_in and _out then.
        self._calm: tuple[float, int, int] = (self.reactor.now, 0, 0)
        self._pieces: list[Bytes] = []  # frames of this turn
        self._size = 0
        self._unopened: dict[Stream, None] = {}  # in order of waiting for a place among the pending
        self._ponged: trio.Event | None = None
        self._quiet: trio.Event | None = None
        self._untold: list[Stream] = []  # that the session is over
        self.queued = False
        self.deadline = math.inf
        self.waiting: set[Stream] = set()  # told to hold back until the socket has caught up
        self.behind = False
        self.error: Exception | None = None  # why the session ended
        self.alive = True
        self.away = False  # the other end takes no new streams
        self.bytes_in = 0
        self.bytes_out = 0
        self.streams_opened = 0
        self.resets = 0
        self.window_stalls = 0
        if self._resumable is not None:
            self._resumable.on_change = self._carrier_changed
        carrier.receiver = self
        carrier.read_at_most(MOST_READ)

    def __repr__(self) -> str:
        return f"<Session {self.carrier.peer[0]}:{self.carrier.peer[1]} streams={len(self.mux.streams)}>"

    async def run(self) -> None:
        """Serve the session until it ends; `error` tells why. The carrier is closed when this returns."""
        self._ping()
        self.reactor.clock(self)
        try:
            await self.carrier.run()
        finally:
            self._end(ConnectionAbortedError("stopped"))

    # -- streams

    def open(self) -> Stream:
        """A new stream (the node's end only). Raises NoStream."""
        if not self.alive or len(self.mux.streams) >= MAX_STREAMS:
            raise NoStream(f"{len(self.mux.streams)} streams are open")
        stream = self.mux.open()
        self.streams_opened += 1
        stream.announce()
        return stream

    def may_open(self, stream: Stream) -> bool:
        """May `stream`'s first frame be sent? If not, it is told (`granted`) when it may."""
        if self.mux.pending < mux.MAX_PENDING:
            return True
        self._unopened[stream] = None
        return False

    def released(self, stream: Stream) -> None:
        """`stream` is gone: its share of the session's windows is free again."""
        stream.window.close()
        self.waiting.discard(stream)
        if self._quiet is not None and not self.mux.streams:
            self._quiet.set()
            self.reactor.hand_over()
        if self._unopened:
            self._unopened.pop(stream, None)
            self._open_next()

    # -- the way out

    def send(self, *pieces: Bytes) -> None:
        """Send frames with this turn's others, or at once if they are large."""
        if not self._pieces:
            self.reactor.flush_soon(self)
        direct = False
        for piece in pieces:
            size = len(piece)
            self._size += size
            if isinstance(piece, bytes):
                self._pieces.append(piece)
            elif size >= DIRECT_BYTES:
                self._pieces.append(piece)
                direct = True
            else:
                self._pieces.append(bytes(piece))
        if direct or self._size >= FLUSH_BYTES:
            self.reactor.call("flush", self, self.flush)

    def flush(self) -> None:
        """Send what this turn has collected."""
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            self._size = 0
            if not self.carrier.put(*pieces):
                self.behind = self.carrier.full

    def drained(self) -> None:
        self.behind = False
        self._owed = 0
        waiting, self.waiting = self.waiting, set()
        for stream in waiting:
            if stream.state is not State.GONE:
                self.reactor.call("drained", stream, stream.caught_up)

    # -- the way in

    def received(self, data: memoryview) -> int:
        """Take yamux frames, until the turn is over."""
        size = left = len(data)
        self.bytes_in += size
        try:
            while left and self.alive:
                self._take(data)
                taken = self.mux.taken
                left -= taken
                data = data[taken:]
                if left and self.reactor.over():
                    break
        except YamuxError as error:
            self._fail(error)
        if not self.alive:
            return size
        self.bytes_in -= left
        return size - left

    def _take(self, data: memoryview) -> None:
        """A few frames."""
        for what, stream, value in self.mux.receive(data, FRAMES):
            if stream is None:
                self._session_event(what, value)
                continue
            try:
                if what == mux.RECEIVED:
                    stream.arrived(value)  # type: ignore[arg-type]
                elif what == mux.GRANTED:
                    stream.granted()
                elif what == mux.ACKED:
                    self._open_next()
                elif what == mux.ENDED:
                    stream.heard_end()
                    if stream.state is State.GONE:
                        self.released(stream)
                elif what == mux.RESET:
                    self._reset(stream)
                elif what == mux.OPENED:
                    self._opened(stream)
            except YamuxError:
                raise
            except Exception as error:
                # One stream's defect must not take the session's other streams with it.
                self.reactor.failed("stream", stream, error)

    def _opened(self, stream: Stream) -> None:
        self.streams_opened += 1
        if len(self.mux.streams) > MAX_STREAMS:
            stream.abort()
            return
        self.send(self.mux.grant(stream, stream.widen()))  # carries the ACK
        if self._on_stream is not None:
            self._on_stream(stream)

    def _open_next(self) -> None:
        if self._unopened:
            stream = next(iter(self._unopened))
            del self._unopened[stream]
            self.reactor.call("granted", stream, stream.granted)

    def _reset(self, stream: Stream) -> None:
        self.resets += 1
        self.released(stream)
        stream.cut(ConnectionResetError("stream reset by the other end"))
        if not self._accepts and not self._resets.spend(self.reactor.now):
            message = f"more than {MAX_RESETS} streams reset within {RESET_SECONDS:g} s"
            raise YamuxError(yamux.PROTOCOL_ERROR, message)

    @property
    def silence(self) -> float:
        """Seconds since the last ping or pong; 0 if anything else has gone either way since then."""
        since, bytes_in, bytes_out = self._calm
        unchanged = (bytes_in, bytes_out) == (self.bytes_in, self.bytes_out)
        return self.reactor.precise_now() - since if unchanged else 0.0

    def _session_event(self, what: int, value: memoryview | int) -> None:
        if what == mux.PINGED or what == mux.PONGED:
            self._calm = (self.reactor.precise_now(), self.bytes_in, self.bytes_out)
        if what == mux.PINGED:
            self._owe()
            self.send(self.mux.pong(value))  # type: ignore[arg-type]
            if self._resumable is not None:
                self._resumable.confirm_along()
        elif what == mux.PONGED:
            if self._pings.answered(value, self.reactor.precise_now()):  # type: ignore[arg-type]
                self.deadline = self.reactor.now + self._calm_seconds
                if self._resumable is not None:
                    self._resumable.reach(self.round_trip)
                if self._ponged is not None:
                    self._ponged.set()
                    self.reactor.hand_over()
        elif what == mux.CONFIRMED and self._resumable is not None:
            self._resumable.confirmed(value)  # type: ignore[arg-type]
        elif what == mux.WENT_AWAY:
            if value:
                log.warning("session ended: go-away from the other end", code=value)
            self._went_away()

    def _went_away(self) -> None:
        self.away = True
        if self._on_away is not None:
            self.reactor.call("away", self, self._on_away)

    def _owe(self) -> None:
        """One more pong."""
        if self.carrier.backlog:
            self._owed += 1
            if self._owed > MAX_OWED:
                raise YamuxError(yamux.PROTOCOL_ERROR, "pings, and does not read pongs")

    def ended(self) -> None:
        self.error = self.error or ConnectionError(f"session closed by the other end: {self.carrier.farewell}")
        self.carrier.close()
        self._end(ConnectionError("session closed"))

    def lost(self, error: Exception) -> None:
        if isinstance(error, RemoteProtocolError):
            self._tell_of(error)
        self._end(error)

    def break_off(self, error: Exception) -> None:
        self.lose(error)

    # -- is it alive?

    @property
    def round_trip(self) -> float:
        """Seconds, the shortest of late; 0 while unknown."""
        return self._pings.round_trip

    @property
    def _calm_seconds(self) -> float:
        """How long it may be silent. A request whose body is silent is given up by some (Varnish, after 5 s)."""
        return min(self.ping_seconds, STREAM_PING_SECONDS if self.carrier.kind is Kind.STREAM else math.inf)

    def _ping(self) -> None:
        value = _random(32)
        self._pings.sent(value, self.reactor.precise_now())
        self.send(self.mux.ping(value))
        self.deadline = self.reactor.now + PONG_SECONDS

    @property
    def suspended(self) -> bool:
        """Its carrier was lost, and the next is waited for."""
        return self._resumable is not None and self._resumable.state is Suspension.SUSPENDED

    @property
    def resumptions(self) -> int:
        """How often it went on with another carrier."""
        return self._resumable.resumptions if self._resumable is not None else 0

    @property
    def busy(self) -> bool:
        """Something is under way on a stream."""
        return any(not stream.receiver.idle for stream in self.mux.streams.values())

    def _carrier_changed(self) -> None:
        """The carrier was lost: nobody can answer a ping. Or there is another: see whether it carries."""
        if not self.alive:
            return
        if self.suspended:
            self.deadline = math.inf
        elif self._pings.under_way:
            self.deadline = self.reactor.now + PONG_SECONDS
        else:
            self._ping()
        if self._on_change is not None:
            self._on_change(self)

    def expired(self) -> None:
        """No pong in time, or time for the next ping."""
        if self._pings.under_way:
            self.carrier.fail(TimeoutError(f"no answer to a ping for {PONG_SECONDS:g} s"))
        else:
            self._ping()

    def turn(self) -> None:
        """Tell the streams that the session is over: all of them, whatever one does, but not all in one turn."""
        error = self.error
        while self._untold and error is not None:
            stream = self._untold.pop()
            self.reactor.call("cut", stream, stream.cut, error)
            if self.reactor.over():
                self.reactor.again(self)
                return

    def ready(self, events: int) -> None:
        """The socket is the connection's: only `turn` is called."""

    async def wait_quiet(self) -> None:
        """Return when no stream lives any more."""
        while self.alive and self.mux.streams:
            self._quiet = trio.Event()
            await self._quiet.wait()

    async def round_trip_done(self) -> None:
        """Ping and wait for the answer: all the other end had sent before it has arrived then."""
        self._ponged = trio.Event()
        self._ping()
        await self._ponged.wait()

    # -- the end

    def go_away(self) -> None:
        """Ask for no new streams; those that are open go on."""
        self.send(self.mux.go_away())

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """End the session now: go-away, and the carrier's farewell. Streams that still live are lost."""
        if self.alive:
            self.error = self.error or ConnectionAbortedError(reason or "session closed")
            self._say_end(yamux.NORMAL, code, reason)

    def lose(self, error: Exception) -> None:
        """End the session at once, with nothing kept."""
        self.error = self.error or error
        self.carrier.abort()
        self._end(error)

    def _fail(self, error: YamuxError) -> None:
        """The other end does what it must not. It is told why, if it reads."""
        self._tell_of(error)
        if self.carrier.backlog:
            self.lose(error)
            return
        self.error = error
        self._say_end(error.code, PROTOCOL_ERROR, error.public[:100])

    def _tell_of(self, error: RemoteProtocolError) -> None:
        log.warning("session ended: protocol error of the other end", peer=self.carrier.peer[0], error=str(error))

    def _say_end(self, go_away: int, code: int, reason: str) -> None:
        self.send(self.mux.go_away(go_away))
        self.flush()
        self.carrier.bid_farewell(code, reason)
        self._end(ConnectionError("session closed"))

    def _end(self, error: Exception) -> None:
        if not self.alive:
            return
        self.alive = False
        self.error = self.error or error
        self.reactor.unclock(self)
        self._pieces.clear()
        if not self.away:
            self._went_away()
        self._untold = [*self.mux.streams.values()]
        self.mux.streams.clear()
        for stream in self._untold:
            stream.state = State.GONE
        self.turn()
        for event in (self._ponged, self._quiet):
            if event is not None:
                event.set()
        self.reactor.hand_over()
