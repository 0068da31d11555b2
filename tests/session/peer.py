"""The other end of a session, by hand: says any frames, and hears those that were said to it."""

from __future__ import annotations

import socket

import trio.testing

from engine.carriers.websocket import MAX_FRAME, WebSocketCarrier
from engine.loop.connection import Connection
from engine.session.session import Session
from engine.wire import mux, websocket
from engine.wire.mux import Mux, StreamState
from engine.wire.websocket import WebSocket
from tests.loop.ends import pair

SMALL_BUFFER = 4096


class Peer:
    """Of an agent's session it is the node, of a node's the agent. With `stingy`, sockets keep as little as can be."""

    def __init__(self, *, agent: bool, stingy: bool = False) -> None:
        near, self.sock = pair()
        if stingy:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self.sock.setblocking(False)
        self.connection = Connection(near)
        self.session = Session(WebSocketCarrier(self.connection, client=agent, max_frame=MAX_FRAME), accepts=agent)
        self._websocket = WebSocket(client=not agent)
        self._mux: Mux[StreamState] = Mux(client=not agent, accepts=not agent, new_stream=StreamState)
        if agent:
            for _ in range(20):  # what says so to the agent is said by hand
                self._mux.open().state = mux.State.OPEN
        self.closed: tuple[int, str] | None = None  # the close frame
        self.hung_up = False

    async def say(self, *frames: bytes) -> None:
        """One message of `frames`, or what can be said of it before the session ends."""
        left = memoryview(b"".join(self._websocket.message([b"".join(frames)])))
        await self._send(left)

    async def ping(self, payload: bytes, count: int = 1) -> None:
        """Pings of WebSocket."""
        await self._send(memoryview(b"".join(self._websocket.message([payload], websocket.PING)) * count))

    async def _send(self, left: memoryview) -> None:
        while left and self.session.alive:
            try:
                left = left[self.sock.send(left) :]
            except BlockingIOError:
                await trio.lowlevel.checkpoint()

    async def hear(self) -> list[tuple[int, int]]:
        """(what, stream id or value) of all that has been said by now, in mux's words."""
        await trio.testing.wait_all_tasks_blocked(0.01)
        heard: list[tuple[int, int]] = []
        while not self.hung_up:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            self.hung_up = not data
            for opcode, payload, _ in self._websocket.receive(memoryview(data)):
                if opcode == websocket.BINARY:
                    for what, stream, value in self._mux.receive(memoryview(payload)):
                        number = value if isinstance(value, int) else len(value)
                        heard.append((what, stream.id if stream is not None else number))
                elif opcode == websocket.CLOSE:
                    self.closed = websocket.close_reason(payload)
        return heard

    async def pings(self) -> list[int]:
        return [value for what, value in await self.hear() if what == mux.PINGED]
