"""Requests through a node, as many as it answers: `trioduct bench http`, as Piko has it.

    this process (clients) -> node -> this process (an agent -> a service that says what it hears)

The node is somebody else's process, anywhere, ours or Piko's. Everything else runs here, on one processor, so a node
that has another one may be faster than this can show; the report says so when that processor had nothing left.

In the order of imports the benchmark stands beside the demo: it runs a role, and only the command starts it.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import TextIO

import trio

from engine.agent.agent import run_agent
from engine.config import AgentConfig, BenchConfig, ListenerConfig
from engine.errors import HTTPError
from engine.loop.connection import Connection
from engine.loop.dial import Server, dial_server
from engine.loop.leaving import open_stop_signals
from engine.loop.listen import Room, open_listeners, serve
from engine.loop.run import open_reactor
from engine.wire import http1, piko

BUSY = 0.9  # of a processor: above, the figure may be this process's own


async def run_bench(config: BenchConfig, *, out: TextIO = sys.stdout) -> int:
    """Send the requests, and say how many there were in a second. Returns the exit code: 1 if any failed.

    Raises Unreachable when agents or clients cannot connect, and Refused when the node will not have them.
    """
    is_over = False
    with open_stop_signals() as signals:
        async with open_reactor(), trio.open_nursery() as nursery:
            nursery.start_soon(_stop, signals, nursery.cancel_scope)
            agents = await _start_service(nursery, config)
            await nursery.start(run_agent, agents)
            connect = config.connect
            context = config.tls.client_context() if connect.proxy_url.startswith(("https", "wss")) else None
            server = Server(connect.proxy_url, context, config.tls.server_name or None)
            requests = [_request(server, f"bench-{number}", config) for number in range(config.endpoints)]
            results = Results(config.requests)
            clients = [Client(await dial_server(server), requests, results) for _ in range(config.clients)]
            begun, used = time.perf_counter(), time.process_time()
            async with trio.open_nursery() as running:
                for client in clients:
                    running.start_soon(client.run)
            seconds, used = time.perf_counter() - begun, time.process_time() - used
            is_over = True
            nursery.cancel_scope.cancel()
    if not is_over:
        return 130
    for line in results.report(seconds, used / seconds):
        print(line, file=out, flush=True)
    return 0 if results.is_whole and not results.failed else 1


async def _stop(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()


def _request(server: Server, endpoint: str, config: BenchConfig) -> bytes:
    authorization = f"Authorization: Bearer {config.token}\r\n" if config.token else ""
    head = (
        f"POST {server.path}/ HTTP/1.1\r\nHost: {server.authority}\r\n{piko.ENDPOINT.decode()}: {endpoint}\r\n"
        f"{authorization}Content-Length: {config.size}\r\n\r\n"
    )
    return head.encode() + b"x" * config.size


class Results:
    """What is left to be asked, and what became of what was."""

    def __init__(self, requests: int) -> None:
        self.left = requests
        self.failed: Counter[str] = Counter()  # by what was answered, or why nothing was
        self._requests = requests
        self._seconds = array("d")

    @property
    def is_whole(self) -> bool:
        """Whether every request has its answer."""
        return len(self._seconds) == self._requests

    def answered(self, status: int, seconds: float) -> None:
        self._seconds.append(seconds)
        if status != 200:
            self.failed[f"status {status}"] += 1

    def report(self, seconds: float, busy: float) -> list[str]:
        """Lines for people, the first as Piko's; `busy` is the share of a processor that this process has used."""
        took = sorted(self._seconds)
        lines = [f"Throughput: {len(took) / seconds:.1f} requests/sec"]
        if took:
            shares = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
            shown = (f"{name} {took[int(share * (len(took) - 1))] * 1000:.2f} ms" for share, name in shares)
            lines.append(f"Latency: {', '.join(shown)}")
        failed = sum(self.failed.values()) + self._requests - len(took)
        if failed:
            why = ", ".join(f"{reason}: {count}" for reason, count in self.failed.most_common())
            lines.append(f"Failed: {failed} of {self._requests} ({why})")
        if busy > BUSY:
            lines.append(
                f"This process (clients, agent and service) was busy {busy:.0%} of the time: the node may be faster."
            )
        return lines


class Client:
    """A connection to the proxy port that asks, hears the whole answer, and asks again, each time the next endpoint."""

    idle = False

    def __init__(self, connection: Connection, requests: list[bytes], results: Results) -> None:
        self._connection = connection
        self._requests = requests
        self._results = results
        self._turn = id(connection) // 16 % len(requests)  # not all of them the same at once
        self._body: int | None = None  # what is missing of an answer's body; None: its head
        self._status = 0
        self._asked = 0.0
        connection.receiver = self

    async def run(self) -> None:
        """Ask until nothing is left, or the connection is lost."""
        self._ask()
        await self._connection.run()

    def _ask(self) -> None:
        if not self._results.left:
            self._connection.close()
            return
        self._results.left -= 1
        self._turn = (self._turn + 1) % len(self._requests)
        self._asked = time.perf_counter()
        self._connection.put(self._requests[self._turn])

    def received(self, data: memoryview) -> int:
        taken = 0
        while taken < len(data):
            if self._body is None:
                try:
                    found = http1.next_response(data, taken, b"POST")
                except HTTPError as error:
                    self._fail(str(error))
                    return len(data)
                if found is None:
                    return taken
                response, taken = found
                if response.body < 0:
                    self._fail("an answer without a length")
                    return len(data)
                self._body, self._status = response.body, response.status
            part = min(self._body, len(data) - taken)
            taken += part
            self._body -= part
            if not self._body:
                self._body = None
                self._results.answered(self._status, time.perf_counter() - self._asked)
                self._ask()
        return taken

    def _fail(self, reason: str) -> None:
        self._results.failed[reason] += 1
        self._connection.abort()

    def ended(self) -> None:
        self._fail("connection closed")

    def lost(self, error: Exception) -> None:
        self._results.failed[str(error)] += 1

    def drained(self) -> None: ...

    def break_off(self, error: Exception) -> None:
        self.lost(error)


# The service ------------------------------------------------------------------------------------------------


async def _start_service(nursery: trio.Nursery, config: BenchConfig) -> AgentConfig:
    """Start the service, and return the configuration of its agent."""
    listeners = open_listeners("127.0.0.1:0")
    nursery.start_soon(partial(serve, listeners, _serve, nursery, Room()))
    port = listeners[0].getsockname()[1]
    agents = AgentConfig(
        listeners=[
            ListenerConfig(endpoint_id=f"bench-{number % config.endpoints}", addr=f"127.0.0.1:{port}")
            for number in range(config.upstreams)
        ]
    )
    for listener in agents.listeners:
        listener.access_log.disable = True
    agents.connect.url = config.connect.upstream_url
    agents.connect.token = config.connect.token
    agents.connect.timeout = config.connect.timeout
    agents.connect.resume = 0  # who ends is not waited for: when the bench is over its endpoints are gone
    agents.connect.tls = config.tls
    return agents


async def _serve(connection: Connection) -> None:
    connection.receiver = _Echo(connection)
    await connection.run()


class _Echo:
    """The service's end of a connection: answers each request with its body, once that is whole. (Who answers before
    has not heard the request, and a node closes the connection behind that.)
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._missing = 0  # of the body of a request
        self._body = bytearray()

    @property
    def idle(self) -> bool:
        return not self._missing

    def received(self, data: memoryview) -> int:
        taken = 0
        while taken < len(data):
            if not self._missing:
                found = http1.next_request(data, taken)
                if found is None:
                    return taken
                request, taken = found
                self._missing = request.body
            part = data[taken : taken + self._missing]
            self._body += part
            taken += len(part)
            self._missing -= len(part)
            if not self._missing:
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self._body)
                self._connection.put(head, bytes(self._body))
                self._body.clear()
        return taken

    def ended(self) -> None:
        self._connection.close()

    def lost(self, error: Exception) -> None: ...

    def drained(self) -> None: ...

    def break_off(self, error: Exception) -> None: ...
