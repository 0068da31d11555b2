"""Everything at once on this machine, to be looked at: `trioduct demo`.

A service that nobody dials, an agent beside it, a node that clients dial, and between agent and node somebody
else's forward proxy, as it would be in a company:

    curl -> node <= pproxy <= agent -> service

The agent has one way out, the proxy; so an answer proves that the tunnel stands. Roles and service are tasks
of one nursery, pproxy is a child process (it is asyncio), all on free ports of 127.0.0.1, and nothing
outlives the nursery. In the order of imports the demo stands above the roles, because it composes all of
them, and below the command, which is all that starts it.
"""

from __future__ import annotations

import itertools
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import TextIO

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from engine import __version__
from engine.agent.agent import run_agent
from engine.config import AgentConfig, ListenerConfig, ServerConfig
from engine.errors import Unreachable
from engine.loop.leaving import open_stop_signals
from engine.node.node import run_node

START_SECONDS = 30
ROUNDS = 20


async def run_demo(once: bool, *, out: TextIO = sys.stdout) -> int:
    """Start all of it, make one request through the tunnel, and show the answer and where its time went.

    Stays until SIGINT or SIGTERM, unless `once`. Returns the exit code: 0 when the answer was the service's.
    Raises Unreachable (in a group) when a part does not start.
    """

    def say(text: str = "") -> None:
        print(text, file=out, flush=True)

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(START_SECONDS) as starting:
            service = await start_service(nursery)
            proxy = await start_proxy(nursery)
            node = await nursery.start(run_node, server_config())
            client, agents = node.proxy[1], node.upstream[1]
            await nursery.start(run_agent, agent_config(service, proxy, agents))
        if starting.cancelled_caught:
            raise Unreachable(f"node, agent and proxy did not find each other within {START_SECONDS} s")

        say(f"Trioduct {__version__}, all of it on 127.0.0.1:\n")
        say(f"  client -> :{client} node :{agents} <= pproxy :{proxy} <= agent -> :{service} service\n")
        say("The agent has dialled out through the proxy and offers the endpoint `demo`. Try it:\n")
        say(f"  curl -H 'x-piko-endpoint: demo' http://127.0.0.1:{client}/")
        say(f"  curl -H 'x-piko-endpoint: demo' http://127.0.0.1:{client}/events -N")
        say(f"  in a browser: http://demo.localhost:{client}/page  (events and a WebSocket)\n")

        began = time.perf_counter()
        async with await trio.open_tcp_stream("127.0.0.1", client) as stream:
            status, text = await ask(stream, "demo")
        say(f"GET / through the tunnel: {status} after {milliseconds(time.perf_counter() - began)}\n")
        say("".join(f"  | {line}\n" for line in text.splitlines()))
        answered = (status, text.partition("\n")[0]) == (200, GREETING)

        if answered:
            say(f"Where the time of a request goes on a connection that is kept, medians of {ROUNDS}:\n")
            for leg, seconds in (await legs(client, service)).items():
                say(f"  {leg:16}{milliseconds(seconds):>9}")

        if not once:
            say("\nCtrl-C ends it.")
            with open_stop_signals() as signals:
                await anext(signals)
        nursery.cancel_scope.cancel()
    return 0 if answered else 1


def server_config() -> ServerConfig:
    config = ServerConfig()
    for port in (config.proxy, config.upstream, config.admin):
        port.bind_addr = "127.0.0.1:0"
    return config


def agent_config(service_port: int, proxy_port: int, upstream_port: int) -> AgentConfig:
    config = AgentConfig(listeners=[ListenerConfig(endpoint_id="demo", addr=f"127.0.0.1:{service_port}")])
    config.connect.url = f"http://127.0.0.1:{upstream_port}"
    config.connect.proxy_url = f"http://127.0.0.1:{proxy_port}"
    return config


# The service and the proxy ---------------------------------------------------------------------------------

GREETING = "Hello from the service behind the tunnel."

PAGE = """<!doctype html><meta charset="utf-8"><title>Trioduct demo</title>
<h1>Through the tunnel</h1><p>Events: <output id="events"></output></p>
<p>Echo: <input id="say" value="type here"> <output id="echo"></output></p>
<script>
new EventSource("/events").onmessage = event => { events.value = event.data };
const socket = new WebSocket("ws://" + location.host + "/echo");
socket.onmessage = event => { echo.value = event.data };
say.oninput = () => socket.send(say.value);
</script>
"""


async def greet(request: Request) -> PlainTextResponse:
    seen = "".join(f"{name}: {value}\n" for name, value in request.headers.items())
    return PlainTextResponse(f"{GREETING}\nRequest for {request.url.path} with these headers:\n{seen}")


async def page(request: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


async def events(request: Request) -> StreamingResponse:
    async def ticks() -> AsyncIterator[str]:
        for number in itertools.count(1):
            yield f"data: tick {number}\n\n"
            await trio.sleep(1)

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


async def start_service(nursery: trio.Nursery) -> int:
    """The service, on a free port, which is returned."""
    app = Starlette(
        routes=[
            Route("/", greet),
            Route("/page", page),
            Route("/events", events),
            WebSocketRoute("/echo", echo),
        ]
    )
    config = HypercornConfig()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None  # "Running on …", which is said better above
    urls: list[str] = await nursery.start(serve, app, config)
    return int(urls[0].rpartition(":")[2])


async def start_proxy(nursery: trio.Nursery) -> int:
    """pproxy as an HTTP CONNECT proxy, a child process that ends with the nursery; its port is returned."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-u", "-m", "pproxy", "-l", f"http://127.0.0.1:{port}"]
    # A terminal's Ctrl-C goes to every process of the group, and pproxy would be gone before the agent.
    start = partial(
        trio.run_process,
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        start_new_session=True,
    )
    process: trio.Process = await nursery.start(start)
    assert process.stdout is not None
    said = await process.stdout.receive_some()
    if not said.startswith(b"Serving on"):
        raise Unreachable(f"pproxy did not start: {said.decode().strip()}")
    return port


# The legs of a request -------------------------------------------------------------------------------------


async def legs(node_port: int, service_port: int) -> dict[str, float]:
    """Seconds that each part of the way takes: what the node answers by itself (it is not told an endpoint), what
    the service answers when asked directly, and what is left of a request that goes all the way.
    """
    seconds: dict[str, list[float]] = {"node": [], "service": [], "all": []}
    node = await trio.open_tcp_stream("127.0.0.1", node_port)
    service = await trio.open_tcp_stream("127.0.0.1", service_port)
    async with node, service:
        for _ in range(ROUNDS):
            # Side by side, so that a busy moment of the machine falls on each of them.
            for way, stream, endpoint in (("node", node, ""), ("service", service, ""), ("all", node, "demo")):
                began = time.perf_counter()
                await ask(stream, endpoint)
                seconds[way].append(time.perf_counter() - began)
    alone, direct, together = (statistics.median(seconds[way]) for way in ("node", "service", "all"))
    tunnel = max(0.0, together - alone - direct)
    return {"client to node": alone, "tunnel": tunnel, "service": direct, "together": together}


async def ask(stream: trio.SocketStream, endpoint: str) -> tuple[int, str]:
    """One GET on a connection that is kept: status and body."""
    name = f"x-piko-endpoint: {endpoint}\r\n" if endpoint else ""
    await stream.send_all(f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{name}\r\n".encode())
    answer = b""
    while True:
        chunk = await stream.receive_some()
        if not chunk:
            raise Unreachable(f"the connection ended after {answer!r}")
        answer += chunk
        head, found, body = answer.partition(b"\r\n\r\n")
        # Both ends are known, and always state the length.
        length = re.search(rb"content-length: (\d+)", head.lower())
        if found and length and len(body) == int(length[1]):
            return int(head.split()[1]), body.decode()


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
