"""WebSocket (RFC 6455) as bytes in, events out: the opening handshake, frames, and close codes.

A message is a run of frames, but nobody here waits for whole messages: a tunnel is a byte stream, so payload
is passed on as it comes, as views into the caller's buffer (or, when it was masked, as what the C unmasking
returned). What is kept between two calls is at most a frame header, a control frame's 125 bytes and a rotated
mask key, which is why an idle tunnel costs next to nothing.

Both ends are one class: the client masks what it sends and refuses masked frames, the server the reverse
(5.1). Extensions are not negotiated (a compressed tunnel is a slow one and a bomb to unpack), so the reserved
bits must be zero (5.2).
"""

from __future__ import annotations

import base64
import binascii
import codecs
import hashlib
import os
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from websockets.speedups import apply_mask

from engine.errors import HTTPError, WebSocketError

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

# Close codes, RFC 6455, 7.4.1
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
NO_STATUS: Final = 1005
INVALID_PAYLOAD: Final = 1007
POLICY_VIOLATION: Final = 1008
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011

_WHOLE_BINARY: Final = 0x80 | BINARY  # FIN and opcode
MAX_CONTROL: Final = 125
JOIN_BYTES: Final = 128 * 1024  # a message below this is many small parts, one above is a large one and its header
UNLIMITED: Final = 2**63 - 1

_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LENGTH_16 = struct.Struct(">BBH")
_LENGTH_64 = struct.Struct(">BBQ")


class Event(NamedTuple):
    """A piece of a message, or a whole control frame.

    `opcode` is the message's (TEXT or BINARY, also for continuation frames) or the control frame's; `data` is
    payload, unmasked, valid as long as the buffer it came in; `ends` says that the message is complete with
    it. A CLOSE has its body as data: see `close_reason`.
    """

    opcode: int
    data: memoryview | bytes
    ends: bool


class WebSocket:
    """One end of an open WebSocket connection, without the connection.

    `client` says which end. `max_frame` bounds a data frame's announced length in bytes; a longer one is
    refused at its header with 1009, before anything is allocated for it.
    """

    __slots__ = (
        "_control",
        "_fin",
        "_header",
        "_key",
        "_left",
        "_message",
        "_opcode",
        "_utf8",
        "client",
        "closed",
        "max_frame",
        "position",
    )

    def __init__(self, *, client: bool, max_frame: int = UNLIMITED) -> None:
        self.client = client
        self.max_frame = max_frame
        self.closed = False  # a CLOSE was received: what follows is ignored (5.5.1)
        self.position = 0  # up to where `next` has read
        self._header = b""  # a frame header that has not come whole
        self._opcode = 0  # of the frame we are in
        self._fin = True
        self._left = 0  # payload bytes of this frame still to come
        self._key = b""  # mask key, rotated to the next payload byte; empty when unmasked
        self._message = 0  # opcode of the message we are in, 0 between messages
        self._control = b""  # what has come of a control frame's payload
        self._utf8: codecs.IncrementalDecoder | None = None

    def receive(self, data: memoryview) -> list[Event]:
        """Take what came from the other end; give what it means, in order.

        Any split of the input gives the same messages. Raises WebSocketError, whose code is to be
        sent as the close code; the connection has then to be failed (7.1.7).
        """
        events: list[Event] = []
        self.position = 0
        while (event := self.next(data)) is not None:
            events.append(event)
        return events

    def next(self, data: memoryview) -> Event | None:
        """The first thing that `data` means from `position` on, which is moved behind it; None when all is taken.

        For who may have to stop before the end: `position` is set to 0 by him for a new view, and what lies behind it
        when he stops is given again with what follows. `put_back` moves it back into the payload that was given last.
        """
        size = len(data)
        position = self.position
        if (
            not position
            and size > 7
            and data[0] == _WHOLE_BINARY
            and not (self._left or self._header or self._message or self.closed)
        ):
            # One whole message and nothing else is what mostly comes.
            length, start = data[1] & 0x7F, 2
            if length == 126:
                length, start = data[2] << 8 | data[3], 4
            minimal = (length < 126) == (start == 2)  # neither is 127, which announces 64 bits
            if not self.client:
                start += 4
            if minimal and start + length == size and (data[1] < 0x80) == self.client and length <= self.max_frame:
                self.position = size
                self._opcode, self._fin = BINARY, True
                if self.client:
                    return Event(BINARY, data[start:], True)
                key = bytes(data[start - 4 : start])
                turn = length & 3
                self._key = key[turn:] + key[:turn] if turn else key
                return Event(BINARY, apply_mask(data[start:], key), True)
        while position < size and not self.closed:
            if self._left:
                take = min(self._left, size - position)
                payload: memoryview | bytes = data[position : position + take]
                position += take
                self._left -= take
                if self._key:
                    payload = apply_mask(payload, self._key)
                    self._turn_key(take)
                event = self._payload(payload)
            else:
                used = self._next_header(data, position)
                if not used:
                    break
                position += used
                event = None if self._left else self._payload(b"")
            if event is not None:
                self.position = position
                return event
        self.position = size
        return None

    def put_back(self, size: int) -> None:
        """The last `size` bytes of the binary payload that `next` has just given are not taken: it gives them again."""
        self.position -= size
        self._left += size
        self._message = BINARY
        if self._key:
            self._turn_key(-size)

    def _turn_key(self, size: int) -> None:
        """The mask key for what follows `size` bytes later."""
        turn = size & 3
        if turn:
            self._key = self._key[turn:] + self._key[:turn]

    def _next_header(self, data: memoryview, position: int) -> int:
        """Read the frame header at `position`; how many bytes of `data` belong to it, 0 if it has not come whole."""
        known = len(self._header)
        if not known:
            used = self._begin_frame(data, position)
            if not used:
                self._header = bytes(data[position:])
            return used
        # Finish the header that was cut; it is at most 14 bytes, so the copy is nothing.
        joined = self._header + bytes(data[position : position + 14])
        used = self._begin_frame(memoryview(joined), 0)
        self._header = b"" if used else joined
        return used and used - known

    def _begin_frame(self, data: memoryview, position: int) -> int:
        """Read the frame header at `position`; returns its length, 0 if it has not come whole."""
        available = len(data) - position
        if available < 2:
            return 0
        first = data[position]
        second = data[position + 1]
        opcode = first & 0x0F
        if first & 0x70:
            raise WebSocketError(PROTOCOL_ERROR, "reserved bits in a frame header", f"0x{first:02x}")
        if (second < 0x80) != self.client:
            who = "server masked a frame" if self.client else "client sent an unmasked frame"
            raise WebSocketError(PROTOCOL_ERROR, f"{who} (RFC 6455, 5.1)")
        length = second & 0x7F
        used = 2
        if length == 126:
            used = 4
            if available < 4:
                return 0
            length = data[position + 2] << 8 | data[position + 3]
            if length < 126:
                raise WebSocketError(PROTOCOL_ERROR, "frame length not minimal")
        elif length == 127:
            used = 10
            if available < 10:
                return 0
            length = int.from_bytes(data[position + 2 : position + 10], "big")
            if length < 65536 or length > UNLIMITED:
                raise WebSocketError(PROTOCOL_ERROR, "bad 64-bit frame length", str(length))
        if opcode >= 8:
            if opcode > PONG:
                raise WebSocketError(PROTOCOL_ERROR, "unknown opcode", str(opcode))
            if length > MAX_CONTROL or first < 0x80:
                raise WebSocketError(PROTOCOL_ERROR, "control frame fragmented or longer than 125 bytes")
        else:
            if opcode > BINARY:
                raise WebSocketError(PROTOCOL_ERROR, "unknown opcode", str(opcode))
            if (opcode == CONTINUATION) != (self._message != 0):
                raise WebSocketError(PROTOCOL_ERROR, "continuation frame outside a message, or a message inside one")
            if length > self.max_frame:
                raise WebSocketError(TOO_BIG, f"a frame of more than {self.max_frame} bytes", str(length))
        if not self.client:
            if available < used + 4:
                return 0
            self._key = bytes(data[position + used : position + used + 4])
            used += 4
        if opcode in (TEXT, BINARY):
            self._message = opcode
        self._opcode = opcode
        self._fin = first >= 0x80
        self._left = length
        return used

    def _payload(self, payload: memoryview | bytes) -> Event | None:
        """What this piece of the present frame's payload means; None for a piece of a control frame."""
        if self._opcode >= 8:
            self._control += payload
            if self._left:
                return None
            whole, self._control = self._control, b""
            if self._opcode == CLOSE:
                close_reason(whole)  # raises if it is not one
                self.closed = True
            return Event(self._opcode, whole, True)
        message = self._message
        ends = self._fin and not self._left
        if message == TEXT:
            self._check_utf8(payload, ends)
        if ends:
            self._message = 0
        return Event(message, payload, ends)

    def _check_utf8(self, payload: memoryview | bytes, ends: bool) -> None:
        if self._utf8 is None:
            self._utf8 = codecs.getincrementaldecoder("utf-8")()
        try:
            self._utf8.decode(payload, ends)
        except UnicodeDecodeError as error:
            raise WebSocketError(INVALID_PAYLOAD, "text is not UTF-8") from error

    def message(self, parts: Sequence[bytes | memoryview], opcode: int = BINARY) -> list[bytes | memoryview]:
        """One whole message (or control frame) made of `parts`, as pieces to send in order.

        Masked pieces are new objects; unmasked ones are the very parts given.
        """
        size = 0
        for part in parts:
            size += len(part)
        mask_bit = 0x80 if self.client else 0
        if size < 126:
            header = bytes((0x80 | opcode, mask_bit | size))
        elif size < 65536:
            header = _LENGTH_16.pack(0x80 | opcode, mask_bit | 126, size)
        else:
            header = _LENGTH_64.pack(0x80 | opcode, mask_bit | 127, size)
        if not self.client:
            return [header, *parts]
        key = _random_key()
        if size < JOIN_BYTES or len(parts) == 1:
            return [header + key, apply_mask(parts[0] if len(parts) == 1 else b"".join(parts), key)]
        # A large part is masked where it lies: joining first would be a second copy of every byte.
        pieces: list[bytes | memoryview] = [header + key]
        for part in parts:
            pieces.append(apply_mask(part, key))
            turn = len(part) & 3
            if turn:
                key = key[turn:] + key[:turn]
        return pieces

    def close(self, code: int = NORMAL, reason: str = "") -> bytes:
        """A close frame. NO_STATUS makes one without a body."""
        if code == NO_STATUS:
            return b"".join(self.message([b""], CLOSE))
        fitting = reason.encode()[: MAX_CONTROL - 2].decode(errors="ignore")  # no half character (5.5.1)
        return b"".join(self.message([code.to_bytes(2, "big") + fitting.encode()], CLOSE))


def close_reason(body: memoryview | bytes) -> tuple[int, str]:
    """Code and reason of a CLOSE event's data; raises WebSocketError for a body that is none (7.4)."""
    if not body:
        return NO_STATUS, ""
    code = int.from_bytes(body[:2], "big")
    allowed = 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
    if len(body) == 1 or not (allowed or 3000 <= code <= 4999):
        raise WebSocketError(PROTOCOL_ERROR, "close frame with a code that is not allowed", str(code))
    try:
        return code, str(body[2:], "utf-8")
    except UnicodeDecodeError as error:
        raise WebSocketError(INVALID_PAYLOAD, "close reason is not UTF-8") from error


# Mask keys have to be unpredictable (10.3); asking the kernel for four bytes at a time would be a system call
# a message, so keys are cut from a page of its randomness.
_keys = b""
_next_key = 0


def _random_key() -> bytes:
    global _keys, _next_key
    if _next_key == len(_keys):
        _keys = os.urandom(4096)
        _next_key = 0
    key = _keys[_next_key : _next_key + 4]
    _next_key += 4
    return key


def new_key() -> bytes:
    """A fresh Sec-WebSocket-Key for an opening handshake (4.1)."""
    return base64.b64encode(os.urandom(16))


def accept_value(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers `key` (4.2.2); ValueError if it is no base64 of 16 bytes."""
    try:
        nonce = base64.b64decode(key, validate=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise ValueError("Sec-WebSocket-Key is not 16 bytes in base64")
    return base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID, usedforsecurity=False).digest())


def check_upgrade_request(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The accept value for a request that asks for a WebSocket (4.2.1).

    Raises HTTPError with status 400, or 426 for another version than 13.
    """
    names = [name.lower() for name, _ in fields]
    values = dict(zip(names, (value for _, value in fields), strict=True))
    if values.get(b"upgrade", b"").lower() != b"websocket":
        raise HTTPError(400, "expected a WebSocket upgrade: no 'Upgrade: websocket'")
    if values.get(b"sec-websocket-version") != b"13":
        raise HTTPError(426, "only WebSocket version 13 is supported")
    if names.count(b"sec-websocket-key") != 1:
        raise HTTPError(400, "exactly one Sec-WebSocket-Key is needed")
    try:
        return accept_value(values[b"sec-websocket-key"])
    except ValueError as error:
        raise HTTPError(400, str(error)) from error


def check_upgrade_answer(status: int, fields: Sequence[tuple[bytes, bytes]], key: bytes) -> None:
    """Raise HTTPError (502) unless this answer opens the WebSocket that was asked for with `key` (4.1)."""
    values = {name.lower(): value for name, value in fields}
    if status != 101:
        raise HTTPError(502, "no WebSocket", f"answered {status}")
    if values.get(b"upgrade", b"").lower() != b"websocket":
        raise HTTPError(502, "101 without 'Upgrade: websocket'")
    if b"upgrade" not in values.get(b"connection", b"").lower().replace(b" ", b"").split(b","):
        raise HTTPError(502, "101 without 'Connection: upgrade'")
    if values.get(b"sec-websocket-accept") != accept_value(key):
        raise HTTPError(502, "Sec-WebSocket-Accept does not answer our key")
    if b"sec-websocket-extensions" in values or b"sec-websocket-protocol" in values:
        raise HTTPError(502, "101 with an extension or subprotocol that was not asked for")
