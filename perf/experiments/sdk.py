"""What a service costs without a port: `python -m perf.experiments.sdk --rounds 9`.

The same ASGI application twice: on hypercorn behind an agent, at a port of this machine, and by `trioduct.serve`. One
client asks both in turn, on a kept-alive connection to the same node.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from contextlib import ExitStack

import click

from perf.experiments.cluster import PROGRAM, start
from perf.topologies.processes import free_port

APP = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})
"""
SERVE = "import trio, trioduct\n{app}\ntrio.run(lambda: trioduct.serve(app, 'sdk', url='http://127.0.0.1:{port}'))"
HYPERCORN = """import trio
from hypercorn.config import Config
from hypercorn.trio import serve
{app}
config = Config()
config.bind = ["127.0.0.1:{port}"]
trio.run(serve, app, config)"""


def ask(proxy: int, endpoint: str, times: int) -> tuple[float, float]:
    """The median of an answer's microseconds, and answers per second."""
    request = f"GET / HTTP/1.1\r\nHost: x\r\nx-piko-endpoint: {endpoint}\r\n\r\n".encode()
    took = []
    with socket.create_connection(("127.0.0.1", proxy)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            since, heard = time.perf_counter(), b""
            sock.sendall(request)
            while not heard.endswith(b"hello"):
                part = sock.recv(65536)
                if not part:
                    raise click.ClickException(f"{endpoint}: the connection ended behind {heard!r}")
                heard += part
            took.append(time.perf_counter() - since)
    return statistics.median(took) * 1e6, times / sum(took)


@click.command()
@click.option("--rounds", default=9, show_default=True)
@click.option("--requests", default=400, show_default=True, help="Of each in a round.")
def main(rounds: int, requests: int) -> None:
    proxy, upstream, admin, port = (free_port() for _ in range(4))
    with ExitStack() as stack:
        binds = zip(("proxy", "upstream", "admin"), (proxy, upstream, admin), strict=True)
        flags = [word for name, number in binds for word in (f"--{name}.bind-addr", f"127.0.0.1:{number}")]
        start(stack, PROGRAM, "server", *flags, "--proxy.access-log.disable")
        start(stack, sys.executable, "-c", HYPERCORN.format(app=APP, port=port))
        time.sleep(2)
        start(stack, sys.executable, "-c", SERVE.format(app=APP, port=upstream))
        url = f"http://127.0.0.1:{upstream}"
        start(stack, PROGRAM, "agent", "http", "port", str(port), "--connect.url", url, "--access-log.disable")
        time.sleep(3)
        figures: dict[str, list[tuple[float, float]]] = {"sdk": [], "port": []}
        for number in range(rounds):
            for name in sorted(figures, reverse=bool(number % 2)):
                figures[name].append(ask(proxy, name, requests))
        for name, rows in figures.items():
            for unit, values in zip(("us (p50)", "requests/s"), zip(*rows, strict=True), strict=True):
                middle = statistics.median(values)
                click.echo(f"{name:5} {middle:8.0f} {unit}, from {min(values):.0f} to {max(values):.0f}")


if __name__ == "__main__":
    main()
