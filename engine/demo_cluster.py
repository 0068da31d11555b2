"""Three nodes that share a Redis, one of which is killed before the reader's eyes: `trioduct demo --cluster`.

    clients -> node 1, node 3           node 2 <= agent
                 ^= agent                (killed with -9, and started again)

Nodes, agents and redis-server are child processes on free ports of 127.0.0.1; service and clients are tasks.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TextIO

import trio

from engine.demo import ask, start_service
from engine.errors import Refused, Unreachable
from engine.loop.leaving import open_stop_signals

CLIENTS = 4  # of each node that is asked
START_SECONDS = 30
QUIET_SECONDS = 3
LOST_SECONDS = 6


@dataclass
class Counter:
    """What became of the clients' requests."""

    ok: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Ports:
    """Of a node."""

    proxy: int
    upstream: int
    admin: int


async def run_cluster_demo(once: bool, *, out: TextIO = sys.stdout) -> int:
    """Start all of it, kill a node and start it again, and count requests meanwhile.

    Stays until SIGINT or SIGTERM, unless `once`. Returns the exit code: 0 if requests were served, and no more failed
    than may have been in flight. Raises Refused where redis-server is missing, and Unreachable (in a group) when a part
    does not start.
    """
    if shutil.which("redis-server") is None:
        raise Refused("nodes of a cluster share a Redis, and redis-server is not installed (apt install redis-server)")

    def say(text: str = "") -> None:
        print(text, file=out, flush=True)

    with _child_processes() as start:
        async with trio.open_nursery() as nursery:
            redis, *free = _free_ports(10)
            nodes = [Ports(*free[number : number + 3]) for number in (0, 3, 6)]
            start_node = partial(_start_node, start, redis)
            with trio.move_on_after(START_SECONDS) as starting:
                folder = tempfile.gettempdir()
                start("redis-server", "--port", str(redis), "--bind", "127.0.0.1", "--save", "", "--dir", folder)
                await _wait_open(redis)
                running = [start_node(number, ports) for number, ports in enumerate(nodes, 1)]
                service = await start_service(nursery)
                for ports in nodes[:2]:
                    await _wait_open(ports.admin)
                    start(*_COMMAND, "agent", "http", "demo", str(service), "--access-log.disable", "--log.level=error",
                          f"--connect.url=http://127.0.0.1:{ports.upstream}")  # fmt: skip
                for ports in nodes:
                    await _wait_served(ports.proxy)
            if starting.cancelled_caught:
                raise Unreachable(f"nodes, agents and Redis did not find each other within {START_SECONDS} s")

            say(f"A cluster on 127.0.0.1: redis-server :{redis}, and three nodes for clients and agents:\n")
            for number, ports in enumerate(nodes, 1):
                agent = ", has an agent for `demo`" if number < 3 else ", has none, and sends requests to the others"
                say(f"  node {number}  clients :{ports.proxy}  agents :{ports.upstream}  admin :{ports.admin}{agent}")
            say(f"\n  trioduct server status cluster nodes --server.url http://127.0.0.1:{nodes[0].admin}")
            say(f"  curl -H 'x-piko-endpoint: demo' http://127.0.0.1:{nodes[2].proxy}/\n")
            say(f"{2 * CLIENTS} clients ask nodes 1 and 3, one request after the other.\n")
            counter = Counter()
            for ports in (nodes[0], nodes[2]):
                for _ in range(CLIENTS):
                    nursery.start_soon(_ask_on, ports.proxy, counter)
            await _watch(counter, QUIET_SECONDS, say)
            running[1].kill()
            say("  kill -9 of node 2")
            await _watch(counter, LOST_SECONDS, say)
            running[1] = start_node(2, nodes[1])
            say("  node 2 is started again")
            await _watch(counter, LOST_SECONDS, say)
            say(f"\n{counter.ok} requests succeeded, {counter.failed} failed.")
            if not once:
                say("\nKill nodes or Redis yourself, and see; Ctrl-C ends it.\n")
                with open_stop_signals() as signals:
                    nursery.start_soon(_watch, counter, float("inf"), say)
                    await anext(signals)
            nursery.cancel_scope.cancel()
    return 0 if counter.ok and counter.failed <= 2 * CLIENTS else 1


_COMMAND = (sys.executable, "-m", "engine")


def _start_node(
    start: Callable[..., subprocess.Popen[bytes]], redis: int, number: int, ports: Ports
) -> subprocess.Popen[bytes]:
    return start(
        *_COMMAND,
        "server",
        f"--cluster.node-id=node-{number}",
        f"--cluster.store=redis://127.0.0.1:{redis}",
        "--cluster.name=demo",
        f"--proxy.bind-addr=127.0.0.1:{ports.proxy}",
        f"--upstream.bind-addr=127.0.0.1:{ports.upstream}",
        f"--admin.bind-addr=127.0.0.1:{ports.admin}",
        "--proxy.access-log.disable",
        "--log.level=error",
    )


@contextmanager
def _child_processes() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """What starts child processes, which end with the block."""
    environment = os.environ | {"TRIODUCT_CLUSTER_SECRET": secrets.token_hex(32)}
    with ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen[bytes]:
            # A terminal's Ctrl-C goes to every process of the group, and is ours to handle.
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(
                words, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


async def _wait_open(port: int) -> None:
    while True:
        try:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        except OSError:
            await trio.sleep(0.05)
        else:
            return


async def _wait_served(port: int) -> None:
    while not await _served(port):  # noqa: ASYNC110 - another process sends no events
        await trio.sleep(0.05)


async def _served(port: int) -> bool:
    try:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            status, _ = await ask(stream, "demo")
    except (OSError, Unreachable, trio.BrokenResourceError):
        return False
    return status == 200


async def _ask_on(port: int, counter: Counter) -> None:
    """One client: a connection that is kept, and another one when it is lost."""
    while True:
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                while True:
                    status, _ = await ask(stream, "demo")
                    if status == 200:
                        counter.ok += 1
                    else:
                        counter.failed += 1
                    await trio.sleep(0.005)
        except (OSError, Unreachable, trio.BrokenResourceError):
            counter.failed += 1
            await trio.sleep(0.05)


async def _watch(counter: Counter, seconds: float, say: Callable[[str], None]) -> None:
    """A line each second."""
    with trio.move_on_after(seconds):
        while True:
            await trio.sleep(1)
            say(f"  {counter.ok:7} ok {counter.failed:5} failed")
