"""What works for the streams of a program: one reactor for each Trio run, in a system task that ends with the run.

A stream has no block that its tasks could live in, so they live here. What fails in one of them ends that one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVarTuple

import trio

from engine.loop.reactor import Reactor, current
from engine.loop.run import open_reactor

Args = TypeVarTuple("Args")


class Host:
    """The reactor and the nursery of a Trio run."""

    def __init__(self) -> None:
        self.started = trio.Event()
        self.reactor: Reactor
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Until the Trio run ends."""
        async with open_reactor() as reactor, trio.open_nursery() as nursery:
            self.reactor, self._nursery = reactor, nursery
            self.started.set()
            await trio.sleep_forever()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What is opened in this block belongs to the reactor."""
        before = current.set(self.reactor)
        try:
            yield
        finally:
            current.reset(before)

    def start(self, name: str, function: Callable[[*Args], Awaitable[None]], *args: *Args) -> None:
        """Run `function` in the background; what it raises is counted and logged."""
        with self.entered():
            self._nursery.start_soon(self.reactor.supervise, name, function, *args, name=name)


_host: trio.lowlevel.RunVar[Host] = trio.lowlevel.RunVar("trioduct host")


async def open_host() -> Host:
    """This Trio run's."""
    try:
        host = _host.get()
    except LookupError:
        host = Host()
        _host.set(host)
        trio.lowlevel.spawn_system_task(host.run, name="trioduct")
    await host.started.wait()
    return host
