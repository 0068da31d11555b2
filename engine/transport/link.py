"""A session's socket and everything on it: WebSocket outside, yamux inside, streams as Duplexes.

The link is the receiver of its connection: what arrives is unmasked, taken apart and handed to the streams'
receivers in one go, inside the one task that reads (`run`). Frames to be sent are collected and leave together
when the event loop's turn is over (see pulse.py), or at once when one of them is large: a large payload is a
view into somebody's receive buffer, which will not wait, and gains nothing by waiting.

**Back-pressure is the yamux window**, granted back when bytes have left for the next socket: a receiver whose own
way out is full pauses the stream, and what arrives meanwhile (a window at most) is not granted until it resumes.
One stalled stream therefore holds its window and nothing else.

**Windows grow.** A sender that is limited by its window sends one window per round trip. So when half a window was
used up in little more than a round trip, the stream could carry more, and its window doubles. That needs nothing from
the other end but to honour a window update, which every yamux does. A stream starts with what its session's round
trip suggests, at most `MAX_FIRST_WINDOW`; growth over the whole session is bounded by `SESSION_WINDOWS`, which is
what a session can be made to hold in memory by streams that first run fast and then stall.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from engine.errors import RemoteProtocolError, WebSocketError, YamuxError
from engine.log import get_logger
from engine.transport.connection import Connection
from engine.transport.duplex import NOBODY, Bytes, Receiver
from engine.transport.pulse import Pulse
from engine.wire import mux, websocket, yamux
from engine.wire.mux import Mux, StreamState
from engine.wire.websocket import WebSocket
from engine.wire.yamux import INITIAL_WINDOW

PING_SECONDS: Final = 20.0  # forward proxies cut what is silent for 30 s and up
PONG_SECONDS: Final = 10.0
MAX_WINDOW: Final = 32 * 1024 * 1024  # 100 ms at 300 MB/s
MAX_FIRST_WINDOW: Final = 4 * 1024 * 1024
FIRST_BYTES_PER_SECOND: Final = 40_000_000  # what a new stream is believed to be able to carry
BUSY_SECONDS: Final = 0.005  # by how much a loaded round trip may exceed the measured one
SESSION_WINDOWS: Final = 64 * 1024 * 1024  # two streams at full speed over a long way
DIRECT_BYTES: Final = 16 * 1024  # a part this large leaves at once instead of being copied
FLUSH_BYTES: Final = 64 * 1024
LINK_BACKLOG: Final = 256 * 1024  # queued on the socket: more than this, and sources are held back
MAX_DATA: Final = 512 * 1024  # in one yamux frame: a read and a head, and others get their turn
MAX_FRAME: Final = 1024 * 1024  # of the WebSocket; peers send a yamux frame per message, 256 KiB at most

log = get_logger("upstream")


class Stream(StreamState):
    """One multiplexed stream, as a Duplex."""

    __slots__ = (
        "_ending",
        "_granted_at",
        "_held",
        "_link",
        "_owed",
        "_paused",
        "_queue",
        "backlog",
        "receiver",
        "window",
    )

    def __init__(self, stream_id: int, link: Link) -> None:
        super().__init__(stream_id)
        self._link = link
        self._queue: deque[Bytes] = deque()
        self._ending = False  # FIN once the queue is empty
        self._paused = False
        self._held = 0  # received while paused
        self._owed = 0  # passed on and not granted back yet
        self._granted_at = 0.0
        self.window = INITIAL_WINDOW  # what the other end may have under way
        self.backlog = 0
        self.receiver: Receiver = NOBODY

    def __repr__(self) -> str:
        return f"<Stream {self.id}>"

    @property
    def link(self) -> Link:
        return self._link

    def put(self, *parts: Bytes) -> bool:
        link = self._link
        if self.gone or self._ending:
            return True
        size = 0
        for part in parts:
            size += len(part)
        if self._queue or size > self.send_window or size > MAX_DATA or not (self.syn_sent or link.may_open(self)):
            for part in parts:
                if part:
                    self._queue.append(memoryview(bytes(part)))  # cut in place, without copying what is left
            self.backlog += size
            self._send_queue()
        elif size:
            link.bytes_out += size
            link.send(link.mux.data(self, size), *parts)
        if self._queue:
            return False
        if link.behind:
            link.waiting.add(self)
            return False
        return True

    def announce(self) -> bool:
        """Tell the other end that we exist, if there is a place among the pending: it may be its turn to speak."""
        link = self._link
        if not link.may_open(self):
            return False
        link.send(link.mux.grant(self, self.open_window(link.first_window())))
        return True

    def _send_queue(self) -> None:
        """Send what the window allows."""
        link = self._link
        if not (self.syn_sent or link.may_open(self)):
            return
        queue = self._queue
        while queue and self.send_window:
            part = queue.popleft()
            room = min(self.send_window, MAX_DATA)
            if len(part) > room:
                queue.appendleft(part[room:])
                part = part[:room]
            self.backlog -= len(part)
            link.bytes_out += len(part)
            link.send(link.mux.data(self, len(part)), part)
        if queue:
            link.window_stalls += 1

    def granted(self) -> None:
        """The other end has made room, or there is a place among the pending for us."""
        if not self.syn_sent and not self.announce():
            return
        if self._queue:
            self._send_queue()
            if self._queue:
                return
            if self._link.behind:
                self._link.waiting.add(self)
            else:
                self.receiver.drained()
        if self._ending and not self.ended_here:
            self._send_end()

    def end(self) -> None:
        if not self._ending and not self.gone:
            self._ending = True
            if not self._queue and self.syn_sent:
                self._send_end()

    def _send_end(self) -> None:
        self._link.send(self._link.mux.end(self))
        if self.gone:
            self._link.released(self)

    def close(self) -> None:
        self.receiver = NOBODY
        self.resume()
        self.end()

    def abort(self) -> None:
        self.receiver = NOBODY
        if not self.gone:
            self._queue.clear()
            self._link.resets += 1
            frame = self._link.mux.reset(self)
            if frame:
                self._link.send(frame)
            self._link.released(self)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            held, self._held = self._held, 0
            if held:
                self.passed_on(held)

    def arrived(self, size: int) -> None:
        """`size` bytes were handed to the receiver."""
        if self._paused:
            self._held += size
        else:
            self._owed += size
            if self._owed * 2 >= self.window:
                self.passed_on(0)

    def passed_on(self, size: int) -> None:
        """`size` bytes have left for the next socket: grant them back, with interest if that went fast."""
        self._owed += size
        if self._owed * 2 < self.window or self.gone or self.ended_there:
            return
        link = self._link
        now = trio.current_time()
        if now - self._granted_at < 2 * link.round_trip + BUSY_SECONDS and self.window < MAX_WINDOW:
            growth = min(self.window, MAX_WINDOW - self.window, SESSION_WINDOWS - link.extra_windows)
            if growth > 0:
                self.window += growth
                self._owed += growth
                link.extra_windows += growth
        self._granted_at = now
        grant, self._owed = self._owed, 0
        link.send(link.mux.grant(self, grant))

    def open_window(self, window: int) -> int:
        """Start with `window` bytes instead of yamux's 256 KiB; what has to be granted for it."""
        growth = min(window - self.window, SESSION_WINDOWS - self._link.extra_windows)
        if growth <= 0:
            return 0
        self.window += growth
        self._link.extra_windows += growth
        return growth


class Link:
    """One session: owns `connection`, on which the WebSocket is already open.

    `agent` says which end this is: the agent's is the WebSocket and yamux client, and accepts streams
    (`on_stream`); the node's opens them. `on_away` is called when the other end wants no new streams, `on_lost`
    once when the session has ended for whatever reason.
    """

    def __init__(
        self,
        connection: Connection,
        pulse: Pulse,
        *,
        agent: bool,
        on_stream: Callable[[Stream], None] | None = None,
        on_away: Callable[[], None] | None = None,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        self.connection = connection
        connection.receiver = self
        self._pulse = pulse
        self._websocket = WebSocket(client=agent, max_frame=MAX_FRAME)
        self.mux: Mux[Stream] = Mux(client=agent, accepts=agent, new_stream=lambda i: Stream(i, self))
        self._on_stream = on_stream
        self._on_away = on_away
        self._ping_seconds = ping_seconds
        self._calm: tuple[float, int, int] = (
            pulse.now,
            0,
            0,
        )  # when the last ping or pong came, bytes_in and _out then
        self._pieces: list[Bytes] = []  # frames of this turn
        self._size = 0
        self._unopened: dict[Stream, None] = {}  # in order of waiting for a place among the pending
        self._pings: dict[int, float] = {}
        self._ping_value = 0
        self._ponged: trio.Event | None = None
        self._quiet: trio.Event | None = None
        self.deadline = math.inf
        self.waiting: set[Stream] = set()  # told to hold back until the socket has caught up
        self.behind = False
        self.error: Exception | None = None  # why the session ended
        self.alive = True
        self.away = False  # the other end takes no new streams
        self.round_trip = 0.0  # seconds, the shortest of late; 0 while unknown
        self.extra_windows = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.streams_opened = 0
        self.resets = 0
        self.window_stalls = 0

    def __repr__(self) -> str:
        return f"<Link {self.connection.peer[0]}:{self.connection.peer[1]} streams={len(self.mux.streams)}>"

    async def run(self) -> None:
        """Serve the session until it ends; `error` tells why. The socket is closed when this returns."""
        self._ping()
        self._pulse.watch(self)
        try:
            await self.connection.run()
        finally:
            self._pulse.forget(self)
            self._end(self.error or ConnectionAbortedError("stopped"))

    # -- streams

    def open(self) -> Stream:
        """A new stream (the node's end only)."""
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

    def first_window(self) -> int:
        """What a new stream starts with: what it is believed to carry in a round trip."""
        return min(MAX_FIRST_WINDOW, int(self.round_trip * FIRST_BYTES_PER_SECOND))

    def released(self, stream: Stream) -> None:
        """`stream` is gone: its share of the session's windows is free again."""
        self.extra_windows -= stream.window - INITIAL_WINDOW
        stream.window = INITIAL_WINDOW
        self.waiting.discard(stream)
        if self._quiet is not None and not self.mux.streams:
            self._quiet.set()
        if self._unopened:
            self._unopened.pop(stream, None)
            self._open_next()

    # -- the way out

    def send(self, *pieces: Bytes) -> None:
        """Send frames with this turn's others, or at once if they are large."""
        if not self._pieces:
            self._pulse.flush_soon(self)
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
            self.flush()

    def flush(self) -> None:
        """Send what this turn has collected (see Pulse)."""
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            self._size = 0
            if not self.connection.put(*self._websocket.message(pieces)):
                self.behind = self.connection.backlog > LINK_BACKLOG

    def drained(self) -> None:
        self.behind = False
        waiting, self.waiting = self.waiting, set()
        for stream in waiting:
            if not stream.gone and not stream.backlog:
                stream.receiver.drained()

    # -- the way in

    def received(self, data: memoryview) -> None:
        self.bytes_in += len(data)
        try:
            for opcode, payload, _ in self._websocket.receive(data):
                if opcode == websocket.BINARY:
                    if payload:
                        self._frames(payload if isinstance(payload, memoryview) else memoryview(payload))
                else:
                    self._control(opcode, payload)
        except RemoteProtocolError as error:
            self._fail(error)

    def _frames(self, payload: memoryview) -> None:
        for what, stream, value in self.mux.receive(payload):
            if stream is None:
                self._session_event(what, value)
                continue
            try:
                if what == mux.RECEIVED:
                    stream.receiver.received(value)  # type: ignore[arg-type]
                    stream.arrived(len(value))  # type: ignore[arg-type]
                elif what == mux.GRANTED:
                    stream.granted()
                elif what == mux.ACKED:
                    self._open_next()
                elif what == mux.ENDED:
                    stream.receiver.ended()
                    if stream.gone:
                        self.released(stream)
                elif what == mux.RESET:
                    self.resets += 1
                    self.released(stream)
                    receiver, stream.receiver = stream.receiver, NOBODY
                    receiver.lost(ConnectionResetError("stream reset by the other end"))
                elif what == mux.OPENED:
                    self._opened(stream)
            except RemoteProtocolError:
                raise
            except Exception as error:
                # One stream's handler must not take the session's other streams with it.
                log.error("stream handler failed", stream=stream.id, exc_info=error)
                stream.abort()

    def _opened(self, stream: Stream) -> None:
        self.streams_opened += 1
        self.send(self.mux.grant(stream, stream.open_window(self.first_window())))  # carries the ACK
        if self._on_stream is not None:
            self._on_stream(stream)

    def _open_next(self) -> None:
        if self._unopened:
            stream = next(iter(self._unopened))
            del self._unopened[stream]
            stream.granted()

    @property
    def silence(self) -> float:
        """Seconds since the last ping or pong; 0 if anything else has gone either way since then."""
        since, bytes_in, bytes_out = self._calm
        return trio.current_time() - since if (bytes_in, bytes_out) == (self.bytes_in, self.bytes_out) else 0.0

    def _session_event(self, what: int, value: memoryview | int) -> None:
        self._calm = (trio.current_time(), self.bytes_in, self.bytes_out)
        if what == mux.PINGED:
            self.send(self.mux.pong(value))  # type: ignore[arg-type]
        elif what == mux.PONGED:
            sent = self._pings.pop(value, None)  # type: ignore[arg-type]
            if sent is not None:
                took = trio.current_time() - sent
                self.round_trip = min(took, self.round_trip * 1.25) if self.round_trip else took
                self.deadline = self._pulse.now + self._ping_seconds
                if self._ponged is not None:
                    self._ponged.set()
        elif what == mux.WENT_AWAY:
            if value:
                log.warning("session ended by the other end's go-away", code=value)
            self.away = True
            if self._on_away is not None:
                self._on_away()

    def _control(self, opcode: int, payload: Bytes) -> None:
        if opcode == websocket.PING:
            if self.behind:
                raise WebSocketError(websocket.POLICY_VIOLATION, "pings and does not read pongs")
            self.flush()
            self.connection.put(*self._websocket.message([bytes(payload)], websocket.PONG))
        elif opcode == websocket.CLOSE:
            code, reason = websocket.close_reason(payload)
            self.error = ConnectionError(f"session closed by the other end: {code} {reason}".rstrip())
            self.flush()
            self.connection.put(self._websocket.close(code if code != websocket.NO_STATUS else websocket.NORMAL))
            self._shut()
        elif opcode == websocket.TEXT:
            raise WebSocketError(websocket.UNSUPPORTED_DATA, "text message in a session")

    def ended(self) -> None:
        self.error = self.error or ConnectionError("session closed by the other end")
        self._shut()

    def lost(self, error: Exception) -> None:
        self._end(self.error or error)

    # -- is it alive?

    def _ping(self) -> None:
        self._ping_value = (self._ping_value + 1) & 0xFFFF_FFFF
        self._pings = {self._ping_value: trio.current_time()}
        self.send(self.mux.ping(self._ping_value))
        self.deadline = self._pulse.now + PONG_SECONDS

    def expired(self) -> None:
        """No pong in time, or time for the next ping."""
        if self._pings:
            self.error = TimeoutError(f"no answer to a ping for {PONG_SECONDS:g} s")
            self.connection.abort()
            self._end(self.error)
        else:
            self._ping()

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

    def close(self, code: int = websocket.NORMAL, reason: str = "") -> None:
        """End the session now: go-away, close frame, close. Streams that still live are lost."""
        if self.alive:
            self.send(self.mux.go_away())
            self.flush()
            self.connection.put(self._websocket.close(code, reason))
            self.error = self.error or ConnectionAbortedError(reason or "session closed")
            self._shut()

    def _fail(self, error: RemoteProtocolError) -> None:
        self.error = error
        code = error.code if isinstance(error, YamuxError) else yamux.PROTOCOL_ERROR
        self.send(self.mux.go_away(code))
        self.flush()
        close_code = error.code if isinstance(error, WebSocketError) else websocket.PROTOCOL_ERROR
        self.connection.put(self._websocket.close(close_code, error.public[:100]))
        self._shut()

    def _shut(self) -> None:
        self.connection.close()
        self._end(self.error or ConnectionError("session closed"))

    def _end(self, error: Exception) -> None:
        if not self.alive:
            return
        self.alive = False
        self.error = self.error or error
        self._pieces.clear()
        if self._on_away is not None and not self.away:
            self.away = True
            self._on_away()
        for stream in tuple(self.mux.streams.values()):
            stream.gone = True
            receiver, stream.receiver = stream.receiver, NOBODY
            receiver.lost(self.error)
        self.mux.streams.clear()
        for event in (self._ponged, self._quiet):
            if event is not None:
                event.set()
