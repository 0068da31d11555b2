"""A cluster of real processes that faults are put into.

    clients with books -> HAProxy -> nodes -> agents -> origin

Each node sees Redis by a way of its own that can be cut, and the others see it by another one.
"""

from __future__ import annotations

import socket
import statistics
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from functools import partial
from pathlib import Path

import trio

from tests.canary import CANARY
from tests.origin import open_origin
from tests.programs import Node, Program, Programs, accepts, free_port, open_programs
from tests.system.ledger import Ledger, load

SECRET = f"{CANARY}, a secret of thirty-two characters and more"


class Mood(Enum):
    """What a way does with bytes."""

    CARRIES = auto()
    SLOW = auto()  # each piece 200 ms later
    HANGS = auto()  # as a firewall that drops
    REFUSES = auto()  # as a port that is closed


class Way:
    """A TCP relay to `port`, whose mood may change. What is `narrow` carries 1 Mbit/s each way."""

    def __init__(self, port: int, *, narrow: bool = False, host: str = "127.0.0.1", own: int = 0) -> None:
        self.port = port
        self._host = host
        self._narrow = narrow
        self.own = own or free_port()
        self.connections = 0  # that were carried
        self.ended = 0  # of those that were stranded, the ones that the port has closed
        self._open: set[trio.CancelScope] = set()
        self._mood = Mood.CARRIES
        self._changed = trio.Event()

    def be(self, mood: Mood) -> None:
        self._mood = mood
        self._changed.set()
        self._changed = trio.Event()

    def strand(self) -> None:
        """Reset what is open for who has dialled, without a word to the port, which has half open connections then."""
        for scope in self._open:
            scope.cancel()

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_tcp, self._serve_one, self.own, host=self._host))
            task_status.started()

    async def _serve_one(self, near: trio.SocketStream) -> None:
        async with near:
            if self._mood is Mood.REFUSES:
                return
            try:
                far = await trio.open_tcp_stream("127.0.0.1", self.port)
            except OSError:
                return
            self.connections += 1
            if self._narrow:  # and there is no room for what waits for it
                for end in (near, far):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
            said = bytearray()  # by who has dialled, the last time
            async with far:
                with trio.CancelScope() as scope:
                    self._open.add(scope)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._copy, near, far, nursery.cancel_scope, said)
                        nursery.start_soon(self._copy, far, near, nursery.cancel_scope, bytearray())
                        nursery.start_soon(self._cut, nursery.cancel_scope)
                self._open.discard(scope)
                if scope.cancelled_caught:
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    near.socket.close()
                    await self._haunt(far, bytes(said))

    async def _haunt(self, far: trio.SocketStream, said: bytes) -> None:
        """Nobody is behind it any more, and something that was said comes late, and once more."""
        await trio.sleep(0.2)
        try:
            await far.send_all(said)
            while await far.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            pass
        self.ended += 1

    async def _cut(self, scope: trio.CancelScope) -> None:
        while self._mood is not Mood.REFUSES:
            await self._changed.wait()
        scope.cancel()

    async def _copy(
        self, source: trio.SocketStream, to: trio.SocketStream, scope: trio.CancelScope, last: bytearray
    ) -> None:
        try:
            while data := await source.receive_some(4096 if self._narrow else 65536):
                while self._mood is Mood.HANGS:
                    await self._changed.wait()
                if self._mood is Mood.SLOW:
                    await trio.sleep(0.2)
                last[:] = data
                if self._narrow:
                    await trio.sleep(len(data) / 125_000)
                await to.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


class Bed:
    """All that runs. `nodes[i]` has `servers[i]`, and sees Redis by `redis_ways[i]`; others see it by `links[i]`."""

    def __init__(self, programs: Programs, folder: Path, origin: int) -> None:
        self.programs = programs
        self.folder = folder
        self.origin = origin
        self.redis_port = free_port()
        self.redis: Program | None = None
        self.nodes: list[Node] = []
        self.servers: list[Program] = []
        self.redis_ways: list[Way] = []
        self.links: list[Way] = []
        self.clients = free_port()
        self.agents = free_port()

    async def start_redis(self) -> None:
        options = ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.redis = await self.programs.start("redis-server", *options, port=self.redis_port)

    async def start(self, nursery: trio.Nursery, number: int) -> None:
        await self.start_redis()
        for index in range(number):
            node = Node(self.programs)
            self.nodes.append(node)
            for ways, port in ((self.redis_ways, self.redis_port), (self.links, node.proxy)):
                ways.append(Way(port))
                await nursery.start(ways[-1].serve)
            node.options = (
                f"--cluster.node-id=n{index}",
                f"--cluster.store=redis://127.0.0.1:{self.redis_ways[index].own}",
                f"--cluster.advertise-addr=127.0.0.1:{self.links[index].own}",
                "--proxy.access-log.disable",
                "--grace-period=20s",
            )
            self.servers.append(await self.start_node(index))
        await self._start_balancer()

    async def start_node(self, index: int) -> Program:
        words = self.nodes[index].words()
        return await self.programs.start(*words, port=self.nodes[index].admin, env={"TRIODUCT_CLUSTER_SECRET": SECRET})

    async def restart_node(self, index: int) -> None:
        self.servers[index] = await self.start_node(index)
        await self.wait_ready(index)

    async def wait_ready(self, index: int) -> None:
        """HAProxy looks every 100 ms."""
        while not await accepts(self.nodes[index].proxy):
            pass
        await trio.sleep(0.3)

    async def agent(self, endpoint: str, node: int | None = None, *options: str, port: int | None = None) -> Program:
        """By the balancer, at one node, or by way of a port."""
        port = port or (self.agents if node is None else self.nodes[node].upstream)
        url = f"--connect.url=http://127.0.0.1:{port}"
        words = [self.nodes[0].command, "agent", "http", endpoint, str(self.origin), url, "--access-log.disable"]
        return await self.programs.start(*words, *options)

    async def wait_served(self, endpoint: str, by: list[int]) -> None:
        """All of these nodes answer for it."""
        for index in by:
            while not await self._asks(self.nodes[index].proxy, endpoint):  # noqa: ASYNC110
                await trio.sleep(0.02)

    async def _asks(self, port: int, endpoint: str) -> bool:
        return (await ask(port, endpoint))[0] == 200

    async def _start_balancer(self) -> None:
        check = "check inter 100ms fall 2 rise 1 port"
        clients = "\n".join(f"server c{i} 127.0.0.1:{n.proxy} {check} {n.admin}" for i, n in enumerate(self.nodes))
        agents = "\n".join(f"server a{i} 127.0.0.1:{n.upstream} {check} {n.admin}" for i, n in enumerate(self.nodes))
        config = self.folder / "haproxy.cfg"
        config.write_text(f"""
global
    maxconn 9000
defaults
    timeout connect 2s
    timeout check 1s
    timeout client 5m
    timeout server 5m
    retries 3
    option redispatch 1
listen clients
    bind 127.0.0.1:{self.clients}
    mode http
    retry-on conn-failure empty-response 502 503
    option httpchk GET /ready
    {clients}
listen agents
    bind 127.0.0.1:{self.agents}
    mode tcp
    balance leastconn
    option httpchk GET /ready
    {agents}
""")
        await self.programs.start("haproxy", "-db", "-f", config, port=self.clients)


async def ask(port: int, endpoint: str, host: str = "127.0.0.1") -> tuple[int, float]:
    """One GET on a connection of its own: status (0: none) and seconds."""
    since = trio.current_time()
    try:
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(
                f"GET /mirror HTTP/1.1\r\nHost: a\r\nx-piko-endpoint: {endpoint}\r\nConnection: close\r\n\r\n".encode()
            )
            said = b"".join([part async for part in stream])
    except OSError:
        said = b""
    status = int(said[9:12]) if said.startswith(b"HTTP/1.1 ") else 0
    return status, trio.current_time() - since


@asynccontextmanager
async def open_bed(folder: Path, *, nodes: int = 3, seconds: float = 120) -> AsyncIterator[Bed]:
    async with open_programs(seconds) as programs, open_origin() as origin, trio.open_nursery() as nursery:
        bed = Bed(programs, folder, origin)
        await bed.start(nursery, nodes)
        yield bed
        nursery.cancel_scope.cancel()


def percentile(values: list[float], share: float) -> float:
    """In milliseconds."""
    if len(values) < 2:
        return max(values, default=0.0) * 1000
    return statistics.quantiles(values, n=1000, method="inclusive")[min(round(share * 1000), 999) - 1] * 1000


__all__ = ["Bed", "Ledger", "Mood", "Way", "ask", "load", "open_bed", "percentile"]
