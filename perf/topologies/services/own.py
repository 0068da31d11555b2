"""A web service of our own: small answers, large bodies, uploads, WebSocket echo, and planted delays.

It answers the paths that nginx answers (`/128`, `/varied/…`, `/bulk`, `/64k`, `/15mb`, `/1gb`), swallows any body
of a request without copying it out of the kernel, and upgrades any path that asks for WebSocket, echoing messages. It
speaks as much HTTP/1.1 as our generators do (Content-Length bodies, keep-alive, pipelining), on one crowd.

`--slow 5ms@1%` makes one answer of a hundred late; `--stall 500ms` makes the whole service stand still once in
every load, half a second after its first request: delays to be found again in the figures.
"""

import contextlib
import heapq
import os
import random
import re
import socket
import time

import click
import trio
from websockets.speedups import apply_mask
from websockets.utils import accept_key

from perf.crowd import READABLE, WRITABLE, Crowd
from perf.timer import Timer
from perf.topologies.services.nginx import BULK_BYTES, SMALL_BYTES

BODIES = {b"/bulk": BULK_BYTES, b"/64k": 65536, b"/15mb": 15_000_000, b"/1gb": 1_000_000_000}
CHUNK_BYTES = 1 << 20
LONGEST_HEAD = 1 << 16
READ_BYTES = 1 << 16  # a larger buffer costs an mmap each time
READS_IN_A_ROW = 16  # then the others' turn
STALL_AFTER_SECONDS = 0.5
PAUSE_SECONDS = 0.2  # without a request: what comes then is a new load

REQUEST = re.compile(rb"([A-Z]+) (/[^ ?]*)\S* HTTP/1\.1\r\n")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)
KEY = re.compile(rb"\r\nsec-websocket-key: *(\S+)\r\n", re.IGNORECASE)

SMALL = b"HTTP/1.1 200 OK\r\nServer: own\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (
    SMALL_BYTES,
    b"x" * SMALL_BYTES,
)
VARIED = SMALL[: -2 - SMALL_BYTES] + b'ETag: "%032x"\r\nSet-Cookie: seen=%032x; Path=/\r\n' + SMALL[-2 - SMALL_BYTES :]
LARGE = b"HTTP/1.1 200 OK\r\nServer: own\r\nContent-Length: %d\r\n\r\n"
UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)
REFUSED = b"HTTP/1.1 411 Length Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Service:
    """What all visitors share: the crowd, the zeros that large bodies are made of, the planted delays."""

    def __init__(self, slow_seconds: float, slow_share: float, stall_seconds: float) -> None:
        self.crowd = Crowd()
        self.zeros = os.memfd_create("zeros")
        os.truncate(self.zeros, CHUNK_BYTES)
        self.swallowed = bytearray(CHUNK_BYTES)
        self._slow_seconds = slow_seconds
        self._slow_share = slow_share
        self._stall_seconds = stall_seconds
        self._stall_at = float("inf")
        self._asked_at = float("-inf")
        self._timer = Timer()
        self._late: list[tuple[float, int, Visitor, bytes]] = []

    async def serve(self, port: int) -> None:
        """Serve on 127.0.0.1 until cancelled."""
        with socket.create_server(("127.0.0.1", port), backlog=4096) as listener:
            listener.setblocking(False)
            self.crowd.add(listener.fileno(), lambda _: self._accept(listener))
            self.crowd.add(self._timer.fileno(), self._send_late)
            await self.crowd.run()

    def delay(self, visitor: "Visitor", answer: bytes) -> bool:
        """Whether the answer was taken, to be sent later, because a delay is planted here."""
        if self._stall_seconds:
            now = time.monotonic()
            if now - self._asked_at > PAUSE_SECONDS:
                self._stall_at = now + STALL_AFTER_SECONDS
            elif now >= self._stall_at:
                self._stall_at = float("inf")
                time.sleep(self._stall_seconds)  # everybody waits: that is what a stall is
            self._asked_at = time.monotonic()
        if not self._slow_share or random.random() >= self._slow_share:
            return False
        heapq.heappush(self._late, (time.monotonic() + self._slow_seconds, id(visitor), visitor, answer))
        self._timer.ring_at(self._late[0][0])
        return True

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = listener.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Visitor(self, connection)

    def _send_late(self, _events: int) -> None:
        self._timer.heard()
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, visitor, answer = heapq.heappop(self._late)
            visitor.send_late(answer)
        if self._late:
            self._timer.ring_at(self._late[0][0])


class Visitor:
    """One connection. It reads only while it has nothing left to send."""

    def __init__(self, service: Service, connection: socket.socket) -> None:
        self._service = service
        self._connection = connection
        self._received = b""  # of a head or of WebSocket frames
        self._read = self._read_heads
        self._to_swallow = 0
        self._unsent = b""
        self._zeros_left = 0
        self._last = False  # the connection closes when everything is sent
        service.crowd.add(connection.fileno(), self._ready)

    def _ready(self, events: int) -> None:
        try:
            if events & WRITABLE:
                self._flush()
            elif self._connection.fileno() >= 0:
                self._read()
        except BlockingIOError:
            return
        except OSError:
            self._close()

    def _close(self) -> None:
        if self._connection.fileno() >= 0:
            self._service.crowd.discard(self._connection.fileno())
            self._connection.close()

    # Reading

    def _read_heads(self) -> None:
        data = self._connection.recv(READ_BYTES)
        if not data or len(self._received) > LONGEST_HEAD:
            self._close()
            return
        self._received += data
        self._answer_heads()

    def _answer_heads(self) -> None:
        while self._read == self._read_heads and (end := self._received.find(b"\r\n\r\n")) >= 0:
            head, self._received = self._received[: end + 4], self._received[end + 4 :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        request = REQUEST.match(head)
        self._last = CLOSE.search(head) is not None
        if request is None or CHUNKED.search(head):
            self._last = True
            self.send(REFUSED)
        elif key := KEY.search(head):
            self._read = self._read_frames
            self.send(UPGRADED % accept_key(key[1].decode()).encode())
            self._echo()
        elif (length := LENGTH.search(head)) and int(length[1]):
            early = min(len(self._received), int(length[1]))
            self._received = self._received[early:]
            self._to_swallow = int(length[1]) - early
            if self._to_swallow:
                self._read = self._read_body
            else:
                self._reply(SMALL)
        elif size := BODIES.get(request[2]):
            self._zeros_left = 0 if request[1] == b"HEAD" else size
            self._reply(LARGE % size)
        elif request[2].startswith(b"/varied/"):
            number = random.getrandbits(128)
            self._reply(VARIED % (number, number))
        else:
            self._reply(SMALL)

    def _read_body(self) -> None:
        for _ in range(READS_IN_A_ROW):
            wanted = min(self._to_swallow, CHUNK_BYTES)
            count = self._connection.recv_into(self._service.swallowed, wanted, socket.MSG_TRUNC)
            if not count:
                self._close()
                return
            self._to_swallow -= count
            if not self._to_swallow:
                self._read = self._read_heads
                self._reply(SMALL)
                self._answer_heads()
                return

    def _read_frames(self) -> None:
        data = self._connection.recv(READ_BYTES)
        if not data:
            self._close()
            return
        self._received = self._received + data if self._received else data
        self._echo()

    def _echo(self) -> None:
        """Send every whole frame back unmasked (RFC 6455, 5.2), all of them in one write."""
        data, at, answers = self._received, 0, []
        while len(data) - at >= 6:
            length, mask_at = data[at + 1] & 0x7F, at + 2
            if length >= 126:
                mask_at += 2 if length == 126 else 8
                length = int.from_bytes(data[at + 2 : mask_at])
            end = mask_at + 4 + length
            if len(data) < end:
                break
            opcode = data[at] & 0x0F
            first = data[at] ^ 0x03 if opcode == 9 else data[at]  # a ping (9) is answered by a pong (10)
            answers += [bytes((first, data[at + 1] & 0x7F)), data[at + 2 : mask_at]]
            answers.append(apply_mask(data[mask_at + 4 : end], data[mask_at : mask_at + 4]))
            at = end
        self._received = data[at:]
        if answers:
            self.send(b"".join(answers))

    # Writing

    def _reply(self, answer: bytes) -> None:
        if not self._service.delay(self, answer):
            self.send(answer)

    def send_late(self, answer: bytes) -> None:
        """Send an answer to somebody who may have left meanwhile."""
        try:
            if self._connection.fileno() >= 0:
                self.send(answer)
        except OSError:
            self._close()

    def send(self, data: bytes) -> None:
        """Send, and the zeros that belong to it; what does not fit now is sent when there is room."""
        if self._unsent:
            self._unsent += data
            return
        self._unsent = data
        with contextlib.suppress(BlockingIOError):
            self._flush()
        if self._connection.fileno() >= 0 and (self._unsent or self._zeros_left):
            self._service.crowd.change(self._connection.fileno(), WRITABLE)

    def _flush(self) -> None:
        if self._unsent:
            self._unsent = self._unsent[self._connection.send(self._unsent) :]
        for _ in range(READS_IN_A_ROW):
            if self._unsent:
                return
            if not self._zeros_left:
                if self._last:
                    self._close()
                else:
                    self._service.crowd.change(self._connection.fileno(), READABLE)
                return
            wanted = min(self._zeros_left, CHUNK_BYTES)
            self._zeros_left -= os.sendfile(self._connection.fileno(), self._service.zeros, 0, wanted)


class Slow(click.ParamType[tuple[float, float]]):
    """`5ms@1%` as (0.005, 0.01)."""

    name = "DELAY@SHARE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        found = re.fullmatch(r"([\d.]+)ms@([\d.]+)%", str(value))
        if found is None:
            self.fail(f"{value} is not like 5ms@1%", param, ctx)
        return float(found[1]) / 1000, float(found[2]) / 100


class Milliseconds(click.ParamType[float]):
    """`500ms` as 0.5."""

    name = "DELAY"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"([\d.]+)ms", str(value))
        if found is None:
            self.fail(f"{value} is not like 500ms", param, ctx)
        return float(found[1]) / 1000


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--slow", type=Slow(), default="0ms@0%", help="Make this share of the answers this late.")
@click.option("--stall", type=Milliseconds(), default="0ms", help="Stand still once for so long.")
def main(port: int, slow: tuple[float, float], stall: float) -> None:
    """Serve on 127.0.0.1 until ended."""
    with contextlib.suppress(KeyboardInterrupt):
        trio.run(Service(*slow, stall).serve, port)


if __name__ == "__main__":
    main()
