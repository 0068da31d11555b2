"""What a cluster costs as it grows: `python -m perf.experiments.cluster --endpoints 10000`.

Three nodes and a Redis. Agents (bare WebSocket registrations, which keep silent) register so many endpoints at one
node.
Shown are the memory per endpoint of that node, and of the others, which only know of them; how long it takes until the
last node knows a new endpoint; and the commands per second that Redis serves, idle and while 100 endpoints per second
come.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click
import numpy
import psutil

from perf.topologies.processes import free_port

PROGRAM = Path(sys.executable).with_name("trioduct")
SECRET = "a secret of thirty-two characters and more"
ANSWER_SECONDS = 0.02  # a request for an endpoint that is known gets no answer, one for another gets 502 at once


def start(stack: ExitStack, *words: str | Path) -> psutil.Process:
    environment = os.environ | {"TRIODUCT_CLUSTER_SECRET": SECRET}
    process = subprocess.Popen(list(map(str, words)), env=environment, stdout=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return psutil.Process(process.pid)


def wait_open(port: int) -> None:
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise click.ClickException(f"nothing listens on port {port} after 10 s")


def register(port: int, endpoint: str) -> socket.socket:
    """An agent's registration; it stands when this returns."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(
        f"GET /piko/v1/upstream/{endpoint} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return sock


def knows(port: int, endpoint: str) -> bool:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(ANSWER_SECONDS)
        sock.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nx-piko-endpoint: {endpoint}\r\n\r\n".encode())
        try:
            return not sock.recv(4096).startswith(b"HTTP/1.1 502")
        except TimeoutError:
            return True


def commands(redis: int) -> int:
    """That Redis has served since its start."""
    with socket.create_connection(("127.0.0.1", redis)) as sock:
        sock.sendall(b"INFO stats\r\n")
        text = b""
        while b"total_commands_processed:" not in text or not text.endswith(b"\r\n"):
            text += sock.recv(65536)
    return int(text.partition(b"total_commands_processed:")[2].split()[0])


def memory(nodes: list[psutil.Process]) -> list[int]:
    return [node.memory_info().rss for node in nodes]


@click.command()
@click.option("--endpoints", type=int, default=10_000, show_default=True)
@click.option("--samples", type=int, default=200, show_default=True, help="New endpoints that are waited for.")
def main(endpoints: int, samples: int) -> None:
    """Measure a cluster of three nodes."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis, *ports = (free_port() for _ in range(10))
        start(stack, "redis-server", "--port", str(redis), "--save", "", "--dir", folder)
        wait_open(redis)
        nodes, proxies, upstreams = [], [], []
        for index in range(3):
            proxy, upstream, admin = ports[index * 3 : index * 3 + 3]
            proxies.append(proxy)
            upstreams.append(upstream)
            nodes.append(
                start(
                    stack,
                    *(PROGRAM, "server", f"--cluster.store=redis://127.0.0.1:{redis}", f"--cluster.node-id=n{index}"),
                    *(f"--proxy.bind-addr=127.0.0.1:{proxy}", f"--upstream.bind-addr=127.0.0.1:{upstream}"),
                    *(f"--admin.bind-addr=127.0.0.1:{admin}", "--proxy.access-log.disable", "--log.level=error"),
                )
            )
        for port in (*proxies, *upstreams):
            wait_open(port)
        time.sleep(2)
        before = memory(nodes)
        agents = []
        since = time.monotonic()
        for number in range(endpoints):
            agents.append(register(upstreams[0], f"endpoint-{number:05}"))
            if number % 1000 == 999:
                click.echo(f"\r{number + 1} endpoints", err=True, nl=False)
        took = time.monotonic() - since
        time.sleep(3)
        grown = [(after - then) / endpoints / 1024 for after, then in zip(memory(nodes), before, strict=True)]
        own, *others = grown
        click.echo(f"\n{endpoints} endpoints at one of 3 nodes, registered at {endpoints / took:.0f}/s")
        click.echo(f"memory per endpoint: {own:.1f} KiB at their node, {max(others):.1f} KiB at another")
        count, since = commands(redis), time.monotonic()
        time.sleep(5)
        click.echo(f"Redis, idle: {(commands(redis) - count) / (time.monotonic() - since):.0f} commands/s")
        assert not knows(proxies[2], "nobody")
        delays = []
        for number in range(samples):
            endpoint = f"new-{number}"
            sock = register(upstreams[0], endpoint)
            agents.append(sock)
            since = asked = time.monotonic()
            while not knows(proxies[1 + number % 2], endpoint):
                asked = time.monotonic()
            delays.append((asked - since) * 1000)
        p50, p99 = numpy.percentile(delays, [50, 99])
        click.echo(
            f"the last node knows a new endpoint after: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {max(delays):.1f} ms"
        )
        count, since = commands(redis), time.monotonic()
        for number in range(500):
            agents.append(register(upstreams[number % 3], f"more-{number}"))
            time.sleep(max(0, since + (number + 1) / 100 - time.monotonic()))
        rate = (commands(redis) - count) / (time.monotonic() - since)
        click.echo(f"Redis, at 100 registrations/s: {rate:.0f} commands/s")


if __name__ == "__main__":
    main()
