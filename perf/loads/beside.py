"""Clients that do not read, or read slowly, while another load is measured.

A tunnel that lets one of them hold up the others shows it in the others' latency.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from perf.loads.dial import NOT_YET, open_non_blocking
from perf.loads.target import Target

SIP_BYTES = 1 << 13
SETTLE_SECONDS = 2.0


@asynccontextmanager
async def beside(
    target: Target, path: str, *, stalled: int, slow: int, slow_bytes_per_second: int
) -> AsyncIterator[None]:
    """While the body runs, so many downloads of `path` are not read at all, and so many a little at a time."""
    request = target.at(path).request()
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        for index in range(stalled + slow):
            connection = stack.enter_context(await open_non_blocking(target))
            connection.send(request)
            if index >= stalled:
                nursery.start_soon(_sip, connection, SIP_BYTES / slow_bytes_per_second)
        # They first fill every buffer of the way, at full speed; that is not what is asked for.
        await trio.sleep(SETTLE_SECONDS if stalled or slow else 0)
        yield
        nursery.cancel_scope.cancel()


async def _sip(connection: socket.socket, pause_seconds: float) -> None:
    while True:
        await trio.sleep(pause_seconds)
        try:
            if not connection.recv(SIP_BYTES):
                return
        except NOT_YET:
            continue
        except OSError:
            return
