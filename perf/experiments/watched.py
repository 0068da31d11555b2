"""What it costs to be looked at: `python -m perf.experiments.watched inspector` and `… dashboard`.

`inspector`: agents of one node, without an inspector, with one, and with one whose list is open. `dashboard`: nodes,
one that nobody looks at, one whose dashboard is open, and one that `trioduct top` shows; each has sessions for many
endpoints. Whoever looks reads what a page reads and draws nothing, for a browser would be on another machine.

The sides get load in turn, a round at a time. Where `--rate` is said, requests leave at that rate, as those of people
do; without it, as fast as answers come. All of it goes before what else this machine does, as far as the user may.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import click
import psutil
import trio
from trio_websocket import open_websocket_url

from perf.loads.closed import Closed
from perf.loads.drive import drive
from perf.loads.load import Load
from perf.loads.outcome import Outcome
from perf.loads.target import Target
from perf.loads.victim import Victim
from perf.priority import VICTIM, prioritize
from perf.topologies.build import SMALL_PATH
from perf.topologies.processes import Ground, Started, find_program, free_port, open_ground
from perf.topologies.services.nginx import start_nginx, write_files

PROGRAM = Path(sys.executable).with_name("trioduct")
TOKEN = "a-token-for-the-experiment"
SUBJECTS = ("inspector", "dashboard")
ANSWER_SECONDS = 20.0
TRIES = 10


@dataclass
class Side:
    """What is measured, and in which process it is looked at. The first of several is what the others are beside."""

    name: str
    target: Target
    watched: psutil.Process
    late: int = 0  # rounds that did not count
    outcomes: list[Outcome] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # µs of the process, for each request

    def percentiles(self, name: str) -> list[float]:
        """Of each round, in ms."""
        return [getattr(found, name) for one in self.outcomes if (found := one.percentiles()) is not None]


async def start(ground: Ground, name: str, *words: str | Path) -> Started:
    """`trioduct` with these words."""
    started = await ground.start(name, [PROGRAM, *words, "--log.level=error"])
    prioritize(started.pid, VICTIM)
    return started


async def start_node(ground: Ground) -> tuple[Started, int, int, int]:
    """A node, and its ports."""
    proxy, upstream, admin = (free_port() for _ in range(3))
    binds = zip(("proxy", "upstream", "admin"), (proxy, upstream, admin), strict=True)
    words = [f"--{name}.bind-addr=127.0.0.1:{port}" for name, port in binds]
    node = await start(ground, "node", "server", *words, "--proxy.access-log.disable")
    await node.answers_at(admin)
    return node, proxy, upstream, admin


async def start_agent(ground: Ground, upstream: int, endpoints: Sequence[str], service: int, *words: str) -> Started:
    listeners = [{"endpoint_id": one, "addr": service, "access_log": {"disable": True}} for one in endpoints]
    path = ground.directory / f"{endpoints[0]}.yaml"
    path.write_text(json.dumps({"listeners": listeners, "connect": {"url": f"http://127.0.0.1:{upstream}"}}))
    return await start(ground, "agent", "agent", "start", "--config.path", path, *words)


async def side(name: str, proxy: int, endpoint: str, watched: Started) -> Side:
    """Once requests get through."""
    target = Target("127.0.0.1", proxy, SMALL_PATH, (("x-piko-endpoint", endpoint),))
    with trio.fail_after(ANSWER_SECONDS):
        while True:
            async with await trio.open_tcp_stream(target.host, target.port) as stream:
                await stream.send_all(target.request())
                if b" 200 " in await stream.receive_some():
                    return Side(name, target, psutil.Process(watched.pid))
            await trio.sleep(0.1)


async def read_list(port: int) -> None:
    """As an inspector's page does, for ever: the stream of news ends after some seconds, and is asked for again."""
    asked = f"GET /{TOKEN}/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    while True:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(asked.encode())
            async for _ in stream:
                pass
        await trio.sleep(0.1)


async def read_dashboard(port: int) -> None:
    """As a dashboard's page does, for ever."""
    async with open_websocket_url(f"ws://127.0.0.1:{port}/dashboard/live") as feed:
        while True:
            await feed.get_message()


@asynccontextmanager
async def open_inspectors(ground: Ground, service: int) -> AsyncIterator[list[Side]]:
    _, proxy, upstream, _ = await start_node(ground)
    sides, ports = [], {"inspected": free_port(), "list open": free_port()}
    for name in ("not inspected", *ports):
        endpoint = name.replace(" ", "-")
        words = (f"--inspect=127.0.0.1:{ports[name]}", f"--inspect.token={TOKEN}") if name in ports else ()
        agent = await start_agent(ground, upstream, [endpoint], service, *words)
        sides.append(await side(name, proxy, endpoint, agent))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_list, ports["list open"])
        yield sides
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_dashboards(ground: Ground, service: int, sessions: int) -> AsyncIterator[list[Side]]:
    sides, admins = [], {}
    for name in ("nobody looks", "dashboard open", "top"):
        node, proxy, upstream, admins[name] = await start_node(ground)
        endpoints = [f"{name.replace(' ', '-')}-{number}" for number in range(sessions)]
        await start_agent(ground, upstream, endpoints, service)
        sides.append(await side(name, proxy, endpoints[-1], node))
    top = f"{PROGRAM} top --server.url http://127.0.0.1:{admins['top']}"
    await ground.start("top", [find_program("script"), "-qec", top, "/dev/null"])  # a terminal for it
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_dashboard, admins["dashboard open"])
        yield sides
        nursery.cancel_scope.cancel()


async def measured_at(one: Side, load: Load) -> tuple[Side, Outcome, float]:
    """A side in a round, and the µs of its process for each request. Where the generator itself was late, the machine
    had stood still, and it is tried again.
    """
    for _ in range(TRIES):
        before = one.watched.cpu_times()
        outcome = await drive(load, one.target)
        after = one.watched.cpu_times()
        if not outcome.late:
            break
        one.late += 1
    busy = after.user - before.user + after.system - before.system
    return one, outcome, busy / outcome.answers * 1e6


async def measure(subject: str, rounds: int, load: Load, sessions: int) -> None:
    with tempfile.TemporaryDirectory(prefix="trioduct-perf-") as files:
        write_files(Path(files))
        async with open_ground() as ground:
            nginx, service = await start_nginx(ground, Path(files))
            prioritize(nginx.pid, VICTIM)
            opened = open_inspectors(ground, service)
            if subject == "dashboard":
                opened = open_dashboards(ground, service, sessions)
            async with opened as sides:
                for number in range(rounds + 1):
                    measured = [await measured_at(one, load) for one in sides[:: -1 if number % 2 else 1]]
                    if number:  # the first round warms up
                        for one, outcome, cpu in measured:
                            one.outcomes.append(outcome)
                            one.cpu.append(cpu)
    tell(sides)


def tell(sides: Sequence[Side]) -> None:
    """Medians of the rounds, for in some of them the machine stands still; in brackets where half of them lie."""
    first, late = sides[0], sum(one.late for one in sides)
    click.echo(f"load {os.getloadavg()[0]:.1f}; {len(first.outcomes)} rounds, and {late} with a late generator\n")
    click.echo("| | requests/s | p50, ms | p99, ms | beside the first | CPU of a request, µs | beside the first |")
    click.echo("|---|--:|--:|--:|--:|--:|--:|")
    for one in sides:
        rate = median(outcome.answers / outcome.seconds for outcome in one.outcomes)
        p50, p99 = one.percentiles("p50"), one.percentiles("p99")
        slower, dearer = median(p99) / median(first.percentiles("p99")), median(one.cpu) / median(first.cpu)
        told = (f"{rate:.0f}", f"{median(p50):.2f}", spread(p99), f"{slower:.2f}", spread(one.cpu), f"{dearer:.2f}")
        click.echo(f"| {one.name} | {' | '.join(told)} |")
    for one in sides:
        for error in {error for outcome in one.outcomes for error in outcome.errors}:
            click.echo(f"{one.name}: {error}")


def spread(values: Sequence[float]) -> str:
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return f"{middle:.3g} ({low:.3g}–{high:.3g})"


@click.command()
@click.argument("subject", type=click.Choice(SUBJECTS))
@click.option("--rounds", type=click.IntRange(2, 1000), default=25, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.2, 60), default=0.5, show_default=True, help="Of each in a round.")
@click.option("--connections", type=click.IntRange(1, 1000), default=8, show_default=True)
@click.option("--rate", type=click.FloatRange(0, 100_000), default=0.0, help="Requests per second.")
@click.option("--sessions", type=click.IntRange(1, 1000), default=100, show_default=True, help="Of each node.")
def main(subject: str, rounds: int, seconds: float, connections: int, rate: float, sessions: int) -> None:
    """Measure what clients notice of it."""
    load: Load = Closed(seconds=seconds, warmup_seconds=0.3, connections=connections)
    if rate:
        load = Victim(seconds=seconds, warmup_seconds=0.3, connections=connections, rate=rate)
    trio.run(measure, subject, rounds, load, sessions)


if __name__ == "__main__":
    main()
