"""What is said on a WebSocket, followed from the bytes of both ways (RFC 6455; compression: RFC 7692).

Only the beginning of a message is kept. A compressed one can only be read by who has read all before it, so a way on
which that was too much work is followed no more, and says why. What passes does not depend on any of it.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from wsproto.extensions import Extension
from wsproto.frame_protocol import Frame, FrameDecoder, FrameProtocol, Opcode, ParseFailed, RsvBits

from engine.loop.duplex import Bytes

MESSAGE_BYTES: Final = 16 * 1024  # of one message that are kept
MOST_MESSAGES: Final = 1000  # of one WebSocket, the latest
FRAMES_AT_ONCE: Final = 256  # a millisecond's work: a read may hold a hundred thousand, and others wait
WAITING_BYTES: Final = 512 * 1024  # that were not followed yet, twice the largest read
INFLATED_BYTES: Final = 1024 * 1024  # of one compressed message that are read


class Message(NamedTuple):
    """A message, or a control frame, of `size` bytes on the wire. `to_service`: the client's. `seconds`: when its end
    came, since the request.
    """

    to_service: bool
    kind: str  # "text", "binary", "close", "ping", "pong"
    data: bytes  # the first, decompressed
    size: int
    seconds: float
    cut: bool  # `data` is not all


class Messages:
    """Of both ways of one WebSocket, the latest; `forgotten` were before them. `keep` hears of bytes kept, or freed."""

    def __init__(self, *, compressed: bool, keep: Callable[[int], None]) -> None:
        self.latest: deque[Message] = deque()
        self.forgotten = 0
        self.notes: list[str] = []
        self._keep = keep
        self._ways = {to_service: _Way(to_service, compressed) for to_service in (True, False)}

    def receive(self, data: Bytes, *, to_service: bool, seconds: float) -> None:
        """These bytes have passed, `seconds` after the request."""
        way = self._ways[to_service]
        if way.over is not None:
            return
        try:
            found = way.receive(data, seconds)
        except (ParseFailed, zlib.error) as error:
            found = []
            way.over = f"no WebSocket any more: {error}"
        except Exception as error:  # what only looks on must not end a connection
            found = []
            way.over = f"cannot be followed: {error!r}"
        if way.over:
            self.notes.append(f"{'client' if to_service else 'service'}: {way.over}")
        for message in found:
            self._add(message)

    def _add(self, message: Message) -> None:
        self.latest.append(message)
        self._keep(len(message.data))
        if len(self.latest) > MOST_MESSAGES:
            self._keep(-len(self.latest.popleft().data))
            self.forgotten += 1


class _Way:
    """One way: its frames, made into messages. `over` once it is followed no more; it says why, if not by a close."""

    def __init__(self, to_service: bool, compressed: bool) -> None:
        self.over: str | None = None
        self._to_service = to_service
        self._bits = _AnyBits()
        self._decoder = FrameDecoder(client=not to_service, extensions=[self._bits])
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if compressed else None
        self._kind = ""  # of the message that is coming
        self._deflated = False
        self._data = b""
        self._size = 0
        self._inflated = 0
        self._control = b""

    def receive(self, data: Bytes, seconds: float) -> list[Message]:
        found: list[Message] = []
        self._decoder.receive_bytes(bytes(data))
        for _ in range(FRAMES_AT_ONCE):
            frame = self._decoder.process_buffer()
            if frame is None:
                return found
            message = self._control_frame(frame, seconds) if frame.opcode.iscontrol() else self._piece(frame, seconds)
            if message is not None:
                found.append(message)
            if self.over is not None:
                return found
        if len(self._decoder.buffer) > WAITING_BYTES:
            self.over = "more small messages than are followed"
        return found

    def _control_frame(self, frame: Frame, seconds: float) -> Message:
        assert isinstance(frame.payload, bytes)
        if frame.opcode is Opcode.CLOSE:
            self.over = ""
        return Message(self._to_service, frame.opcode.name.lower(), frame.payload, len(frame.payload), seconds, False)

    def _piece(self, frame: Frame, seconds: float) -> Message | None:
        """A piece of a message; the message, if it is whole with it."""
        payload = frame.payload
        assert isinstance(payload, bytes)
        if not self._kind:
            if frame.opcode is Opcode.CONTINUATION:
                raise ParseFailed("a continuation of no message")
            self._kind = frame.opcode.name.lower()
            self._deflated = self._bits.first
        ends = frame.frame_finished and frame.message_finished
        self._size += len(payload)
        if self._deflated and self._inflater is not None:
            self._inflate(payload + b"\0\0\xff\xff" if ends else payload)
        else:
            self._data += payload[: MESSAGE_BYTES - len(self._data)]
            self._inflated += len(payload)
        if not ends:
            return None
        cut = self._inflated > len(self._data)
        message = Message(self._to_service, self._kind, self._data, self._size, seconds, cut)
        self._kind, self._data, self._size, self._inflated = "", b"", 0, 0
        return message

    def _inflate(self, data: bytes) -> None:
        inflater = self._inflater
        assert inflater is not None
        while data and self._inflated < INFLATED_BYTES:
            piece = inflater.decompress(data, MESSAGE_BYTES)
            self._inflated += len(piece)
            self._data += piece[: MESSAGE_BYTES - len(self._data)]
            data = inflater.unconsumed_tail
            if inflater.eof:  # each message a stream of its own
                self._inflater = inflater = zlib.decompressobj(-zlib.MAX_WBITS)
                break
        if data and self._inflated >= INFLATED_BYTES:
            self.over = f"a compressed message of more than {INFLATED_BYTES >> 20} MiB"


class _AnyBits(Extension):
    """Whatever an extension has set is taken: `first` is whether the first reserved bit was, which means compressed."""

    name = "any"
    first = False

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> RsvBits:
        if not opcode.iscontrol():
            self.first = rsv.rsv1
        return rsv
