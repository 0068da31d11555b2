"""A network that drops connections: a TCP relay that ends each one after some seconds, or all when it is told to.

In a test it is a `Cutter`; on its own it is a program, which cuts all at once on SIGUSR1, and says how many:

    python -m perf.topologies.cutter --listen 9000 --to 8001 --every 4 --how reset
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import struct
from collections.abc import Iterator
from functools import partial
from typing import Literal, get_args

import trio

How = Literal["reset", "close", "silence"]
PART_BYTES = 1 << 18


class Cutter:
    """Relays what comes to `port` of 127.0.0.1 to the port `to` there, and cuts it.

    `every`: seconds that a connection may live, None for as long as it likes. `how` one is cut:

    - reset: both ends see RST;
    - close: both see FIN, and what they say afterwards is lost;
    - silence: neither is told, and nothing that they say arrives any more. (The kernel still confirms it, as a proxy
      in between would.)
    """

    def __init__(self, to: int, *, every: float | None = None, how: How = "reset") -> None:
        self.port = 0
        self.opened = 0
        self.cuts = 0
        self._to = to
        self._every = every
        self._how = how
        self._away = False
        self._relayed: set[trio.CancelScope] = set()

    @property
    def open(self) -> int:
        """How many connections it relays now."""
        return len(self._relayed)

    def cut(self) -> int:
        """Cut every connection that is open now; how many that are."""
        for scope in self._relayed:
            scope.cancel()
        return len(self._relayed)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """While the block runs there is no network: what is open is cut, and whoever comes is sent away."""
        self._away = True
        self.cut()
        try:
            yield
        finally:
            self._away = False

    async def run(self, port: int = 0, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay until cancelled; the status is the port, by default a free one."""
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started(self.port)
        await trio.serve_listeners(self._relay, listeners)

    async def _relay(self, near: trio.SocketStream) -> None:
        async with near:
            if self._away:
                _reset(near)
                return
            try:
                far = await trio.open_tcp_stream("127.0.0.1", self._to)
            except OSError:
                _reset(near)
                return
            async with far:
                self.opened += 1
                with trio.CancelScope() as scope:
                    if self._every is not None:
                        scope.deadline = trio.current_time() + self._every
                    self._relayed.add(scope)
                    try:
                        await _join(near, far)
                    finally:
                        self._relayed.discard(scope)
                if scope.cancelled_caught:
                    self.cuts += 1
                    await self._end(near, far)

    async def _end(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        if self._how == "reset":
            _reset(near)
            _reset(far)
        elif self._how == "silence":
            # Each end is kept until it goes by itself; the other does not learn of that.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_swallow, near)
                nursery.start_soon(_swallow, far)
        else:
            # To the end of what they have said: a socket that is closed with something unread in it sends RST.
            for stream in (near, far):
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await stream.send_eof()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_swallow, near)
                nursery.start_soon(_swallow, far)


async def _join(near: trio.SocketStream, far: trio.SocketStream) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_copy, near, far)
        nursery.start_soon(_copy, far, near)


async def _copy(source: trio.SocketStream, to: trio.SocketStream) -> None:
    try:
        while data := await source.receive_some(PART_BYTES):
            await to.send_all(data)
        await to.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        _reset(source)
        _reset(to)


async def _swallow(stream: trio.SocketStream) -> None:
    async with stream:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await stream.receive_some(PART_BYTES):
                pass


def _reset(stream: trio.SocketStream) -> None:
    """Close with RST; of no effect on what is closed."""
    if stream.socket.fileno() >= 0:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.topologies.cutter", description=__doc__)
    parser.add_argument("--listen", type=int, required=True, help="port of 127.0.0.1")
    parser.add_argument("--to", type=int, required=True, help="port of 127.0.0.1")
    parser.add_argument("--every", type=float, help="seconds that a connection lives; without it only SIGUSR1 cuts")
    parser.add_argument("--how", choices=get_args(How), default="reset")
    words = parser.parse_args()
    cutter = Cutter(words.to, every=words.every, how=words.how)
    with trio.open_signal_receiver(signal.SIGUSR1, signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(cutter.run, words.listen))
            print(f"relaying from {words.listen} to {words.to}", flush=True)
            async for number in signals:
                if number != signal.SIGUSR1:
                    break
                print(f"cut {cutter.cut()}", flush=True)
            nursery.cancel_scope.cancel()
    print(f"{cutter.opened} connections, {cutter.cuts} of them cut")


if __name__ == "__main__":
    trio.run(main)
