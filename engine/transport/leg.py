"""A WebSocket used as a byte stream: the leg between a TCP client (`forward`, or any WebSocket client) and a node.

Binary messages carry the bytes; message boundaries mean nothing. What WebSocket lacks is a half-close: a close
frame must be answered by a close frame, after which neither side may send. Piko therefore loses whatever a service
says after its client has finished. Two ends of ours agree on better by a header in the opening handshake
(`piko.HALF_CLOSE`): then an **empty binary message is the end of one direction**, and the close frame is left to mean
the end of both: 1000 for a proper one, 1011 for a connection that was reset. Towards a peer that did not agree, an
end is a close frame, as with Piko.
"""

from __future__ import annotations

from typing import Final

from engine.errors import WebSocketError
from engine.transport.connection import Connection
from engine.transport.duplex import NOBODY, Bytes, Receiver
from engine.wire import websocket
from engine.wire.websocket import WebSocket

MAX_BACKLOG: Final = 1024 * 1024  # more than what is relayed ever leaves queued


class Leg:
    """A Duplex over `connection`, on which the WebSocket is already open; takes the connection over."""

    __slots__ = ("_connection", "_ended_here", "_ended_there", "_half_close", "_websocket", "receiver")

    def __init__(self, connection: Connection, *, client: bool, half_close: bool) -> None:
        self._connection = connection
        self._websocket = WebSocket(client=client)
        self._half_close = half_close
        self._ended_here = False
        self._ended_there = False
        self.receiver: Receiver = NOBODY
        connection.receiver = self

    # -- Duplex

    @property
    def backlog(self) -> int:
        return self._connection.backlog

    def put(self, *parts: Bytes) -> bool:
        if self._ended_here:
            return True
        filled = [part for part in parts if part]
        return not filled or self._connection.put(*self._websocket.message(filled))

    def end(self) -> None:
        if self._ended_here:
            return
        self._ended_here = True
        if self._half_close:
            self._connection.put(*self._websocket.message([b""]))
            if self._ended_there:
                self._say_goodbye(websocket.NORMAL)
        else:
            # A close frame is the end of both directions, and we are the one who has to tell ours.
            receiver, self.receiver = self.receiver, NOBODY
            self._say_goodbye(websocket.NORMAL)
            if not self._ended_there:
                self._ended_there = True
                receiver.ended()

    def close(self) -> None:
        self.receiver = NOBODY
        self._say_goodbye(websocket.NORMAL)

    def abort(self) -> None:
        self.receiver = NOBODY
        self._say_goodbye(websocket.INTERNAL_ERROR, "reset")

    def pause(self) -> None:
        self._connection.pause()

    def resume(self) -> None:
        self._connection.resume()

    def _say_goodbye(self, code: int, reason: str = "") -> None:
        self._connection.put(self._websocket.close(code, reason))
        self._connection.close()

    # -- the connection's receiver

    def received(self, data: memoryview) -> None:
        try:
            for opcode, payload, _ in self._websocket.receive(data):
                if opcode == websocket.BINARY:
                    if payload:
                        self.receiver.received(payload if isinstance(payload, memoryview) else memoryview(payload))
                    elif self._half_close and not self._ended_there:
                        self._ended_there = True
                        self.receiver.ended()
                        if self._ended_here:
                            self._say_goodbye(websocket.NORMAL)
                elif opcode == websocket.PING:
                    if self._connection.backlog > MAX_BACKLOG:
                        raise WebSocketError(websocket.POLICY_VIOLATION, "pings and does not read pongs")
                    self._connection.put(*self._websocket.message([bytes(payload)], websocket.PONG))
                elif opcode == websocket.CLOSE:
                    self._closed(*websocket.close_reason(payload))
                elif opcode == websocket.TEXT:
                    raise WebSocketError(websocket.UNSUPPORTED_DATA, "text where bytes are relayed")
        except WebSocketError as error:
            receiver, self.receiver = self.receiver, NOBODY
            self._say_goodbye(error.code, error.public[:100])
            receiver.lost(error)

    def _closed(self, code: int, reason: str) -> None:
        """The other end wants no more of anything."""
        receiver, self.receiver = self.receiver, NOBODY
        self._say_goodbye(code if code != websocket.NO_STATUS else websocket.NORMAL)
        if code in (websocket.NORMAL, websocket.NO_STATUS, websocket.GOING_AWAY):
            if not self._ended_there:
                self._ended_there = True
                receiver.ended()
            self._ended_here = True
        else:
            receiver.lost(ConnectionResetError(f"closed by the other end: {code} {reason}".rstrip()))

    def ended(self) -> None:
        self.lost(ConnectionResetError("hung up without closing its WebSocket"))
        self._connection.close()

    def lost(self, error: Exception) -> None:
        receiver, self.receiver = self.receiver, NOBODY
        receiver.lost(error)

    def drained(self) -> None:
        self.receiver.drained()
