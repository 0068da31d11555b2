"""Bulk: one transfer, as fast as possible. The client is one blocking socket and never copies what it receives.

A download counts every byte that arrived until its time was over, re-asking on the same connection. An
upload counts bodies that were *answered*, because bytes in socket buffers have not arrived. `once` is one
whole body, timed from the request to its last byte, within `seconds`: for long round trips, where the start
is the point.
"""

import socket
import ssl
import time

from perf.loads.dial import open_blocking
from perf.loads.http import LONGEST_HEAD, Answer, NotHttp, parse_head
from perf.loads.load import Load
from perf.loads.outcome import Outcome, Watch
from perf.loads.target import Target

CHUNK_BYTES = 4 << 20
PATIENCE_SECONDS = 15.0


class Download(Load, frozen=True, kw_only=True, tag="download"):
    path: str = ""  # "" is the target's own
    once: bool = False

    def generate(self, target: Target, watch: Watch) -> Outcome:
        request = target.at(self.path or target.path).request()
        with open_blocking(target, PATIENCE_SECONDS) as connection:
            client = Receiver(connection, watch)
            if self.once:
                # Warm by a small answer: the connection and the tunnel are open, their windows are not.
                client.fetch(target.request(), None)
                watch.begin()
                if client.fetch(request, time.monotonic() + self.seconds) and client.left:
                    watch.notes.append(f"not complete after {self.seconds:g} s")
                return watch.end()
            while time.monotonic() < watch.measure_from and client.fetch(request, watch.measure_from):
                pass
            watch.begin()
            until = time.monotonic() + self.seconds
            while client.alive and time.monotonic() < until:
                client.fetch(request, until)
            return watch.end()


class Receiver:
    """One client connection that counts bodies. An answer cut by a deadline is continued by the next `fetch`;
    `left` are the bytes it lacks.
    """

    def __init__(self, connection: socket.socket, watch: Watch) -> None:
        self._connection = connection
        self._watch = watch
        self._buffer = bytearray(CHUNK_BYTES)
        # The kernel drops the bytes instead of copying them; TLS has to decrypt them anyway.
        self._flags = 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_TRUNC
        self.left = 0
        self.alive = True

    def fetch(self, request: bytes, until: float | None) -> bool:
        """Receive one body, or as much of it as comes until the deadline. False if the connection is lost."""
        since = time.monotonic()
        try:
            if not self.left:
                self._connection.sendall(request)
                self._receive_head()
            while self.left and (until is None or time.monotonic() < until):
                wanted = min(self.left, CHUNK_BYTES)
                count = self._connection.recv_into(self._buffer, wanted, self._flags)
                if not count:
                    raise NotHttp("cut in the middle of a body")
                self.left -= count
                self._watch.bytes_down += count
        except (OSError, NotHttp) as error:
            self._watch.errors[str(error)] += 1
            self.alive = False
            return False
        if not self.left:
            self._watch.answered(since, time.monotonic(), 0)
        return True

    def _receive_head(self) -> None:
        received = b""
        while (end := received.find(b"\r\n\r\n") + 4) < 4:
            data = self._connection.recv(1 << 16)
            if not data or len(received) > LONGEST_HEAD:
                raise NotHttp("closed before the answer, or no answer")
            received += data
        head = parse_head(received[:end])
        if head.status != 200 or head.length < 0 or head.chunked:
            raise NotHttp(f"status {head.status}, Content-Length {head.length}")
        early = len(received) - end
        self.left = head.length - early
        self._watch.bytes_down += early


class Upload(Load, frozen=True, kw_only=True, tag="upload"):
    body_bytes: int = 128 << 20

    def generate(self, target: Target, watch: Watch) -> Outcome:
        head = target.request("POST", None, ("Content-Length", str(self.body_bytes)))
        chunk = memoryview(bytes(CHUNK_BYTES))
        with open_blocking(target, PATIENCE_SECONDS) as connection:
            try:
                while time.monotonic() < watch.measure_from:
                    self._send(connection, head, chunk, watch)
                watch.begin()
                until = time.monotonic() + self.seconds
                while time.monotonic() < until:
                    self._send(connection, head, chunk, watch)
            except (OSError, NotHttp) as error:
                watch.errors[str(error)] += 1
            return watch.end()

    def _send(self, connection: socket.socket, head: bytes, chunk: memoryview, watch: Watch) -> None:
        since = time.monotonic()
        connection.sendall(head)
        left = self.body_bytes
        while left:
            left -= connection.send(chunk[:left])
        answer = Answer()
        while not answer.feed(connection.recv(1 << 16)):
            pass
        if answer.head is None or answer.head.status != 200:
            raise NotHttp(f"status {answer.head}")
        watch.answered(since, time.monotonic(), answer.size)
        watch.bytes_up += self.body_bytes
