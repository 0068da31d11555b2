"""What datagrams cost in a tunnel: `python -m perf.experiments.udp --rounds 9`.

One client asks echo services in turn, a round at a time: without a tunnel, through `forward udp`, and the same bytes
through `forward tcp`. It asks one question at a time, for the round trip; then as many at once as `--window` says, for
how many pass. At last it sends datagrams as fast as it can, and counts how many come back.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from os import getloadavg

import click
import psutil

from perf.experiments.cluster import start, wait_open
from perf.topologies.processes import free_port

UDP_ECHO = """import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
sock.bind(("127.0.0.1", {port}))
while True:
    data, name = sock.recvfrom(65536)
    sock.sendto(data, name)
"""
TCP_ECHO = """import socket, threading
def serve(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while data := sock.recv(65536):
            sock.sendall(data)
    except ConnectionResetError:
        pass
listener = socket.create_server(("127.0.0.1", {port}))
while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"""
WAIT_SECONDS = 1.0  # for an answer that may be lost
WAYS = ("bare", "udp", "tcp")


class Client:
    """A connected socket, and how to hear an answer on it."""

    def __init__(self, kind: int, port: int, size: int) -> None:
        self.sock = socket.socket(socket.AF_INET, kind)
        self.sock.connect(("127.0.0.1", port))
        self.sock.settimeout(WAIT_SECONDS)
        self.size = size
        if kind == socket.SOCK_STREAM:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.hear: Callable[[], bool] = self._hear_bytes if kind == socket.SOCK_STREAM else self._hear_datagram

    def say(self) -> None:
        self.sock.send(bytes(self.size))

    def _hear_bytes(self) -> bool:
        left = self.size
        while left:
            left -= len(self.sock.recv(left))
        return True

    def _hear_datagram(self) -> bool:
        """False: it was lost."""
        try:
            self.sock.recv(65536)
        except TimeoutError:
            return False
        return True

    def wait_way(self) -> None:
        for _ in range(60):
            self.say()
            if self.hear():
                return
        raise click.ClickException("nobody answers")


def round_trips(client: Client, seconds: float) -> list[float]:
    """Microseconds."""
    took, until = [], time.perf_counter() + seconds
    while (since := time.perf_counter()) < until:
        client.say()
        if client.hear():
            took.append((time.perf_counter() - since) * 1e6)
    return took


def rate(client: Client, window: int, seconds: float) -> float:
    """Answers a second with so many questions under way."""
    for _ in range(window):
        client.say()
    heard, since = 0, time.perf_counter()
    while (now := time.perf_counter()) - since < seconds:
        heard += client.hear()
        client.say()
    for _ in range(window):
        client.hear()
    return heard / (now - since)


def flood(client: Client, seconds: float) -> tuple[int, int]:
    """How many were sent, and came back."""
    sent, until = 0, time.perf_counter() + seconds
    heard = 0
    client.sock.setblocking(False)
    while time.perf_counter() < until:
        client.say()
        sent += 1
        try:
            while True:
                client.sock.recv(65536)
                heard += 1
        except BlockingIOError:
            pass
    client.sock.settimeout(WAIT_SECONDS)
    while client.hear():
        heard += 1
    return sent, heard


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """What they have used together."""
    return sum(used.user + used.system for used in (process.cpu_times() for process in processes))


@click.command()
@click.option("--rounds", default=9, show_default=True)
@click.option("--seconds", default=1.0, show_default=True, help="Of each in a round.")
@click.option("--size", default=64, show_default=True, help="Bytes of a datagram.")
@click.option("--window", default=32, show_default=True)
def main(rounds: int, seconds: float, size: int, window: int) -> None:
    proxy, upstream, admin, udp_service, tcp_service, udp_port, tcp_port = (free_port() for _ in range(7))
    engine = (sys.executable, "-m", "engine")
    with ExitStack() as stack:
        binds = zip(("proxy", "upstream", "admin"), (proxy, upstream, admin), strict=True)
        flags = [word for name, number in binds for word in (f"--{name}.bind-addr", f"127.0.0.1:{number}")]
        tunnel = [start(stack, *engine, "server", *flags, "--proxy.access-log.disable", "--log.level", "error")]
        start(stack, sys.executable, "-c", UDP_ECHO.format(port=udp_service))
        start(stack, sys.executable, "-c", TCP_ECHO.format(port=tcp_service))
        wait_open(proxy)
        wait_open(tcp_service)
        for kind, service, port in (("udp", udp_service, udp_port), ("tcp", tcp_service, tcp_port)):
            node = ("--log.level", "error", "--connect.url")
            agent = ("agent", kind, kind, str(service), *node, f"http://127.0.0.1:{upstream}")
            forward = ("forward", kind, str(port), kind, *node, f"http://127.0.0.1:{proxy}")
            tunnel += [start(stack, *engine, *agent), start(stack, *engine, *forward)]
        wait_open(tcp_port)
        time.sleep(3)
        clients = {
            "bare": Client(socket.SOCK_DGRAM, udp_service, size),
            "udp": Client(socket.SOCK_DGRAM, udp_port, size),
            "tcp": Client(socket.SOCK_STREAM, tcp_port, size),
        }
        for client in clients.values():
            client.wait_way()
        trips: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        costs: dict[str, list[float]] = {way: [] for way in WAYS}
        floods = []
        for number in range(rounds):
            for way in sorted(WAYS, reverse=bool(number % 2)):
                trips[way].append(sorted(round_trips(clients[way], seconds)))
                before = cpu_seconds(tunnel)
                rates[way].append(rate(clients[way], window, seconds))
                costs[way].append((cpu_seconds(tunnel) - before) / (rates[way][-1] * seconds) * 1e6)
            floods.append(flood(clients["udp"], seconds))
        click.echo(f"{rounds} rounds of {seconds:g} s, {size} bytes, load {getloadavg()[0]:.1f}")
        for way in WAYS:
            middles = [statistics.median(took) for took in trips[way]]
            lasts = [took[len(took) * 99 // 100] for took in trips[way]]
            trip = f"round trip p50 {statistics.median(middles):6.0f} us, p99 {statistics.median(lasts):6.0f} us"
            per_second, cost = statistics.median(rates[way]), statistics.median(costs[way])
            many = f"{window} at once {per_second:7.0f}/s, {cost:3.0f} us of CPU"
            of_tcp = ", ".join(f"{ratio:.2f}" for ratio in ratios(way, trips, rates))
            click.echo(f"{way:5} {trip}; {many}; of tcp: {of_tcp}")
        shares = [f"{heard / seconds:.0f} of {sent / seconds:.0f}" for sent, heard in floods]
        click.echo(f"as many as can be, both ways, a second: {', '.join(shares)}")


def ratios(way: str, trips: dict[str, list[list[float]]], rates: dict[str, list[float]]) -> tuple[float, float]:
    """Of p50 and of the rate, to those of `forward tcp` in the same round: the medians."""
    middles = [
        statistics.median(mine) / statistics.median(theirs)
        for mine, theirs in zip(trips[way], trips["tcp"], strict=True)
    ]
    many = [mine / theirs for mine, theirs in zip(rates[way], rates["tcp"], strict=True)]
    return statistics.median(middles), statistics.median(many)


if __name__ == "__main__":
    main()
