"""An endpoint that is registered for a moment: round trips, silence, and how much the way carries.

The first thing it says is go-away, so a node of ours sends no request here; where one comes nevertheless, its stream
is reset. It is driven by one task that asks and listens, for nothing here has to be fast but the echo.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from engine.doctor.report import words
from engine.loop.connection import Connection
from engine.loop.reading import Reader
from engine.wire import mux, websocket
from engine.wire.mux import Mux, StreamState
from engine.wire.websocket import WebSocket

MAX_FRAME: Final = 1024 * 1024
FEW_ECHOES: Final = 64  # under way at first
MANY_ECHOES: Final = 512  # under way at most: what a node owes (carriers.websocket.MAX_OWED), 64 KiB each way
TURN_SECONDS: Final = 0.25  # as many are enough as take so long to come back, on a way of any length
FAREWELL_SECONDS: Final = 1.0


class Cut(Exception):
    """The session was ended by somebody else, after so many seconds of silence both ways."""

    def __init__(self, reason: str, silence: float) -> None:
        super().__init__(reason)
        self.silence = silence


class Session:
    """The agent's end of a session. Takes the connection, on which the WebSocket is open. OSError when it ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reader = Reader(connection)
        self._websocket = WebSocket(client=True, max_frame=MAX_FRAME)
        self._mux = Mux(client=True, accepts=True, new_stream=StreamState)
        self._ping = 0
        self._ponged = 0  # the value of the last pong
        self._echoed = 0
        self._send(self._mux.go_away())

    async def round_trip(self) -> float:
        """Seconds that a ping of yamux takes to the node and back."""
        self._ping += 1
        since = trio.current_time()
        self._send(self._mux.ping(self._ping))
        while self._ponged != self._ping:
            await self._receive()
        return trio.current_time() - since

    async def be_silent(self, seconds: float) -> float:
        """Say nothing but what the node asks for. Returns the longest silence, both ways, that did no harm. Raises Cut
        for what ends the session.
        """
        longest, last = 0.0, trio.current_time()
        with trio.move_on_after(seconds):
            while True:
                try:
                    await self._receive()
                except OSError as error:
                    raise Cut(words(error), trio.current_time() - last) from error
                longest, last = max(longest, trio.current_time() - last), trio.current_time()
        return max(longest, trio.current_time() - last)

    async def echo(self, seconds: float) -> float:
        """Bytes per second that went each way, as pings of the WebSocket and their echoes."""
        payload = bytes(websocket.MAX_CONTROL)
        since, echoed_before, sent = trio.current_time(), self._echoed, 0
        limit, turned, turned_at = FEW_ECHOES, 0, since
        while (now := trio.current_time()) < since + seconds:
            echoed = self._echoed - echoed_before
            if echoed - turned >= limit:  # all that were under way have come back
                if now - turned_at < TURN_SECONDS:
                    limit = min(2 * limit, MANY_ECHOES)
                turned, turned_at = echoed, now
            room = limit - (sent - echoed)
            if room >= limit // 2:
                pings = [b"".join(self._websocket.message([payload], websocket.PING)) for _ in range(room)]
                self._connection.put(b"".join(pings))
                sent += room
            await self._receive()
        return (self._echoed - echoed_before) * len(payload) / (trio.current_time() - since)

    async def leave(self) -> None:
        """Close the session as an agent does."""
        self._connection.put(self._websocket.close())
        with trio.move_on_after(FAREWELL_SECONDS):
            try:
                while True:
                    await self._receive()
            except OSError:
                pass
        self._connection.abort()

    def _send(self, frame: bytes) -> None:
        self._connection.put(*self._websocket.message([frame]))

    async def _receive(self) -> None:
        data = await self._reader.some()
        if not data:
            raise ConnectionResetError("closed by the other end")
        for opcode, payload, _ in self._websocket.receive(memoryview(data)):
            if opcode == websocket.BINARY:
                self._frames(memoryview(payload))
            elif opcode == websocket.PONG:
                self._echoed += 1
            elif opcode == websocket.PING:
                self._connection.put(*self._websocket.message([bytes(payload)], websocket.PONG))
            elif opcode == websocket.CLOSE:
                code, reason = websocket.close_reason(payload)
                raise ConnectionResetError(f"closed by the node: {code} {reason}".rstrip())

    def _frames(self, payload: memoryview) -> None:
        for what, stream, value in self._mux.receive(payload):
            if what == mux.PINGED and isinstance(value, int):
                self._send(self._mux.pong(value))
            elif what == mux.PONGED and isinstance(value, int):
                self._ponged = value
            elif what == mux.OPENED and stream is not None:
                self._send(self._mux.reset(stream))


def median(numbers: list[float]) -> float:
    """The middle one; NaN of none."""
    return sorted(numbers)[len(numbers) // 2] if numbers else math.nan
