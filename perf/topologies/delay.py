"""A simulated long distance: a TCP relay that delays every byte by half a round trip.

Each direction is a reader, a queue of (due, bytes) and a writer. The reader never waits for the writer's
socket, only for the bound of the queue, so that the sender sees a path of that length and not a slow
receiver; the order and the distances of the bytes stay as they were. 0.5-1 GB/s on one core; late by a
millisecond at most (Trio's beat).
"""

import contextlib
import socket
from collections import deque

import click
import trio

CHUNK_BYTES = 1 << 18
BEAT_SECONDS = 0.001  # what Trio sleeps too long: epoll counts whole milliseconds and rounds up
QUEUE_BYTES = 128 << 20  # above 1 GB/s x 100 ms: the bound protects memory and is not met


class OneWay:
    """What is on its way in one direction."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._travelling: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._moved = trio.Event()  # something came or went

    async def carry(self, source: trio.SocketStream, drain: trio.SocketStream) -> None:
        """Until the source ends, which is passed on as a half-close after the same delay."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take, source)
            await self._give(drain)

    async def _take(self, source: trio.SocketStream) -> None:
        while True:
            data = await source.receive_some(CHUNK_BYTES)
            self._travelling.append((trio.current_time() + self._seconds, bytes(data)))
            self._bytes += len(data)
            self._wake()
            if not data:
                return
            while self._bytes > QUEUE_BYTES:
                await self._moved.wait()

    async def _give(self, drain: trio.SocketStream) -> None:
        while True:
            while not self._travelling:
                await self._moved.wait()
            due, data = self._travelling[0]
            if due - BEAT_SECONDS > trio.current_time():
                await trio.sleep_until(due - BEAT_SECONDS)
            if not data:
                await drain.send_eof()
                return
            await drain.send_all(data)
            self._travelling.popleft()
            self._bytes -= len(data)
            self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = trio.Event()


@click.command()
@click.option("--port", type=int, required=True, help="Where to listen on 127.0.0.1.")
@click.option("--to", "destination", type=int, required=True, help="The port of 127.0.0.1 to relay to.")
@click.option("--round-trip-seconds", type=float, required=True)
def main(port: int, destination: int, round_trip_seconds: float) -> None:
    """Relay until ended."""

    async def relay(near: trio.SocketStream) -> None:
        try:
            far = await trio.open_tcp_stream("127.0.0.1", destination)
            async with near, far, trio.open_nursery() as nursery:
                for stream in (near, far):
                    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                nursery.start_soon(OneWay(round_trip_seconds / 2).carry, near, far)
                nursery.start_soon(OneWay(round_trip_seconds / 2).carry, far, near)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # whoever leaves ends both ways

    async def serve() -> None:
        await trio.serve_tcp(relay, port, host="127.0.0.1")

    with contextlib.suppress(KeyboardInterrupt):
        trio.run(serve)


if __name__ == "__main__":
    main()
