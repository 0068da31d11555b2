"""Round trips, counted in the bytes: how often a client has to wait for a proxy before it can go on."""

from collections.abc import Awaitable, Callable

import trio

from perf.errors import LabError

HOLD_SECONDS = 0.05


class Trips:
    """A relay in front of a proxy. Every connection is a round trip, and so is every answer to what was said since the
    last one. What nobody waits for is none: a farewell, for instance, or TLS 1.3's tickets. To see that, answers are
    held for a moment, as they would be on a long way, and a client that goes on meanwhile was not waiting.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.count = 0

    async def carry(self, client: trio.SocketStream) -> None:
        self.count += 1
        asked = False

        async def there() -> None:
            nonlocal asked
            async for data in client:
                asked = True
                await proxy.send_all(data)
            await proxy.send_eof()

        async def back() -> None:
            nonlocal asked
            async for data in proxy:
                await trio.sleep(HOLD_SECONDS)
                self.count += asked
                asked = False
                await client.send_all(data)
            await client.send_eof()

        try:
            proxy = await trio.open_tcp_stream("127.0.0.1", self._port)
            async with client, proxy, trio.open_nursery() as nursery:
                nursery.start_soon(there)
                nursery.start_soon(back)
        except* (OSError, trio.BrokenResourceError):
            pass  # whoever leaves, leaves


async def count_trips(port: int, go: Callable[[int], Awaitable[object]]) -> int:
    """The round trips of `go`, which is told a port to use in place of the proxy's. Raises what it raises."""
    trips = Trips(port)
    failure: LabError | None = None
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, trips.carry, listeners)
        try:
            await go(listeners[0].socket.getsockname()[1])
        except LabError as error:
            failure = error  # a nursery would wrap it
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return trips.count
