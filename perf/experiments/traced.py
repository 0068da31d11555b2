"""What traces cost: `python -m perf.experiments.traced --rounds 9 -- --tracing.rate=100`.

Two nodes, each with an agent, beside one nginx and one collector: without tracing, and with it, by the flags behind the
`--`. wrk asks both in turn, a round at a time, and the first again: what that differs by is noise.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import getloadavg
from pathlib import Path

import click

from perf.experiments.cluster import wait_open
from perf.experiments.inspected import NGINX, ask, start, tell, wait_answer
from perf.topologies.processes import free_port


class Collector(BaseHTTPRequestHandler):
    """Takes whatever it is sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@click.command()
@click.option("--rounds", default=9, show_default=True)
@click.option("--seconds", default=2, show_default=True, help="Of each in a round.")
@click.option("--connections", default=16, show_default=True)
@click.argument("flags", nargs=-1)
def main(rounds: int, seconds: int, connections: int, flags: tuple[str, ...]) -> None:
    engine = (sys.executable, "-m", "engine")
    with ExitStack() as stack:
        collector = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Collector))
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        stack.callback(collector.shutdown)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        service = free_port()
        config = Path(folder, "nginx.conf")
        config.write_text(NGINX.format(folder=folder, port=service, body="0123456789abcdef" * 8))
        start(stack, "nginx", "-c", str(config), "-e", "stderr", "-p", folder)
        url = f"--tracing.url=http://127.0.0.1:{collector.server_port}"
        proxies: dict[str, int] = {}
        settings: dict[str, tuple[str, ...]] = {"off": (), "again": (), "traced": (url, *flags)}
        for name, tracing in settings.items():
            proxy, upstream, admin = (free_port() for _ in range(3))
            binds = zip(("proxy", "upstream", "admin"), (proxy, upstream, admin), strict=True)
            addresses = [word for port, number in binds for word in (f"--{port}.bind-addr", f"127.0.0.1:{number}")]
            start(stack, *engine, "server", *addresses, "--proxy.access-log.disable", *tracing)
            wait_open(admin)
            dial = ("--connect.url", f"http://127.0.0.1:{upstream}", "--access-log.disable")
            start(stack, *engine, "agent", "http", "web", str(service), *dial, *tracing)
            wait_answer(proxy, "web")
            proxies[name] = proxy
        figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in proxies}
        for number in range(rounds + 1):
            for name in sorted(figures, reverse=bool(number % 2)):
                figure = ask(proxies[name], "web", connections, seconds)
                if number:  # the first round warms up
                    figures[name].append(figure)
        click.echo(f"{connections} connections, {rounds} rounds of {seconds} s, load {getloadavg()[0]:.1f}")
        tell(figures)


if __name__ == "__main__":
    main()
