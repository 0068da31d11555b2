"""WebSocket echo: connections that send a message and send the next when it came back.

The frames are made once and compared as bytes (RFC 6455, 5.2): a client library would spend more than the
tunnel.
"""

import base64
import os
import random
import socket
import time
from typing import Self

import msgspec
import trio

from perf.crowd import Crowd
from perf.errors import LoadFailed
from perf.loads.closed import run_measured
from perf.loads.dial import NOT_YET, open_non_blocking
from perf.loads.load import Load, part
from perf.loads.outcome import Outcome, Watch
from perf.loads.target import Target

HANDSHAKE_SECONDS = 10.0


class Echo(Load, frozen=True, kw_only=True, tag="echo"):
    connections: int = 32
    message_bytes: int = 125

    def share(self, index: int) -> Self:
        return msgspec.structs.replace(self, connections=part(self.connections, index, self.processes))

    def generate(self, target: Target, watch: Watch) -> Outcome:
        return trio.run(self._generate, target, watch)

    async def _generate(self, target: Target, watch: Watch) -> Outcome:
        crowd = Crowd()
        message = random.randbytes(self.message_bytes)
        for _ in range(self.connections):
            connection = await open_websocket(target)
            Echoer(crowd, connection, watch, frame(message, mask=random.randbytes(4)), frame(message)).throw()
        await run_measured(crowd, watch, self.seconds)
        return watch.end()


class Echoer:
    """One connection; lost ones stay lost, and are counted."""

    def __init__(self, crowd: Crowd, connection: socket.socket, watch: Watch, sent: bytes, echo: bytes) -> None:
        self._crowd = crowd
        self._connection = connection
        self._watch = watch
        self._sent = sent
        self._echo = echo
        self._received = b""
        self._since = 0.0
        crowd.add(connection.fileno(), self._ready)

    def throw(self) -> None:
        self._since = time.monotonic()
        self._connection.send(self._sent)

    def _ready(self, _events: int) -> None:
        try:
            data = self._connection.recv(1 << 16)
            if not data:
                raise ConnectionResetError
            self._received += data
            if len(self._received) < len(self._echo):
                return
            if self._received != self._echo:
                self._watch.errors["not the message that was sent"] += 1
            else:
                self._watch.answered(self._since, time.monotonic(), len(self._echo))
                self._watch.bytes_up += len(self._sent)
            self._received = b""
            self.throw()
        except NOT_YET:
            return
        except OSError as error:
            self._watch.errors[type(error).__name__] += 1
            self._crowd.discard(self._connection.fileno())
            self._connection.close()


def frame(message: bytes, mask: bytes | None = None) -> bytes:
    """One whole binary message; masked as clients must."""
    size, masked = len(message), 0x80 if mask else 0
    if size < 126:
        head = bytes((0x82, masked | size))
    elif size < 1 << 16:
        head = bytes((0x82, masked | 126)) + size.to_bytes(2)
    else:
        head = bytes((0x82, masked | 127)) + size.to_bytes(8)
    if mask is None:
        return head + message
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(message))


async def open_websocket(target: Target) -> socket.socket:
    """A non-blocking socket after its upgrade. Raises LoadFailed."""
    connection = await open_non_blocking(target)
    key = base64.b64encode(os.urandom(16)).decode()
    fields = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"))
    connection.send(target.request("GET", None, *fields, ("Sec-WebSocket-Key", key)))
    answer = b""
    with trio.move_on_after(HANDSHAKE_SECONDS):
        while b"\r\n\r\n" not in answer:
            await trio.lowlevel.wait_readable(connection)
            data = connection.recv(1 << 16)
            if not data:
                break
            answer += data
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise LoadFailed(f"no WebSocket upgrade: {answer.split(bytes((13,)))[0][:80]!r}")
    return connection
