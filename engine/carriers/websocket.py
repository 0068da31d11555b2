"""A WebSocket as a carrier: of a session, and of a TCP client's bytes (`forward`, or any WebSocket client).

Binary messages carry the bytes; message boundaries mean nothing. What WebSocket lacks is a half-close: a close
frame must be answered by a close frame, after which neither side may send. Piko therefore loses whatever a service
says after its client has finished. Two ends of ours agree on better by a header in the opening handshake
(`piko.HALF_CLOSE`): then an **empty binary message is the end of one direction**, and the close frame is left to mean
the end of both: 1000 for a proper one, 1011 for a connection that was reset. Towards a peer that did not agree, an
end is a close frame, as with Piko.

    OPEN          both ways are open
    ENDED_HERE    we have said our end, by an empty message
    ENDED_THERE   the other end has said its own
    LEFT          the other end has closed: what it said is passed on, and nothing can be said to it any more. Whoever
    is on our other side gets `LEFT_SECONDS` to notice, and then hears of a loss: a service that ignores the
                  end would hold everything open for ever
    CLOSED
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Final

from engine.carriers.carrier import BACKLOG, Kind
from engine.errors import WebSocketError
from engine.loop.connection import Address, Connection
from engine.loop.duplex import NOBODY, Bytes, Receiver
from engine.loop.memory import Account
from engine.loop.reactor import current_reactor
from engine.wire import websocket
from engine.wire.websocket import WebSocket

LEFT_SECONDS: Final = 3.0
MAX_FRAME: Final = 1024 * 1024  # in a session; peers send a yamux frame per message, 256 KiB at most
MAX_OWED: Final = 512  # pongs, 64 KiB: as many as `trioduct doctor` may have under way to measure a slow link


class State(IntEnum):
    """See above."""

    OPEN = 0
    ENDED_THERE = 1
    ENDED_HERE = 2
    LEFT = 3
    CLOSED = 4


_OPEN, _ENDED_THERE, _ENDED_HERE, _LEFT, _CLOSED = State


class WebSocketCarrier:
    """A Duplex over `connection`, on which the WebSocket is already open; takes the connection over."""

    __slots__ = (
        "_half_close",
        "_owed",
        "_reactor",
        "_websocket",
        "connection",
        "deadline",
        "farewell",
        "receiver",
        "state",
    )

    idle = False
    kind = Kind.WEBSOCKET

    def __init__(
        self, connection: Connection, *, client: bool, half_close: bool = False, max_frame: int = websocket.UNLIMITED
    ) -> None:
        self.state = State.OPEN
        self.receiver: Receiver = NOBODY
        self.deadline = math.inf
        self.farewell = ""
        self.connection = connection
        self._websocket = WebSocket(client=client, max_frame=max_frame)
        self._half_close = half_close
        self._owed = 0
        self._reactor = current_reactor()
        connection.receiver = self

    def __repr__(self) -> str:
        return f"<WebSocketCarrier {self.state.name} on {self.connection!r}>"

    # -- Duplex

    @property
    def account(self) -> Account:
        return self.connection.account

    @property
    def backlog(self) -> int:
        return self.connection.backlog

    @property
    def full(self) -> bool:
        return self.connection.backlog > BACKLOG

    @property
    def room(self) -> int:
        return self.connection.room

    @property
    def peer(self) -> Address:
        return self.connection.peer

    async def run(self) -> None:
        await self.connection.run()

    def put(self, *parts: Bytes) -> bool:
        if self.state > _ENDED_THERE:
            return True
        filled = [part for part in parts if part]
        return not filled or self.connection.put(*self._websocket.message(filled))

    def end(self) -> None:
        if self.state is _LEFT:
            self._close()
        elif self.state > _ENDED_THERE:
            return
        elif not self._half_close:
            # A close frame is the end of both directions, and we are the one who has to tell ours.
            receiver = self.receiver
            ended_there = self.state is _ENDED_THERE
            self._close(websocket.NORMAL)
            if not ended_there:
                receiver.ended()
        else:
            self.connection.put(*self._websocket.message([b""]))
            if self.state is _ENDED_THERE:
                self._close(websocket.NORMAL)
            else:
                self.state = _ENDED_HERE

    def close(self) -> None:
        self._close(websocket.NORMAL)

    def bid_farewell(self, code: int, reason: str) -> None:
        self._close(code, reason)

    def abort(self) -> None:
        if self.connection.backlog:  # who does not read would not read this either
            self._give_up()
        else:
            self._close(websocket.INTERNAL_ERROR, "reset")

    def fail(self, error: Exception) -> None:
        receiver = self.receiver
        self._give_up()
        self._reactor.call("lost", receiver, receiver.lost, error)

    def _give_up(self) -> None:
        self.receiver = NOBODY
        self._reactor.unclock(self)
        self.state = _CLOSED
        self.connection.abort()

    def read_at_most(self, size: int) -> None:
        self.connection.read_at_most(size)

    def pause(self) -> None:
        self.connection.pause()

    def resume(self) -> None:
        self.connection.resume()

    def _close(self, code: int = websocket.NORMAL, reason: str = "") -> None:
        """Nobody listens any more. The other end is told, unless it has left."""
        self.receiver = NOBODY
        if self.state is _LEFT:
            self._reactor.unclock(self)
        elif self.state is not _CLOSED:
            self.connection.put(self._websocket.close(code, reason))
            self.connection.close()
        self.state = _CLOSED

    # -- the connection's receiver

    def received(self, data: memoryview) -> int:
        frames = self._websocket
        frames.position = 0
        try:
            while self.state < _LEFT and (event := frames.next(data)) is not None:
                opcode, payload, _ = event
                if opcode == websocket.BINARY:
                    if payload:
                        taken = self.receiver.received(
                            payload if isinstance(payload, memoryview) else memoryview(payload)
                        )
                        if taken != len(payload):
                            frames.put_back(len(payload) - taken)
                            break
                    else:
                        self._heard_end()
                elif opcode == websocket.PING:
                    self._pong(payload)
                elif opcode == websocket.CLOSE:
                    self._left(*websocket.close_reason(payload))
                elif opcode == websocket.TEXT:
                    raise WebSocketError(websocket.UNSUPPORTED_DATA, "text where bytes are relayed")
                if frames.position < len(data) and self._reactor.over():
                    break
        except WebSocketError as error:
            receiver = self.receiver
            if self.connection.backlog:  # it does not read what it would be told
                self._give_up()
            else:
                self._close(error.code, error.public[:100])
            self._reactor.call("lost", receiver, receiver.lost, error)
        return frames.position if self.state < _LEFT else len(data)

    def _heard_end(self) -> None:
        """An empty message."""
        if not self._half_close or self.state is _ENDED_THERE:
            return
        receiver = self.receiver
        if self.state is _ENDED_HERE:
            self._close(websocket.NORMAL)
        else:
            self.state = _ENDED_THERE
        self._reactor.call("ended", receiver, receiver.ended)

    def _pong(self, payload: Bytes) -> None:
        if self.connection.backlog:
            self._owed += 1
            if self._owed > MAX_OWED:
                raise WebSocketError(websocket.POLICY_VIOLATION, "pings, and does not read pongs")
        self.connection.put(*self._websocket.message([bytes(payload)], websocket.PONG))

    def _left(self, code: int, reason: str) -> None:
        """A close frame: the other end wants no more of anything."""
        receiver, before = self.receiver, self.state
        self.farewell = f"{code} {reason}".rstrip()
        self.connection.put(self._websocket.close(code if code != websocket.NO_STATUS else websocket.NORMAL))
        self.connection.close()
        if code not in (websocket.NORMAL, websocket.NO_STATUS, websocket.GOING_AWAY):
            self.state = _CLOSED
            self.receiver = NOBODY
            error = ConnectionResetError(f"closed by the other end: {code} {reason}".rstrip())
            self._reactor.call("lost", receiver, receiver.lost, error)
        elif before is _ENDED_HERE:
            self.state = _CLOSED
            self.receiver = NOBODY
            self._reactor.call("ended", receiver, receiver.ended)
        else:
            self.state = _LEFT
            self.deadline = self._reactor.now + LEFT_SECONDS
            self._reactor.clock(self)
            if before is _OPEN:
                self._reactor.call("ended", receiver, receiver.ended)

    def expired(self) -> None:
        """The other end has left, and our other side goes on."""
        receiver = self.receiver
        self._close()
        self._reactor.call("lost", receiver, receiver.lost, ConnectionResetError("the client has left"))

    def ended(self) -> None:
        self.lost(ConnectionResetError("hung up without closing its WebSocket"))
        self.connection.close()

    def lost(self, error: Exception) -> None:
        receiver, self.receiver = self.receiver, NOBODY
        self.state = _CLOSED
        # It is not ours any more: what raises in it would not find it, and its other side would stay.
        self._reactor.call("lost", receiver, receiver.lost, error)

    def drained(self) -> None:
        self._owed = 0
        self.receiver.drained()

    def break_off(self, error: Exception) -> None:
        receiver = self.receiver
        self._give_up()
        receiver.break_off(error)
