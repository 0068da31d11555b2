"""What a service costs without a port: `python -m perf.experiments.sdk --rounds 9`.

The same ASGI application three times: on hypercorn behind an agent, at a port of this machine; by `trioduct.serve`; and
by `trioduct agent --asgi`, which is on hypercorn at a Unix socket. One client asks them in turn, on a kept-alive
connection to the same node. Of each round's medians it prints the middle one, and those of the ratios to the port.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click

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


def ask(proxy: int, endpoint: str, size: int, times: int) -> float:
    """The median of an answer's microseconds."""
    request = f"GET /{size} HTTP/1.1\r\nHost: x\r\nx-piko-endpoint: {endpoint}\r\n\r\n".encode()
    took = []
    with socket.create_connection(("127.0.0.1", proxy)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            since, head, left = time.perf_counter(), b"", size
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
            took.append(time.perf_counter() - since)
    return statistics.median(took) * 1e6


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
@click.option("--requests", default=400, show_default=True, help="Of each in a round.")
@click.option("--size", default=5, show_default=True, help="Of an answer, in bytes.")
def main(rounds: int, requests: int, size: int) -> None:
    proxy, upstream, admin, port = (free_port() for _ in range(4))
    url = f"--connect.url=http://127.0.0.1:{upstream}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        (folder / "shop.py").write_text(APP)
        binds = zip(("proxy", "upstream", "admin"), (proxy, upstream, admin), strict=True)
        flags = [word for name, number in binds for word in (f"--{name}.bind-addr", f"127.0.0.1:{number}")]
        start(stack, PROGRAM, "server", *flags, "--proxy.access-log.disable")
        start(stack, sys.executable, "-c", HYPERCORN.format(app=APP, port=port))
        wait_open(upstream)
        wait_open(port)
        start(stack, sys.executable, "-c", SERVE.format(app=APP, port=upstream))
        start(stack, PROGRAM, "agent", "http", "port", str(port), url, "--access-log.disable")
        hosted = ("agent", "http", "asgi", "--asgi", "shop:app", "--asgi-loop", "trio", url, "--access-log.disable")
        start(stack, "env", "-C", str(folder), PROGRAM, *hosted)
        for name in NAMES:
            wait_offered(proxy, name)
        figures: dict[str, list[float]] = {name: [] for name in NAMES}
        for number in range(rounds):
            for name in NAMES[:: -1 if number % 2 else 1]:
                figures[name].append(ask(proxy, name, size, requests))
        for name, values in figures.items():
            ratios = sorted(mine / other for mine, other in zip(values, figures["port"], strict=True))
            click.echo(
                f"{name:5} {statistics.median(values):6.0f} us, {min(values):.0f} to {max(values):.0f}; "
                f"{statistics.median(ratios):.2f} of the port's, {ratios[0]:.2f} to {ratios[-1]:.2f}"
            )


if __name__ == "__main__":
    main()
