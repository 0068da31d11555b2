"""Raw TCP through a forward: sending, receiving, ping-pong. One blocking socket; the service is `raw`."""

import socket
import time

from perf.loads.bulk import CHUNK_BYTES, PATIENCE_SECONDS
from perf.loads.dial import open_blocking
from perf.loads.load import Load
from perf.loads.outcome import Outcome, Watch
from perf.loads.target import Target


class RawDownload(Load, frozen=True, kw_only=True, tag="raw-download"):
    def generate(self, target: Target, watch: Watch) -> Outcome:
        buffer = bytearray(CHUNK_BYTES)
        with open_blocking(target, PATIENCE_SECONDS) as connection:
            connection.sendall(b"S")

            def receive(until: float) -> None:
                while time.monotonic() < until:
                    count = connection.recv_into(buffer, CHUNK_BYTES, socket.MSG_TRUNC)
                    if not count:
                        raise OSError("closed by the other side")
                    watch.bytes_down += count

            try:
                receive(watch.measure_from)
                watch.begin()
                since = time.monotonic()
                receive(since + self.seconds)
                watch.answered(since, time.monotonic(), 0)
            except OSError as error:
                watch.errors[str(error)] += 1
            return watch.end()


class RawUpload(Load, frozen=True, kw_only=True, tag="raw-upload"):
    block_bytes: int = 32 << 20  # acknowledged by the service, one after another

    def generate(self, target: Target, watch: Watch) -> Outcome:
        chunk = memoryview(bytes(CHUNK_BYTES))
        with open_blocking(target, PATIENCE_SECONDS) as connection:
            connection.sendall(b"D")

            def send_blocks(until: float) -> None:
                while (since := time.monotonic()) < until:
                    connection.sendall(self.block_bytes.to_bytes(8))
                    left = self.block_bytes
                    while left:
                        left -= connection.send(chunk[:left])
                    if not connection.recv(1):
                        raise OSError("closed by the other side")
                    watch.answered(since, time.monotonic(), 0)
                    watch.bytes_up += self.block_bytes

            try:
                send_blocks(watch.measure_from)
                watch.begin()
                send_blocks(time.monotonic() + self.seconds)
            except OSError as error:
                watch.errors[str(error)] += 1
            return watch.end()


class PingPong(Load, frozen=True, kw_only=True, tag="ping-pong"):
    size_bytes: int = 64

    def generate(self, target: Target, watch: Watch) -> Outcome:
        ball = bytes(self.size_bytes)
        with open_blocking(target, PATIENCE_SECONDS) as connection:
            connection.sendall(b"E")

            def play(until: float) -> None:
                while (since := time.monotonic()) < until:
                    connection.sendall(ball)
                    if len(connection.recv(self.size_bytes, socket.MSG_WAITALL)) < self.size_bytes:
                        raise OSError("closed by the other side")
                    watch.answered(since, time.monotonic(), self.size_bytes)

            try:
                play(watch.measure_from)
                watch.begin()
                play(time.monotonic() + self.seconds)
            except OSError as error:
                watch.errors[str(error)] += 1
            return watch.end()
