"""What one tenant of a node does to another: `python -m perf.experiments.neighbours`.

Two tenants, each with its own agent, service, keys and tokens, share a node. One, the victim, sends a request every
10 ms and wants to know how long it has to wait; the other does something within or beyond its limits, by four
processes. There are two nodes, one with the limits that it has by default and one with rates for each tenant as well.
In each round, and at each node, the victim is measured alone and right then beside the other, so each ratio has its own
calm.

All come from addresses of this machine, for which there are no limits of an address.
"""

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import click
import trio

from perf.attacks.weapons import ATTACKED
from perf.loads.drive import drive
from perf.loads.target import Target
from perf.loads.victim import Victim
from perf.priority import ATTACKERS, VICTIM, prioritize
from perf.topologies.build import SMALL_PATH
from perf.topologies.processes import Ground, free_port, open_ground
from perf.topologies.services.nginx import start_nginx, write_files

PROGRAM = Path(sys.executable).with_name("trioduct")
RATES = {"tenant_requests": 1000, "tenant_bytes": 50_000_000}
ENDPOINT = "web"
NEIGHBOURS = (
    ("steady", "400 requests/s, within every limit"),
    ("pipeline-present", "requests, as many as it can"),
    ("large-heads", "requests with heads of 27 KiB, as many as it can"),
    ("bulk", "four downloads, as fast as they go"),
    ("small-frames", "a TCP connection, in frames of a byte"),
    ("slow-readers", "500 downloads that are hardly read"),
    ("unread-uploads", "100 uploads that its service does not read"),
    ("silence", "400 connections that say nothing"),
    ("accepts", "new connections, as many as it can"),
    ("aborts", "requests that are left alone, as many as it can"),
    ("registrations", "registrations, as many as it can"),
    ("crowded-agents", "100 agents with 15 000 requests that they do not answer"),
)
CONNECTIONS = 4
BEGUN_SECONDS = 0.5


class Node(NamedTuple):
    """A node, and the way of its victim."""

    name: str
    proxy: int
    upstream: int
    target: Target
    token: Path  # of the neighbour


class Keys:
    """A key for each tenant, and what it has signed, in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.secrets = {tenant: secrets.token_hex(32) for tenant in ("victim", "neighbour")}

    def token(self, tenant: str) -> Path:
        key, token = self._folder / f"{tenant}.key", self._folder / f"{tenant}.token"
        key.write_text(self.secrets[tenant])
        key.chmod(0o600)
        words: list[str | Path] = [PROGRAM, "token", "--key-file", key, "--tenant", tenant, "--subject", "someone"]
        token.write_text(subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip())
        token.chmod(0o600)
        return token


async def start_node(ground: Ground, name: str, limits: dict[str, int], keys: Keys, services: dict[str, int]) -> Node:
    tenants = [{"id": tenant, "auth": {"hmac_secret_key": key}} for tenant, key in keys.secrets.items()]
    proxy, upstream, admin = (free_port() for _ in range(3))
    path = ground.directory / f"{name}.yaml"
    path.write_text(json.dumps({"proxy": {"tenants": tenants, "limits": limits}, "upstream": {"tenants": tenants}}))
    path.chmod(0o600)
    words: list[str | Path] = [
        PROGRAM,
        "server",
        "--config.path",
        path,
        "--proxy.access-log.disable",
        "--log.level=error",
    ]
    words += [f"--proxy.bind-addr=127.0.0.1:{proxy}", f"--upstream.bind-addr=127.0.0.1:{upstream}"]
    node = await ground.start("node", [*words, f"--admin.bind-addr=127.0.0.1:{admin}"])
    await node.answers_at(upstream)
    await node.answers_at(proxy)
    for tenant, endpoint, priority in (("victim", ENDPOINT, VICTIM), ("neighbour", ATTACKED, ATTACKERS)):
        words = [PROGRAM, "agent", "http", endpoint, str(services[tenant]), "--access-log.disable", "--log.level=error"]
        words += ["--connect.url", f"http://127.0.0.1:{upstream}", "--connect.token-file", keys.token(tenant)]
        prioritize((await ground.start("agent", words)).pid, priority)
    await trio.sleep(2)
    shown = keys.token("victim").read_text()
    headers = (("x-piko-endpoint", ENDPOINT), ("Authorization", f"Bearer {shown}"))
    return Node(name, proxy, upstream, Target("127.0.0.1", proxy, SMALL_PATH, headers), keys.token("neighbour"))


async def p99_of(node: Node, victim: Victim) -> tuple[float, int]:
    """In ms, and how many requests had no answer, or not the right one."""
    outcome = await drive(victim, node.target)
    found = outcome.percentiles()
    return (found.p99 if found is not None else float("nan")), sum(outcome.errors.values())


async def beside(node: Node, weapon: str, victim: Victim) -> tuple[float, int]:
    seconds = BEGUN_SECONDS + victim.warmup_seconds + victim.seconds + 1
    words = [sys.executable, "-m", "perf.attacks.weapons", weapon, "--seconds", f"{seconds:g}"]
    words += ["--proxy", str(node.proxy), "--upstream", str(node.upstream), "--token-file", str(node.token)]
    async with open_ground() as ground:
        for _ in range(CONNECTIONS):
            await ground.start("neighbour", words)
        await trio.sleep(BEGUN_SECONDS)
        return await p99_of(node, victim)


async def measure(only: tuple[str, ...], rounds: int, victim: Victim) -> None:
    with tempfile.TemporaryDirectory(prefix="trioduct-perf-") as files:
        write_files(Path(files))
        async with open_ground() as ground:
            keys = Keys(ground.directory)
            nginx, service = await start_nginx(ground, Path(files))
            prioritize(nginx.pid, VICTIM)
            sink = free_port()
            started = await ground.start("sink", [sys.executable, "-m", "perf.attacks.sink", "--port", str(sink)])
            await started.answers_at(sink)
            prioritize(started.pid, ATTACKERS)
            services = {"victim": service, "neighbour": sink}
            nodes = [await start_node(ground, "default", {}, keys, services)]
            nodes.append(await start_node(ground, "rates", RATES, keys, services))
            click.echo(f"load before: {os.getloadavg()[0]:.1f}\n")
            click.echo("| the neighbour | node | calm p99, ms | p99 beside it, ms | ratio | failed |")
            click.echo("|---|---|---|---|---|---|")
            for weapon, meaning in NEIGHBOURS:
                if only and weapon not in only:
                    continue
                seen: dict[str, list[tuple[float, float, int]]] = {node.name: [] for node in nodes}
                for _ in range(rounds):
                    for node in nodes:
                        calm, _ = await p99_of(node, victim)
                        p99, failed = await beside(node, weapon, victim)
                        seen[node.name].append((calm, p99, failed))
                        await trio.sleep(0.5)
                for name, rows in seen.items():
                    calms, p99s, failures = zip(*rows, strict=True)
                    ratios = [p99 / calm for calm, p99, _ in rows]
                    click.echo(
                        f"| {meaning} | {name} | {statistics.median(calms):.1f} | {statistics.median(p99s):.1f} "
                        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) | {sum(failures)} |"
                    )
            click.echo(f"\nload after: {os.getloadavg()[0]:.1f}")


@click.command()
@click.option("--only", metavar="NAME,…", default="", help=f"Of {', '.join(name for name, _ in NEIGHBOURS)}.")
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="Of each measuring.")
def main(only: str, rounds: int, seconds: float) -> None:
    """Measure how long one tenant waits beside another."""
    chosen = tuple(word for word in only.split(",") if word)
    for word in chosen:
        if word not in dict(NEIGHBOURS):
            raise click.BadParameter(f"there is no {word!r}", param_hint="--only")
    victim = Victim(seconds=seconds, warmup_seconds=0.3)
    trio.run(measure, chosen, rounds, victim)


if __name__ == "__main__":
    main()
