"""What a service costs without a port: `python -m perf.experiments.sdk --rounds 9`.

The same ASGI application three times: on hypercorn behind an agent, at a port of this machine; by `trioduct.serve`; and
by `trioduct agent --asgi`, which is on hypercorn at a Unix socket. Clients ask them in turn, on kept-alive
connections to the same node. It prints the medians of the rounds, those of their ratios to the port, and what an answer
costs the processes beside the node in processor time, which a busy machine changes least.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import psutil

from perf.experiments.cluster import PROGRAM, start, wait_open
from perf.topologies.processes import free_port

APP = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    body = bytes(int(scope["path"][1:]))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
SERVE = "import trio, trioduct\n{app}\ntrio.run(lambda: trioduct.serve(app, 'serve', url='http://127.0.0.1:{port}'))"
HYPERCORN = """import trio
from hypercorn.config import Config
from hypercorn.trio import serve
{app}
config = Config()
config.bind = ["127.0.0.1:{port}"]
trio.run(serve, app, config)"""


START_SECONDS = 30.0
NAMES = ("port", "serve", "asgi")


def ask(proxy: int, endpoint: str, size: int, times: int) -> None:
    request = f"GET /{size} HTTP/1.1\r\nHost: x\r\nx-piko-endpoint: {endpoint}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", proxy)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            head, left = b"", size
            sock.sendall(request)
            while not head.endswith(b"\r\n\r\n") or left > 0:
                part = sock.recv(1 << 18)
                if not part:
                    raise click.ClickException(f"{endpoint}: the connection ended behind {head[:200]!r}")
                if not head.endswith(b"\r\n\r\n"):
                    head, end, part = (head + part).partition(b"\r\n\r\n")
                    head += end
                    if b" 200 " not in head:
                        raise click.ClickException(f"{endpoint}: answered {head[:200]!r}")
                left -= len(part)


def microseconds(proxy: int, endpoint: str, size: int, times: int, connections: int) -> float:
    """An answer's share of the time, with so many clients at once."""
    since = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(lambda _: ask(proxy, endpoint, size, times), range(connections)))
    return (time.perf_counter() - since) / times / connections * 1e6


def processor_seconds(processes: Sequence[psutil.Process]) -> float:
    return sum(process.cpu_times().user + process.cpu_times().system for process in processes)


def wait_offered(proxy: int, endpoint: str) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            ask(proxy, endpoint, 0, 1)
        except click.ClickException:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


@click.command()
@click.option("--rounds", default=9, show_default=True)
@click.option("--requests", default=400, show_default=True, help="Of each connection in a round.")
@click.option("--size", default=5, show_default=True, help="Of an answer, in bytes.")
@click.option("--connections", default=1, show_default=True)
def main(rounds: int, requests: int, size: int, connections: int) -> None:
    proxy, upstream, admin, port = (free_port() for _ in range(4))
    url = f"--connect.url=http://127.0.0.1:{upstream}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        (folder / "shop.py").write_text(APP)
        binds = zip(("proxy", "upstream", "admin"), (proxy, upstream, admin), strict=True)
        flags = [word for name, number in binds for word in (f"--{name}.bind-addr", f"127.0.0.1:{number}")]
        start(stack, PROGRAM, "server", *flags, "--proxy.access-log.disable")
        hypercorn = start(stack, sys.executable, "-c", HYPERCORN.format(app=APP, port=port))
        wait_open(upstream)
        wait_open(port)
        serve = start(stack, sys.executable, "-c", SERVE.format(app=APP, port=upstream))
        agent = start(stack, PROGRAM, "agent", "http", "port", str(port), url, "--access-log.disable")
        hosted = ("agent", "http", "asgi", "--asgi", "shop:app", "--asgi-loop", "trio", url, "--access-log.disable")
        asgi = start(stack, "env", "-C", str(folder), PROGRAM, *hosted)
        for name in NAMES:
            wait_offered(proxy, name)
        processes = {"port": [agent, hypercorn], "serve": [serve], "asgi": [asgi, *asgi.children()]}
        before = {name: processor_seconds(those) for name, those in processes.items()}
        figures: dict[str, list[float]] = {name: [] for name in NAMES}
        for number in range(rounds):
            for name in NAMES[:: -1 if number % 2 else 1]:
                figures[name].append(microseconds(proxy, name, size, requests, connections))
        for name, values in figures.items():
            ratios = sorted(mine / other for mine, other in zip(values, figures["port"], strict=True))
            work = (processor_seconds(processes[name]) - before[name]) / rounds / requests / connections * 1e6
            click.echo(
                f"{name:5} {statistics.median(values):6.0f} us, {min(values):.0f} to {max(values):.0f}; "
                f"{statistics.median(ratios):.2f} of the port's, {ratios[0]:.2f} to {ratios[-1]:.2f}; "
                f"{work:.0f} us of processor time"
            )


if __name__ == "__main__":
    main()
