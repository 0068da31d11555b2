"""The driver of a channel between a supervisor and a worker: a socket of a pair, with messages both ways.

What is put never waits. Commands are few, and all are queued. What is told of endpoints may be much, and its reader may
hang: when more than MAX_QUEUED bytes wait, no more of it is queued, and a reader that has caught up gets the whole.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import trio

from engine.cluster.messages import Decoder, Message, encode

MAX_QUEUED: Final = 4 * 1024 * 1024
CHUNK: Final = 256 * 1024

M = TypeVar("M")


class Channel(Generic[M]):
    """One end; `type` is what the other end may say. `catch_up` makes the message that stands for all that is told."""

    def __init__(self, sock: socket.socket, type: object, catch_up: Callable[[], Message]) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._decoder = Decoder[M](type)
        self._catch_up = catch_up
        self._heard: deque[M] = deque()
        self._queue: list[bytes] = []
        self._size = 0
        self._behind = False
        self._put = trio.Event()
        self._idle = trio.Event()
        self._idle.set()

    def send(self, message: Message) -> None:
        """Queue a command or an answer."""
        data = encode(message)
        self._queue.append(data)
        self._size += len(data)
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._put.set()

    def tell(self, message: Message) -> None:
        """Queue what `catch_up` tells as well, if there is room."""
        if self._behind or self._size > MAX_QUEUED:
            self._behind = True
        else:
            self.send(message)

    async def run(self) -> None:
        """Write what is queued, until cancelled or the other end is gone; whoever reads notices that as well."""
        try:
            while True:
                await self._put.wait()
                self._put = trio.Event()
                while self._queue:
                    queue, self._queue = self._queue, []
                    await self._stream.send_all(b"".join(queue))
                    self._size = sum(map(len, self._queue))
                    if self._behind and not self._queue:
                        self._behind = False
                        self.send(self._catch_up())
                self._idle.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._idle.set()

    async def wait_sent(self) -> None:
        """Return when all that was queued is written, or there is nobody to read it."""
        await self._idle.wait()

    async def next(self) -> M | None:
        """What the other end says next; None: it is gone. Raises RemoteProtocolError."""
        while not self._heard:
            try:
                data = await self._stream.receive_some(CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not data:
                return None
            self._heard.extend(self._decoder.receive(data))
        return self._heard.popleft()

    def close(self) -> None:
        self._stream.socket.close()
