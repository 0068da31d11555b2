"""An HTTP/2 connection on a Duplex, either end of it: frames in and out, by `h2`; see stream for what they become.

*Frames.* `h2` is given one frame at a time, so a turn ends behind the frame that used it up, and each is looked at by
`floods` before it is read. GOAWAY is heard here and not by `h2`, which would forget the streams that go on.

*Windows.* A stream's is opened by what its receiver has taken. The connection's is opened as data comes: one stream
that nobody takes does not hold up the others. Only when so much is held for all of them that it is a burden,
HELD_BYTES, the connection waits, too.

*Out.* What streams have to say in one turn of the loop leaves in one piece. Of what is queued, each gets a frame in
turn. Nothing is read of a peer that does not take what is sent.

*The end.* Whatever ends a connection has a name, by which it is counted, and is said in a GOAWAY. A role that leaves
says GOAWAY as well, and refuses what comes behind it in a way that tells that it may be asked elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import DenialOfServiceError, ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame, SettingsFrame

from engine.errors import HTTPError
from engine.http2.floods import END_HEADERS, Floods, Kind
from engine.http2.stream import Stream
from engine.log import get_logger
from engine.loop.duplex import Duplex
from engine.loop.memory import Account
from engine.loop.reactor import Reactor
from engine.wire import http2
from engine.wire.http1 import MAX_HEAD
from engine.wire.http2 import PREFACE, Field

MAX_STREAMS: Final = 100  # at once
STREAM_WINDOW: Final = 256 * 1024
WINDOW: Final = 2 * 1024 * 1024
HELD_BYTES: Final = 8 * 1024 * 1024
MAX_FRAME: Final = 16 * 1024
UNSENT_BYTES: Final = 256 * 1024  # of a turn, before they are sent
UNREAD_BYTES: Final = 256 * 1024  # by the peer: who has left more is not listened to
TICK_SECONDS: Final = 1.0
LAST_STREAM: Final = 2**31 - 1000  # of a connection's
_HEADER: Final = 9
_DEFAULT_WINDOW: Final = 65535

log = get_logger("proxy.http")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; infinity switches one off."""

    head: float = 10.0  # for a frame that is no data, and for a head, to come whole
    idle: float = 300.0  # without a stream
    stall: float = 60.0  # in which a stream's window is not opened, though something is queued


class Connection:
    """See above. Becomes the receiver of `duplex`.

    A server calls `on_stream` for each request: who is given the stream makes itself its receiver. A client has `open`,
    and is told by `on_room` when there is room for another stream; none may be opened before. `on_end` is told why the
    connection has ended: "" if as it should, or by what name it is counted.
    """

    def __init__(
        self,
        duplex: Duplex,
        reactor: Reactor,
        *,
        timeouts: Timeouts,
        on_end: Callable[[str], None],
        on_stream: Callable[[Stream, list[Field]], None] | None = None,
        on_room: Callable[[], None] | None = None,
        max_head: int = MAX_HEAD,
        scheme: bytes = b"http",
        seen: int = 0,
    ) -> None:
        """`seen`: how many bytes of the client's preface have been read by somebody else. `scheme` is a client's."""
        self.client_side = on_stream is None
        self.scheme = scheme
        self.reactor = reactor
        self.streams: dict[int, Stream] = {}
        self.idle_since = reactor.now
        self.leaving = False  # no new streams: one of the two ends has said so
        self.over = False
        self.peer_streams = 0  # that a client may have open at once
        self.heard_settings = False
        self.deadline = reactor.now + TICK_SECONDS
        self._duplex = duplex
        self._timeouts = timeouts
        self._on_stream = on_stream
        self._on_end = on_end
        self._on_room = on_room
        self._floods = Floods()
        # In.
        self._header = b""  # the beginning of a frame's
        self._left = 0 if self.client_side else len(PREFACE) - seen  # bytes of the frame that is coming
        self._skipped: bytearray | None = None  # of a frame that `h2` is not given
        self._in_block = False  # a head that more frames belong to
        self._awaited_since = reactor.now  # a frame, or a head, that has begun; infinity: none
        self._held_back = False
        self._last = 0  # the highest stream of the other end's
        self._held = 0  # bytes of data that streams have not taken
        self._ungranted = 0
        # Out.
        self._to_flush = False
        self._unsent = 0
        self._clogged = False
        self._waiting: dict[Stream, None] = {}
        self.h2 = self._begin(seen, max_head)
        duplex.receiver = self
        reactor.clock(self)

    def __repr__(self) -> str:
        return f"<http2.Connection {len(self.streams)} streams on {self._duplex!r}>"

    def _begin(self, seen: int, max_head: int) -> H2Connection:
        settings = {
            SettingCodes.HEADER_TABLE_SIZE: 4096,
            SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME,
            SettingCodes.MAX_HEADER_LIST_SIZE: max_head,
        }
        if self.client_side:
            settings[SettingCodes.ENABLE_PUSH] = 0
        h2 = H2Connection(H2Configuration(client_side=self.client_side, validate_outbound_headers=False))
        # `h2` bears with more than what we say, so that who has not heard it yet is refused a stream, or told 431, and
        # does not lose the connection.
        borne = {**settings, SettingCodes.MAX_CONCURRENT_STREAMS: 10 * MAX_STREAMS}
        h2.local_settings = Settings(client=self.client_side, initial_values=borne)
        h2.max_inbound_frame_size = MAX_FRAME
        h2.initiate_connection()
        h2.clear_outbound_data_buffer()
        said = SettingsFrame(0, settings={int(code): value for code, value in settings.items()}).serialize()
        h2.increment_flow_control_window(WINDOW - _DEFAULT_WINDOW)
        self._duplex.put((PREFACE if self.client_side else b"") + said + h2.data_to_send())
        if seen:
            h2.receive_data(PREFACE[:seen])
        return h2

    @property
    def account(self) -> Account:
        return self._duplex.account

    @property
    def idle(self) -> bool:
        return not self.streams

    @property
    def has_room(self) -> bool:
        """Another stream may be opened."""
        left = len(self.streams) < self.peer_streams and self.h2.highest_outbound_stream_id < LAST_STREAM
        return left and not self.over and not self.leaving

    def open(self) -> Stream:
        """A stream for a request: its head is to be put next."""
        return Stream(self)

    def leave(self) -> None:
        """No more streams; the connection ends with the last of those there are."""
        if not self.leaving and not self.over:
            self.leaving = True
            self._duplex.put(self._goaway(ErrorCodes.NO_ERROR, ""))
            self._end_if_left()

    # -- Link

    @property
    def writable(self) -> bool:
        return not self._clogged

    def wrote(self, size: int) -> None:
        if size:
            self._floods.sent_data()
            self._unsent += size
            if self._unsent >= UNSENT_BYTES:
                self._send()
        if not self._to_flush and not self.over:
            self._to_flush = True
            self.reactor.flush_soon(self)

    def wait(self, stream: Stream) -> None:
        self._waiting[stream] = None

    def taken(self, stream: Stream, size: int) -> None:
        self._held -= size
        if self.over:
            return
        if not stream.gone and not stream.heard:
            stream.ungranted += size
            if stream.ungranted >= STREAM_WINDOW // 4:
                self.h2.increment_flow_control_window(stream.ungranted, stream.id)
                stream.ungranted = 0
                self.wrote(0)
        self._grant()

    def begun(self, stream: Stream) -> None:
        self.streams[stream.id] = stream

    def gone(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        self._waiting.pop(stream, None)
        if not self.streams:
            self.idle_since = self.reactor.now
            self._end_if_left()
        self._tell_of_room()

    def _tell_of_room(self) -> None:
        if self._on_room is not None and self.has_room:
            self._on_room()

    def overdrawn(self) -> None:
        self.end("memory", ErrorCodes.ENHANCE_YOUR_CALM)

    def _grant(self) -> None:
        """Open the connection's window, unless too much is held already."""
        if self._ungranted >= WINDOW // 4 and self._held < HELD_BYTES:
            self.h2.increment_flow_control_window(self._ungranted)
            self._ungranted = 0
            self.wrote(0)

    # -- in

    def received(self, data: memoryview) -> int:
        position, size = 0, len(data)
        while position < size:
            position += self._frame(data, position)
            if self.over:
                return size
            if self._duplex.backlog > UNREAD_BYTES:
                self._held_back = True
                self._duplex.pause()
                break
            if position < size and self.reactor.over():
                break
        return position

    def _frame(self, data: memoryview, position: int) -> int:
        """Read a frame, or what there is of it; how many bytes that was."""
        begin = position
        header = b""
        if not self._left:
            wanted = _HEADER - len(self._header)
            header = self._header + bytes(data[position : position + wanted])
            position += min(wanted, len(data) - position)
            if len(header) < _HEADER:
                self._header = header
                self._await()
                return position - begin
            self._header = b""
            if not self._look_at(header):
                return position - begin
        rest = data[position : position + self._left]
        self._left -= len(rest)
        if self._left and header[3:4] != b"\x00":
            self._await()
        elif not self._left and not self._in_block:
            self._awaited_since = math.inf
        if self._skipped is not None:
            self._skipped += rest
            if not self._left:
                self._hear_goaway(bytes(self._skipped))
                self._skipped = None
        else:
            self._feed(header + bytes(rest) if header else bytes(rest))
        return position + len(rest) - begin

    def _await(self) -> None:
        if self._awaited_since == math.inf:
            self._awaited_since = self.reactor.now

    def _look_at(self, header: bytes) -> bool:
        """A frame begins; False if it ends the connection."""
        length, kind, flags = int.from_bytes(header[:3], "big"), header[3], header[4]
        if length > MAX_FRAME:
            self.end("protocol", ErrorCodes.FRAME_SIZE_ERROR, f"a frame of {length} bytes, more than {MAX_FRAME}")
            return False
        if flood := self._floods.frame(kind, flags, length, self.reactor.now):
            self.end(flood, ErrorCodes.ENHANCE_YOUR_CALM)
            return False
        self._left = length
        if kind in (Kind.HEADERS, Kind.CONTINUATION):
            self._in_block = not flags & END_HEADERS
            if self._in_block:
                self._await()
        elif kind == Kind.GOAWAY and not self._in_block and length >= 8:
            self._skipped = bytearray()
        return True

    def _feed(self, data: bytes) -> None:
        try:
            for event in self.h2.receive_data(data):
                self._handle(event)
                if self.over:
                    return
        except ProtocolError as error:
            self._violated(error)
            return
        self.wrote(0)

    def _violated(self, error: ProtocolError) -> None:
        name = "head" if isinstance(error, DenialOfServiceError) else "protocol"
        self.end(name, ErrorCodes(error.error_code), str(error))

    def _handle(self, event: Event) -> None:
        stream = self.streams.get(getattr(event, "stream_id", 0) or 0)
        try:
            if isinstance(event, DataReceived):
                self._ungranted += event.flow_controlled_length
                if stream is not None:
                    self._held += event.flow_controlled_length
                    stream.data(event.data, event.flow_controlled_length, ends=event.stream_ended is not None)
                self._grant()
            elif isinstance(event, RequestReceived):
                self._begin_stream(event)
            elif isinstance(event, WindowUpdated):
                self._go_on([stream] if stream is not None else [] if event.stream_id else list(self.streams.values()))
            elif isinstance(event, StreamReset):
                self._reset(stream, event)
            elif isinstance(event, RemoteSettingsChanged):
                self.heard_settings = True
                self.peer_streams = self.h2.remote_settings.max_concurrent_streams
                self._go_on(list(self.streams.values()))
                self._tell_of_room()
            elif stream is None:
                pass
            elif isinstance(event, StreamEnded):
                stream.end_of_input([])
            elif isinstance(event, TrailersReceived):
                stream.end_of_input(list(event.headers))
            elif isinstance(event, ResponseReceived | InformationalResponseReceived):
                ended = isinstance(event, ResponseReceived) and event.stream_ended is not None
                head, chunks = http2.response_head(event.headers, stream.method, ended=ended)
                stream.heard = ended
                stream.begin(head, chunks=chunks)
        except HTTPError as error:  # a head or trailers that HTTP/1.1 has no way to say
            if stream is not None:
                self._refuse(stream, error)
        except StreamClosedError:
            pass
        except ProtocolError:
            raise
        except Exception as error:
            if stream is None:
                raise
            self.reactor.failed("stream", stream, error)

    def _begin_stream(self, event: RequestReceived) -> None:
        fields, ended, id = list(event.headers), event.stream_ended is not None, event.stream_id
        assert id is not None
        self._last = max(self._last, id)
        if self.leaving or len(self.streams) >= MAX_STREAMS:
            self.h2.reset_stream(id, ErrorCodes.REFUSED_STREAM)
            self._count_reset(math.inf)
            return
        try:
            head, chunks = http2.request_head(fields, ended=ended)
        except HTTPError as error:
            log.info("request refused", error=str(error), status=error.status)
            self.h2.reset_stream(id, ErrorCodes.PROTOCOL_ERROR)
            self._count_reset(0.0)
            return
        method = next(value for name, value in fields if name == b":method")
        stream = self.streams[id] = Stream(self, id, method)
        stream.heard = ended
        stream.begun_at = self.reactor.precise_now()
        assert self._on_stream is not None
        try:
            self._on_stream(stream, fields)
            stream.begin(head, chunks=chunks)
        except Exception as error:
            self.reactor.failed("stream", stream, error)

    def _reset(self, stream: Stream | None, event: StreamReset) -> None:
        if stream is None:  # it was over
            return
        if not self.client_side:
            self._count_reset(self.reactor.precise_now() - stream.begun_at)
        if not stream.gone:
            stream.lost(ConnectionResetError(f"reset: {_name_of(event.error_code)}"))

    def _refuse(self, stream: Stream, error: HTTPError) -> None:
        receiver = stream.receiver
        stream.refuse(ErrorCodes.PROTOCOL_ERROR)
        self.reactor.call("lost", receiver, receiver.lost, error)
        if not self.client_side:
            self._count_reset(0.0)

    def _count_reset(self, age_seconds: float) -> None:
        if flood := self._floods.reset(self.reactor.now, age_seconds):
            self.end(flood, ErrorCodes.ENHANCE_YOUR_CALM)

    def _hear_goaway(self, payload: bytes) -> None:
        """The other end opens no more streams, and has not looked at ours behind the one it names."""
        self.leaving = True
        if self.client_side:
            last = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
            for stream in [stream for id, stream in self.streams.items() if id > last]:
                stream.lost(ConnectionResetError("the service is leaving"))
        self._end_if_left()

    # -- out

    def _go_on(self, streams: list[Stream]) -> None:
        """There is room for more, perhaps."""
        for stream in streams:
            if stream.backlog:
                self._waiting[stream] = None
        self._pump()

    def _pump(self) -> None:
        """Have those who wait send, a frame each in turn."""
        waiting = self._waiting
        while waiting and not self._clogged and not self.over:
            stream = next(iter(waiting))
            del waiting[stream]
            try:
                more = stream.send_some()
            except ProtocolError:
                more = False
            except Exception as error:
                self.reactor.failed("stream", stream, error)
                continue
            if more:
                waiting[stream] = None

    def flush(self) -> None:
        self._to_flush = False
        self._send()

    def _send(self) -> None:
        self._unsent = 0
        data = self.h2.data_to_send()
        if data and not self.over and not self._duplex.put(data):
            self._clogged = True

    def drained(self) -> None:
        self._clogged = False
        if self._held_back:
            self._held_back = False
            self._duplex.resume()
        self._pump()

    # -- the end

    def end(self, name: str, code: ErrorCodes, text: str = "") -> None:
        """Say GOAWAY for a reason that is counted as `name`, and end."""
        if self.over:
            return
        log.info("HTTP/2 connection ended", reason=name, error=text, on=repr(self._duplex))
        self._duplex.put(self.h2.data_to_send() + self._goaway(code, text or name))
        self._finish(name, ConnectionAbortedError(text or name))

    def _finish(self, name: str, error: Exception) -> None:
        self.over = True
        self.reactor.unclock(self)
        self._waiting.clear()
        streams, self.streams = list(self.streams.values()), {}
        for stream in streams:
            stream.lost(error)
        self._duplex.close()
        self._on_end(name)

    def _end_if_left(self) -> None:
        if self.leaving and not self.streams and not self.over:
            self._send()
            self._finish("", ConnectionAbortedError("left"))

    def _goaway(self, code: ErrorCodes, text: str) -> bytes:
        last = 0 if self.client_side else self._last
        frame = GoAwayFrame(0, last_stream_id=last, error_code=int(code), additional_data=text[:200].encode())
        return frame.serialize()

    def ended(self) -> None:
        if not self.over:
            self._send()
            self._finish("", ConnectionResetError("the other end has hung up"))

    def lost(self, error: Exception) -> None:
        if not self.over:
            self._finish("", error)

    def break_off(self, error: Exception) -> None:
        if not self.over:
            self._finish("internal_error", error)
        self._duplex.abort()

    def expired(self) -> None:
        now, limits = self.reactor.now, self._timeouts
        self.deadline = now + TICK_SECONDS
        if now - self._awaited_since > limits.head:
            self.end("slow_head", ErrorCodes.ENHANCE_YOUR_CALM, "a frame took too long")
        elif not self.streams and now - self.idle_since > limits.idle:
            self.leave()
        else:
            for stream in [one for one in self.streams.values() if one.backlog and now - one.moved_at > limits.stall]:
                self._stalled(stream)

    def _stalled(self, stream: Stream) -> None:
        error = TimeoutError(f"its window was not opened for {self._timeouts.stall:g} s")
        receiver = stream.receiver
        stream.refuse(ErrorCodes.CANCEL)
        self._on_end("stalled")
        log.info("HTTP/2 stream ended", reason="stalled", error=str(error), on=repr(self._duplex))
        self.reactor.call("lost", receiver, receiver.lost, error)


def _name_of(code: ErrorCodes | int | None) -> str:
    return code.name if isinstance(code, ErrorCodes) else f"error {code}"
