"""Faults, beside requests with books.

`python -m tests.faults F3 F15 --seconds 40` puts faults of that name into a cluster (see cluster.py) or a node (see
exchange.py, machine.py and network.py), each for about so long, and says what became of the requests. Exits with 1 if
something did not hold, and with 3 if all did, but something not in time.

`python -m tests.faults --minutes 5 --seed 1`: clients that do whatever they like. A node and its agents are processes
here. Agents are killed and started again, over and over; every fourth client speaks TLS. Exits with 0 if the node
lives, all that was answered was answered rightly, and nothing was counted as a defect.
"""

from __future__ import annotations

import re
import ssl
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import click
import trio
import trustme

from tests.faults import exchange, machine, network
from tests.faults.alone import Alone, in_a_namespace, open_alone
from tests.faults.bed import open_bed
from tests.faults.chaos import Chaos
from tests.faults.cluster import FAULTS, Outcome
from tests.origin import open_origin
from tests.programs import free_port, open_programs
from tests.system.ledger import load

TRIODUCT = str(Path(sys.executable).with_name("trioduct"))
ALONE: dict[str, Callable[[Alone, float], AsyncGenerator[Outcome, None]]] = {
    **exchange.FAULTS,
    **machine.FAULTS,
    **network.FAULTS,
}
DEFECTS = re.compile(rb"^trioduct_internal_errors_total\{.*\} ([0-9.]+)", re.MULTILINE)


async def run(minutes: float, seed: int) -> int:
    """The exit code."""
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    plain, secure = free_port(), free_port()
    seconds = minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        cert, key = Path(folder) / "cert.pem", Path(folder) / "key.pem"
        cert.write_bytes(b"".join(part.bytes() for part in pair.cert_chain_pems))
        key.write_bytes(pair.private_key_pem.bytes())
        async with open_programs(seconds + 60) as programs, open_origin() as origin, trio.open_nursery() as nursery:
            tls = (f"--proxy.tls.cert={cert}", f"--proxy.tls.key={key}")
            nodes, upstreams, admins = [], [], []
            for proxy, more in ((plain, ()), (secure, tls)):
                upstreams.append(free_port())
                admins.append(free_port())
                ports = zip(("proxy", "upstream", "admin"), (proxy, upstreams[-1], admins[-1]), strict=True)
                words = [TRIODUCT, "server", "--proxy.access-log.disable", *more]
                words += [f"--{name}.bind-addr=127.0.0.1:{port}" for name, port in ports]
                nodes.append(await programs.start(*words, port=proxy))

            async def agents(port: int, later_seconds: float) -> None:
                await trio.sleep(later_seconds)
                while True:
                    words = (TRIODUCT, "agent", "http", "web", str(origin), f"--connect.url=http://127.0.0.1:{port}")
                    agent = await programs.start(*words)
                    await trio.sleep(5)
                    agent.process.kill()
                    await agent.process.wait()

            for port in upstreams:
                nursery.start_soon(agents, port, 0.0)
                nursery.start_soon(agents, port, 2.5)
            clients = [Chaos(plain, seed + number) for number in range(9)]
            clients += [Chaos(secure, seed + 100 + number, context) for number in range(3)]
            for client in clients:
                nursery.start_soon(client.run)
            async with load(plain, clients=3, largest=50_000) as ledger:
                for second in range(round(seconds)):
                    await trio.sleep(1)
                    moves = sum(client.moves for client in clients)
                    click.echo(
                        f"\r{second + 1} s: {moves} moves, {ledger.whole} whole, {len(ledger.failed)} failed", nl=False
                    )
            click.echo()
            defects = sum([await defects_of(admin) for admin in admins])
            alive = [node.process.poll() is None for node in nodes]
            click.echo(f"nodes alive: {alive}; defects counted: {defects:g}")
            nursery.cancel_scope.cancel()
    return 0 if all(alive) and not defects else 1


async def defects_of(admin: int) -> float:
    """How many a node has counted."""
    async with await trio.open_tcp_stream("127.0.0.1", admin) as stream:
        await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        said = b"".join([part async for part in stream])
    return sum(map(float, DEFECTS.findall(said)))


async def run_faults(names: tuple[str, ...], seconds: float) -> int:
    """The exit code."""
    broken = late = False
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            async with AsyncExitStack() as stack:
                if name in FAULTS:
                    bed = await stack.enter_async_context(open_bed(Path(folder), seconds=10 * seconds + 200))
                    outcomes = FAULTS[name](bed, seconds)
                else:
                    alone = await stack.enter_async_context(open_alone(Path(folder), seconds=10 * seconds + 300))
                    outcomes = ALONE[name](alone, seconds)
                async for outcome in outcomes:
                    click.echo(outcome)
                    broken = broken or bool(outcome.broken)
                    late = late or bool(outcome.late)
    return 1 if broken else 3 if late else 0


@click.command()
@click.argument("faults", nargs=-1, type=click.Choice([*FAULTS, *ALONE]))
@click.option("--seconds", type=float, default=5.0, show_default=True, help="For each fault.")
@click.option("--minutes", type=float, default=5.0, show_default=True, help="Without a fault's name.")
@click.option("--seed", type=int, default=1, show_default=True)
def main(faults: tuple[str, ...], seconds: float, minutes: float, seed: int) -> None:
    """Put faults into a cluster, or a node under clients that do whatever they like."""
    if set(faults) & {*network.FAULTS, "F26"}:
        in_a_namespace()
    sys.exit(trio.run(partial(run_faults, faults, seconds) if faults else partial(run, minutes, seed)))


if __name__ == "__main__":
    main()
