"""yamux's session and stream automata (see yamux.py for the words): many byte streams over one.

A stream's life, at each of its ends (`State`; RST, either way, leads to GONE from everywhere):

    IDLE --SYN sent--> OPEN --FIN sent--> ENDED_HERE --FIN received--> GONE
                         `--FIN received--> ENDED_THERE --FIN sent--> GONE

What is gone is forgotten at once; frames that were under way for it are told from nonsense by its id: one
that was used is skipped over, one that never was is a protocol error. Ids rise, but SYNs may overtake one
another: an id is drawn when a stream is opened, and hashicorp's goroutines race to the wire with it (our own
streams wait for their first bytes). So the ids that were left out are remembered, up to as many as that end
may have under way.

Both ends are one class. The yamux *client* opens odd ids, the *server* even ones; an end that was told not to
accept streams takes a SYN for a protocol error. Nobody here waits: `receive` takes bytes and says what they
mean, the other methods give the bytes of a frame and book what it does to windows and states. DATA payload is
passed on as it comes, so nothing is kept between two calls but a header that was cut.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final, Generic, TypeVar

from engine.errors import YamuxError
from engine.wire import yamux
from engine.wire.yamux import (
    ACK,
    CONFIRM,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    HEADER_SIZE,
    INITIAL_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
)

# What `receive` reports, as the first of (what, stream, value):
OPENED: Final = 10  # the other end opened `stream`
RECEIVED: Final = 11  # value: a view of payload, valid as long as the buffer it came in
ENDED: Final = 12  # FIN: nothing more will come on `stream`
RESET: Final = 13  # RST: `stream` is gone
GRANTED: Final = 14  # `stream.send_window` has grown
PINGED: Final = 15  # value: to be sent back in `pong`
PONGED: Final = 16  # value: of our ping
WENT_AWAY: Final = 17  # value: a go-away code; no new streams towards the other end
ACKED: Final = 18  # the other end has accepted `stream`
CONFIRMED: Final = 19  # value: how many bytes of the session the other end has taken, modulo 2^32

MAX_PENDING: Final = 256  # opened and not acknowledged; hashicorp's accept backlog, beyond which it resets


class State(IntEnum):
    """Of a stream, as one end sees it."""

    IDLE = 0  # opened here, and not told to the other end
    OPEN = 1
    ENDED_HERE = 2  # FIN sent
    ENDED_THERE = 3  # FIN received
    GONE = 4


_IDLE, _OPEN, _ENDED_HERE, _ENDED_THERE, _GONE = State


class StreamState:
    """What both ends agree on about one stream. A driver subclasses it and keeps its own beside it."""

    __slots__ = ("acked", "id", "receive_window", "send_window", "state")

    def __init__(self, stream_id: int) -> None:
        self.id = stream_id
        self.state = _IDLE
        self.send_window = INITIAL_WINDOW  # bytes we may still send
        self.receive_window = INITIAL_WINDOW  # bytes the other end may still send
        self.acked = False  # its opening is answered, by whoever has to

    @property
    def gone(self) -> bool:
        return self.state is _GONE

    @property
    def ended_here(self) -> bool:
        """FIN was sent; also of a stream that is gone."""
        return self.state is _ENDED_HERE or self.state is _GONE

    @property
    def ended_there(self) -> bool:
        """FIN was received; also of a stream that is gone."""
        return self.state is _ENDED_THERE or self.state is _GONE


S = TypeVar("S", bound=StreamState)


class Mux(Generic[S]):
    """One end of a yamux session.

    `client` decides whose ids are odd; `accepts` whether the other end may open streams; `new_stream` makes
    the state of a stream from its id; `confirms`, whether the other end may confirm. `streams` holds those that live.
    """

    __slots__ = (
        "_accepts",
        "_confirms",
        "_header",
        "_last_remote",
        "_left",
        "_left_fin",
        "_left_stream",
        "_new_stream",
        "_next_id",
        "_parity",
        "_skipped",
        "pending",
        "streams",
        "taken",
    )

    def __init__(self, *, client: bool, accepts: bool, new_stream: Callable[[int], S], confirms: bool = False) -> None:
        self._parity = 1 if client else 0
        self._next_id = 1 if client else 2
        self._last_remote = 0 if client else -1  # the highest id of the other end's
        self._skipped: dict[int, None] = {}  # its ids below that one whose SYN may still come, in order
        self._accepts = accepts
        self._confirms = confirms
        self._new_stream = new_stream
        self._header = b""  # a header that was cut
        self._left = 0  # payload of the frame we are in, still to come
        self._left_stream: S | None = None  # None: payload for a stream that is gone
        self._left_fin = False
        self.streams: dict[int, S] = {}
        self.taken = 0  # of what was given last
        self.pending = 0  # opened here, told the other end, not yet acknowledged

    # -- what comes in

    def receive(self, data: memoryview, frames: int = 1 << 30) -> list[tuple[int, S | None, memoryview | int]]:
        """Take what came, at most `frames` of it; give what it means as (what, stream, value), in order.

        `taken` is set to how much of `data` that was; the rest is given again, with what follows.
        Raises YamuxError: send its code as a go-away and hang up.
        """
        events: list[tuple[int, S | None, memoryview | int]] = []
        position = 0
        self.taken = size = len(data)
        while True:
            left = self._left
            if left:
                take = size - position
                if take >= left:
                    take = left
                elif not take:
                    return events
                self._left = left = left - take
                stream = self._left_stream
                if stream is not None and stream.state is not _GONE:
                    events.append((RECEIVED, stream, data[position : position + take]))
                    if self._left_fin and not left:
                        self._end(stream, events)
                position += take
                continue
            if not frames and position < size:
                self.taken = position
                return events
            frames -= 1
            if self._header:
                known = len(self._header)
                whole = self._header + bytes(data[position : position + HEADER_SIZE - known])
                if len(whole) < HEADER_SIZE:
                    self._header = whole
                    return events
                self._header = b""
                position += HEADER_SIZE - known
                version, kind, flags, stream_id, length = HEADER.unpack(whole)
            elif size - position >= HEADER_SIZE:
                version, kind, flags, stream_id, length = HEADER.unpack_from(data, position)
                position += HEADER_SIZE
            else:
                if position < size:
                    self._header = bytes(data[position:])
                return events
            if not flags and kind == DATA and not version:
                # What most frames are: more of what is under way.
                stream = self.streams.get(stream_id)
                if stream is not None and length <= stream.receive_window and stream.state is not _ENDED_THERE:
                    stream.receive_window -= length
                    self._left, self._left_stream, self._left_fin = length, stream, False
                    continue
            if version:
                raise YamuxError(yamux.PROTOCOL_ERROR, "expected yamux version 0", str(version))
            if kind <= WINDOW_UPDATE:
                self._stream_frame(kind, flags, stream_id, length, events)
            elif kind == PING:
                if flags & SYN:
                    events.append((PINGED, None, length))
                elif flags & ACK:
                    events.append((PONGED, None, length))
            elif kind == GO_AWAY:
                events.append((WENT_AWAY, None, length))
            elif kind == CONFIRM and self._confirms:
                events.append((CONFIRMED, None, length))
            else:
                raise YamuxError(yamux.PROTOCOL_ERROR, "unknown yamux frame type", str(kind))

    def _stream_frame(
        self,
        kind: int,
        flags: int,
        stream_id: int,
        length: int,
        events: list[tuple[int, S | None, memoryview | int]],
    ) -> None:
        if flags & SYN:
            stream: S | None = self._accept(stream_id)
            events.append((OPENED, stream, 0))
        else:
            stream = self.streams.get(stream_id)
            if stream is None and not self._was_used(stream_id):
                raise YamuxError(
                    yamux.PROTOCOL_ERROR, "frame for a stream that was never opened", f"stream {stream_id}"
                )
        if stream is not None and flags & (ACK | RST):
            if flags & ACK and not stream.acked and stream_id & 1 == self._parity:
                stream.acked = True
                self.pending -= 1
                events.append((ACKED, stream, 0))
            if flags & RST:
                self._forget(stream)
                events.append((RESET, stream, 0))
        if kind == WINDOW_UPDATE:
            if stream is not None and stream.state is not _GONE:
                if length:
                    if stream.send_window + length > yamux.MAX_STREAM_ID:
                        raise YamuxError(yamux.PROTOCOL_ERROR, "a window over 2^32", f"stream {stream_id}")
                    stream.send_window += length
                    events.append((GRANTED, stream, 0))
                if flags & FIN:
                    self._end(stream, events)
            return
        if stream is not None and stream.state is not _GONE:
            if length > stream.receive_window:
                raise YamuxError(
                    yamux.PROTOCOL_ERROR,
                    "more bytes than the stream's window",
                    f"stream {stream_id}: {length}, of {stream.receive_window}",
                )
            if stream.state is _ENDED_THERE and length:
                raise YamuxError(yamux.PROTOCOL_ERROR, "data behind FIN", f"stream {stream_id}")
            stream.receive_window -= length
            if flags & FIN and not length:
                self._end(stream, events)
        self._left = length
        self._left_stream = stream if length else None
        self._left_fin = bool(flags & FIN)

    def _accept(self, stream_id: int) -> S:
        last = self._last_remote
        if self._accepts and stream_id & 1 != self._parity and stream_id > last:
            skipped = self._skipped
            for left_out in range(max(last + 2, stream_id - 2 * MAX_PENDING), stream_id, 2):
                skipped[left_out] = None
            while len(skipped) > MAX_PENDING:
                del skipped[next(iter(skipped))]
            self._last_remote = stream_id
        elif stream_id in self._skipped:
            del self._skipped[stream_id]
        else:
            raise YamuxError(yamux.PROTOCOL_ERROR, "SYN for a stream that may not be opened", f"stream {stream_id}")
        stream = self._new_stream(stream_id)
        stream.state = _OPEN
        self.streams[stream_id] = stream
        return stream

    def _was_used(self, stream_id: int) -> bool:
        if stream_id & 1 == self._parity:
            return 0 < stream_id < self._next_id
        return 0 < stream_id <= self._last_remote and stream_id not in self._skipped

    def _end(self, stream: S, events: list[tuple[int, S | None, memoryview | int]]) -> None:
        if stream.state is _ENDED_HERE:
            self._forget(stream)
        elif stream.state is _OPEN:
            stream.state = _ENDED_THERE
        else:
            return
        events.append((ENDED, stream, 0))

    def _forget(self, stream: S) -> None:
        self.streams.pop(stream.id, None)
        if stream.state is not _IDLE and not stream.acked and stream.id & 1 == self._parity:
            stream.acked = True
            self.pending -= 1
        stream.state = _GONE
        if self._left_stream is stream:
            # Whoever received from it is not held until another frame comes; the rest of this one is dropped.
            self._left_stream = None

    # -- what goes out

    def open(self) -> S:
        """A new stream; the other end learns of it by the first frame sent on it.

        Raises OverflowError when ids have run out: the session has to be replaced.
        """
        stream_id = self._next_id
        if stream_id > yamux.MAX_STREAM_ID:
            raise OverflowError("stream ids have run out")
        self._next_id += 2
        stream = self._new_stream(stream_id)
        self.streams[stream_id] = stream
        return stream

    def data(self, stream: S, size: int) -> bytes:
        """The header of a DATA frame of `size` bytes, which must fit into `stream.send_window`."""
        stream.send_window -= size
        return HEADER.pack(0, DATA, self._opening_flags(stream), stream.id, size)

    def grant(self, stream: S, size: int) -> bytes:
        """Let the other end send `size` bytes more."""
        stream.receive_window += size
        return HEADER.pack(0, WINDOW_UPDATE, self._opening_flags(stream), stream.id, size)

    def end(self, stream: S) -> bytes:
        """FIN: nothing more will be sent on `stream`."""
        flags = self._opening_flags(stream) | FIN
        if stream.state is _ENDED_THERE:
            self._forget(stream)
        else:
            stream.state = _ENDED_HERE
        return HEADER.pack(0, WINDOW_UPDATE, flags, stream.id, 0)

    def reset(self, stream: S) -> bytes:
        """RST: `stream` is gone, both ways. A stream the other end never heard of needs no frame."""
        if stream.state is _IDLE:
            self._forget(stream)
            return b""
        flags = self._opening_flags(stream) | RST
        self._forget(stream)
        return HEADER.pack(0, WINDOW_UPDATE, flags, stream.id, 0)

    def ping(self, value: int) -> bytes:
        return HEADER.pack(0, PING, SYN, 0, value)

    def pong(self, value: int) -> bytes:
        return HEADER.pack(0, PING, ACK, 0, value)

    def go_away(self, code: int = yamux.NORMAL) -> bytes:
        return HEADER.pack(0, GO_AWAY, 0, 0, code)

    def _opening_flags(self, stream: S) -> int:
        """SYN on the first frame of a stream opened here, ACK on the first of one opened there."""
        if stream.state is _IDLE:
            stream.state = _OPEN
            self.pending += 1
            return SYN
        if not stream.acked and stream.id & 1 != self._parity:
            stream.acked = True
            return ACK
        return 0
