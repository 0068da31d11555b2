"""Roles as tasks of a test, and the two ends of the way: services and clients that say exactly what a test writes.

    client (a Talk) -> node -> agent -> service (a function that is given a Talk)

Everything runs in the test's own process and nursery, so a defect in any part fails the test, and a test may let the
clock stand still (`mock_clock`) and jump. Each role has signals of its own: `tell_to_stop` is what SIGTERM would be.
"""

from __future__ import annotations

import math
import signal
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest
import trio
import trio.testing

from engine.agent.agent import run_agent
from engine.cluster.directory import Membership
from engine.config import AgentConfig, ForwardConfig, ListenerConfig, PortConfig, ServerConfig
from engine.forward.forward import run_forward
from engine.node.node import Addresses, run_node
from engine.node.worker import run_worker

HUNG_SECONDS = 25
GET = b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n"


# Both ends of the way ---------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """An answer with a length: status, head as it came, and body."""

    status: int
    head: bytes
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field, in order."""
        return values_of(self.head, name)


def values_of(head: bytes, name: bytes) -> list[bytes]:
    """The values of a head's field, in order; whoever wrote the name may have written it in any case."""
    fields = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return [value.strip() for found, _, value in fields if found.lower() == name.lower()]


class Talk:
    """A connection to say bytes on and to hear bytes from; what came too early is kept for the next who listens.

    A reset is a trio.BrokenResourceError; an end where more was wanted is an EOFError.
    """

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._socket = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._heard = b""

    async def say(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def hear(self) -> bytes:
        """What has come, at least a byte; b"" at the end."""
        heard, self._heard = self._heard, b""
        return heard or bytes(await self._stream.receive_some(1 << 20))

    async def until(self, end: bytes) -> bytes:
        """Through the first `end`."""
        while end not in self._heard:
            await self._more()
        heard, end, self._heard = self._heard.partition(end)
        return heard + end

    async def exactly(self, size: int) -> bytes:
        parts, left = [], size
        while left:
            part = await self.hear()
            if not part:
                raise EOFError(f"{left} bytes too early")
            parts.append(part[:left])
            self._heard = part[left:]
            left -= len(parts[-1])
        return b"".join(parts)

    async def rest(self) -> bytes:
        """All until the end."""
        parts = []
        while part := await self.hear():
            parts.append(part)
        return b"".join(parts)

    async def is_over(self) -> bool:
        """Wait for an end of any kind; True for a proper one (FIN, close_notify), False for a reset."""
        try:
            await self.rest()
        except trio.BrokenResourceError:
            return False
        return True

    async def answer(self, *, body: bool = True) -> Answer:
        """The next answer, which has a length (`body` False: and nothing behind its head, as to HEAD)."""
        head = await self.until(b"\r\n\r\n")
        length = values_of(head, b"content-length")
        content = await self.exactly(int(length[0])) if body and length else b""
        return Answer(int(head[9:12]), head, content)

    async def ask(self, request: bytes = GET) -> Answer:
        await self.say(request)
        return await self.answer()

    async def finish(self) -> None:
        """Half-close: FIN, whatever layers are above it."""
        await self._socket.send_eof()

    async def reset(self) -> None:
        """RST; of no effect on what is closed."""
        if self._socket.socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self._socket)

    async def close(self) -> None:
        """FIN both ways, or RST if what came was not heard, as the kernel has it."""
        await self._stream.aclose()

    async def _more(self) -> None:
        more = await self._stream.receive_some(1 << 20)
        if not more:
            raise EOFError(f"ended behind {self._heard[-200:]!r}")
        self._heard += more


Service = Callable[[Talk], Awaitable[None]]


def answer(body: bytes = b"", *, status: bytes = b"200 OK", fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), fields, body)


async def tell_head(talk: Talk) -> None:
    """A service that answers each request with the head it was sent; bodies need a length."""
    while True:
        head = await talk.until(b"\r\n\r\n")
        await talk.exactly(sum(map(int, values_of(head, b"content-length"))))
        await talk.say(answer(head))


def says(body: bytes) -> Service:
    """A service that answers every request alike; requests have no body."""

    async def serve(talk: Talk) -> None:
        while True:
            await talk.until(b"\r\n\r\n")
            await talk.say(answer(body))

    return serve


async def echo(talk: Talk) -> None:
    """A service that says what it hears, and ends when that has ended."""
    while data := await talk.hear():
        await talk.say(data)
    await talk.finish()


async def join(near: Talk, far: Talk) -> None:
    """Carry bytes, ends and resets both ways, as proxies and balancers do."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_copy, near, far)
        nursery.start_soon(_copy, far, near)


async def _copy(source: Talk, to: Talk) -> None:
    try:
        while data := await source.hear():
            await to.say(data)
        await to.finish()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await to.reset()
        await source.reset()


# Roles ------------------------------------------------------------------------------------------------------


class Role:
    """A role that runs."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.scope = trio.CancelScope()
        self._send, self.signals = trio.open_memory_channel[int](math.inf)

    def tell_to_stop(self) -> None:
        """As SIGTERM does."""
        self._send.send_nowait(signal.SIGTERM)

    async def kill(self) -> None:
        """End it as if its process had died: nothing is drained, connections are reset."""
        self.scope.cancel()
        await self.ended.wait()


class RunningNode(Role):
    addresses: Addresses

    @property
    def proxy(self) -> int:
        return self.addresses.proxy[1]

    @property
    def upstream(self) -> int:
        return self.addresses.upstream[1]

    @property
    def admin(self) -> int:
        return self.addresses.admin[1]


class RunningForward(Role):
    ports: list[tuple[str, int]]


class Roles:
    """Starts roles, services and clients, all of which end with the test. `running`: roles that were started."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.running: list[Role] = []

    async def node(self, config: ServerConfig | None = None, *, membership: Membership | None = None) -> RunningNode:
        node = RunningNode()
        run = partial(run_node, config or server_config(), membership=membership)
        node.addresses = await self._start(node, run)
        return node

    async def worker(self, config: ServerConfig, descriptor: int) -> Role:
        """One of several workers, whose supervisor is at the other end of `descriptor`."""
        worker = Role()
        await self._start(worker, partial(run_worker, config, descriptor))
        return worker

    async def agent(self, node: RunningNode, service: int, *, endpoint: str = "web", protocol: Any = "http") -> Role:
        """An agent whose endpoint is registered."""
        return await self.agent_with(agent_config(node.upstream, service, endpoint=endpoint, protocol=protocol))

    async def agent_with(self, config: AgentConfig) -> Role:
        agent = Role()
        await self._start(agent, partial(run_agent, config))
        return agent

    async def failure_of_agent(self, config: AgentConfig) -> Exception:
        """Run an agent that ends by itself; the error that ended it."""
        try:
            await run_agent(config)
        except ExceptionGroup as group:
            error: Exception = group
            while isinstance(error, ExceptionGroup):
                (error,) = error.exceptions
            return error
        raise AssertionError("it ended well")

    async def forward(self, node: RunningNode, *endpoints: str) -> RunningForward:
        return await self.forward_with(forward_config(node.proxy, *endpoints))

    async def forward_with(self, config: ForwardConfig) -> RunningForward:
        forward = RunningForward()
        forward.ports = await self._start(forward, partial(run_forward, config))
        return forward

    async def _start(self, role: Role, run: Callable[..., Awaitable[None]]) -> Any:
        self.running.append(role)

        async def task(task_status: trio.TaskStatus[object]) -> None:
            try:
                with role.scope:
                    await run(signals=role.signals, task_status=task_status)
            finally:
                role.ended.set()

        return await self.nursery.start(task)

    async def service(self, serve: Service, *, tls: ssl.SSLContext | None = None, port: int = 0) -> int:
        """The port of a service; a connection that its client ends is over, whatever the service was about to do."""

        async def task(stream: trio.SocketStream) -> None:
            talk = Talk(stream if tls is None else trio.SSLStream(stream, tls, server_side=True, https_compatible=True))
            async with stream:
                try:
                    await serve(talk)
                except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
                    pass

        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        await self.nursery.start(trio.serve_listeners, task, listeners)
        number: int = listeners[0].socket.getsockname()[1]
        return number

    async def tunnel(self, serve: Service, *, protocol: Any = "http") -> RunningNode:
        """A node, and an agent that offers the service as `web`."""
        node = await self.node()
        await self.agent(node, await self.service(serve), protocol=protocol)
        return node

    async def dial(
        self,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "127.0.0.1",
        buffer: int = 0,
        before: bytes = b"",
    ) -> Talk:
        """A client. `buffer`: bytes that the kernel may keep for it, so that a slow one is soon known for one.

        `before` is said in front of everything, TLS included.
        """
        sock = trio.socket.socket()
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        try:
            await sock.connect(("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        stream = trio.SocketStream(sock)
        self.nursery.start_soon(_close_in_the_end, stream)
        await stream.send_all(before)
        if tls is None:
            return Talk(stream)
        secured = trio.SSLStream(stream, tls, server_hostname=server_name, https_compatible=True)
        await secured.do_handshake()
        return Talk(secured)


async def _close_in_the_end(stream: trio.SocketStream) -> None:
    async with stream:
        await trio.sleep_forever()


@pytest.fixture
async def roles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Roles]:
    """Nodes do not wait for agents that are to come, so that an endpoint nobody serves is told of at once."""
    monkeypatch.setattr("engine.node.node.PATIENCE_SECONDS", 0.0)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    over = threading.Event()
    limit = request.node.get_closest_marker("timeout")
    seconds = float(limit.args[0]) - 10 if limit else HUNG_SECONDS

    async def give_up() -> None:
        # In real seconds, whatever clock the test has; and sooner than pytest, which leaves Trio in pieces.
        if not await trio.to_thread.run_sync(over.wait, seconds, abandon_on_cancel=True):
            raise trio.TooSlowError(f"not done after {seconds} s")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        try:
            yield Roles(nursery)
        finally:
            over.set()
            nursery.cancel_scope.cancel()


def server_config() -> ServerConfig:
    """Three free ports, and no access log."""
    config = ServerConfig()
    for section in (config.proxy, config.upstream, config.admin):
        section.bind_addr = "127.0.0.1:0"
    config.proxy.access_log.disable = True
    return config


def agent_config(
    upstream: int,
    service: int | str,
    *,
    endpoint: str = "web",
    protocol: Any = "http",
    scheme: str = "http",
    resume: float = 0,
    carriers: Sequence[str] = ("websocket", "stream", "poll"),
) -> AgentConfig:
    """One listener, for a service at a port of this machine or at a URL; a session that is cut is lost at once, unless
    `resume` gives it so many seconds.
    """
    addr = f"127.0.0.1:{service}" if isinstance(service, int) else service
    config = AgentConfig(listeners=[ListenerConfig(endpoint_id=endpoint, addr=addr, protocol=protocol)])
    config.listeners[0].access_log.disable = True
    config.connect.url = f"{scheme}://127.0.0.1:{upstream}"
    config.connect.resume = resume
    config.connect.carriers = list(carriers)
    return config


def forward_config(
    proxy: int,
    *endpoints: str,
    scheme: str = "http",
    resume: float = 0,
    carriers: Sequence[str] = ("websocket", "stream", "poll"),
) -> ForwardConfig:
    config = ForwardConfig(ports=[PortConfig(addr="127.0.0.1:0", endpoint_id=endpoint) for endpoint in endpoints])
    config.connect.url = f"{scheme}://127.0.0.1:{proxy}"
    config.connect.resume = resume
    config.connect.carriers = list(carriers)
    return config


async def settle() -> None:
    """Wait until nobody has anything to do: what was said has been heard everywhere."""
    await trio.testing.wait_all_tasks_blocked(0.01)
