"""The other end of a session, frame by frame: yamux in a WebSocket, neither of them ours.

WebSocket is wsproto's; yamux's twelve bytes are packed here, by hashicorp's specification.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import NamedTuple

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event

from tests.roles import Roles, RunningNode, Talk, values_of

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8

_HEADER = struct.Struct(">BBHII")


class Frame(NamedTuple):
    """`length` is the value where it is no length of data: of a ping, a go-away, a window."""

    kind: int
    flags: int
    stream: int
    length: int
    data: bytes = b""


class Peer:
    """The other end of a session of ours. It answers pings, and hears of them only if it asks for `pings`."""

    def __init__(self, talk: Talk, *, client: bool) -> None:
        self.talk = talk
        self.closed: CloseConnection | None = None  # the close frame that came
        self._websocket = Connection(ConnectionType.CLIENT if client else ConnectionType.SERVER)
        self._data = b""

    async def say(self, kind: int, flags: int = 0, stream: int = 0, data: bytes = b"", *, length: int = 0) -> None:
        await self.send(BytesMessage(_HEADER.pack(0, kind, flags, stream, len(data) or length) + data))

    async def send(self, event: Event) -> None:
        await self.talk.say(self._websocket.send(event))

    async def hear(self, *, pings: bool = False) -> Frame | None:
        """The next frame; None when the other end has closed the WebSocket."""
        while True:
            frame = await self._next()
            if frame is None or frame.kind != PING or pings:
                return frame
            if frame.flags & SYN:
                await self.say(PING, ACK, length=frame.length)

    async def hear_until(self, kind: int, flags: int, stream: int | None = None) -> Frame:
        """The next frame of this kind that has all of these flags, whatever comes before it."""
        while frame := await self.hear():
            if frame.kind == kind and frame.flags & flags == flags and stream in (None, frame.stream):
                return frame
        raise EOFError("closed")

    async def hear_data(self, stream: int, end: bytes) -> bytes:
        """What comes on a stream, until it ends with `end`."""
        data = b""
        while not data.endswith(end):
            data += (await self.hear_until(DATA, 0, stream)).data
        return data

    async def _next(self) -> Frame | None:
        while True:
            if len(self._data) >= _HEADER.size:
                _, kind, flags, stream, length = _HEADER.unpack_from(self._data)
                end = _HEADER.size + (length if kind == DATA else 0)
                if len(self._data) >= end:
                    data, self._data = self._data[_HEADER.size : end], self._data[end:]
                    return Frame(kind, flags, stream, length, data)
            if self.closed is not None:
                return None
            more = await self.talk.hear()
            if not more:
                raise EOFError("ended without closing the WebSocket")
            self._websocket.receive_data(more)
            for event in self._websocket.events():
                if isinstance(event, BytesMessage):
                    self._data += event.data
                elif isinstance(event, CloseConnection):
                    self.closed = event
                else:
                    raise AssertionError(f"{event} in a session")


async def register(roles: Roles, node: RunningNode, endpoint: str = "web", *, fields: str = "") -> Peer:
    """An agent that a test plays: registered with the node, and on its own from there."""
    talk = await roles.dial(node.upstream)
    key = base64.b64encode(b"sixteen  letters")
    await talk.say(
        f"GET /piko/v1/upstream/{endpoint} HTTP/1.1\r\nHost: node.test\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n{fields}\r\n".encode()
    )
    head = await talk.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert values_of(head, b"sec-websocket-accept") == [accept_value(key)]
    return Peer(talk, client=True)


async def accept(talk: Talk, request: bytes, *, fields: bytes = b"") -> Peer:
    """The node that a test plays takes a registration. `fields` are whole lines that it adds to its answer."""
    (key,) = values_of(request, b"sec-websocket-key")
    await talk.say(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accept_value(key) + b"\r\n" + fields + b"\r\n"
    )
    return Peer(talk, client=False)


def accept_value(key: bytes) -> bytes:
    """RFC 6455, 4.2.2."""
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
