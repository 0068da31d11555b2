"""A relay of TCP whose connections can be cut: what a company proxy does after a lifetime, or a Wi-Fi that changes."""

from __future__ import annotations

import math
import socket
import struct
from contextlib import suppress

import trio

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Cutter:
    """Relays to a port of 127.0.0.1. `cut` ends all connections there are; `passing` set to False refuses new ones."""

    def __init__(self) -> None:
        self.made = 0
        self.passing = True
        self._open: set[trio.CancelScope] = set()

    async def serve(
        self, port: int, every_seconds: float = math.inf, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Relay to `port`, and tell our own. Each connection is cut when it is `every_seconds` old."""

        async def relay(near: trio.SocketStream) -> None:
            if not self.passing:
                await _reset(near)
                return
            self.made += 1
            async with near, await trio.open_tcp_stream("127.0.0.1", port) as far:
                with trio.move_on_after(every_seconds) as life:
                    self._open.add(life)
                    async with trio.open_nursery() as both:
                        both.start_soon(_copy, near, far)
                        both.start_soon(_copy, far, near)
                self._open.discard(life)
                await _reset(near)
                await _reset(far)

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, relay, listeners)
            task_status.started(listeners[0].socket.getsockname()[1])

    def cut(self) -> None:
        """Reset every connection there is."""
        for life in self._open:
            life.cancel()


async def _copy(here: trio.SocketStream, there: trio.SocketStream) -> None:
    try:
        async for data in here:
            await there.send_all(data)
        await there.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await _reset(there)


async def _reset(stream: trio.SocketStream) -> None:
    with suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    await trio.aclose_forcefully(stream)
