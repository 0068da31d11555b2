"""A fixed number of client connections in a crowd, opened before the load and reopened when one is lost."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from perf.crowd import Crowd
from perf.errors import LoadFailed
from perf.loads.dial import open_non_blocking
from perf.loads.http import Asker
from perf.loads.outcome import Watch
from perf.loads.target import Target

REOPEN_SECONDS = 0.01  # a target that refuses is not asked in a tight loop
OPENED_AT_ONCE = 32


@asynccontextmanager
async def open_askers(
    crowd: Crowd, target: Target, watch: Watch, count: int, free: Callable[[Asker], None]
) -> AsyncIterator[None]:
    """Own the connections; `free` is called with each when it may ask. Raises LoadFailed if one cannot be
    opened.
    """
    connections = await open_all(target, count)
    async with trio.open_nursery() as nursery:

        async def reopen() -> None:
            while True:
                await trio.sleep(REOPEN_SECONDS)
                try:
                    add(await open_non_blocking(target))
                except LoadFailed:
                    watch.errors["cannot connect"] += 1
                else:
                    return

        def add(connection: socket.socket) -> None:
            free(Asker(crowd, connection, watch, free, lambda _: nursery.start_soon(reopen)))

        for connection in connections:
            add(connection)
        yield
        nursery.cancel_scope.cancel()


async def open_all(target: Target, count: int) -> list[socket.socket]:
    """So many connections. Raises LoadFailed if one cannot be opened."""
    opened: list[socket.socket] = []
    failures: list[LoadFailed] = []
    limit = trio.CapacityLimiter(OPENED_AT_ONCE)

    async def open_one() -> None:
        async with limit:
            try:
                opened.append(await open_non_blocking(target))
            except LoadFailed as failure:
                failures.append(failure)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(open_one)
    if failures:
        raise failures[0]
    return opened
