"""One node, its agents and a service, for faults that need no cluster.

    clients with books -> node -> agents -> origin

What a fault does to the network happens in a namespace of its own (`in_a_namespace`), where this machine's other
traffic is not.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from tests.origin import open_origin
from tests.programs import TRIODUCT, Node, Program, Programs, get, open_programs
from tests.roles import Roles

_MARK = "IN_A_NAMESPACE_OF_ITS_OWN"


class Alone:
    """All that runs. `clients` is the port that clients ask."""

    def __init__(self, programs: Programs, folder: Path, origin: int, nursery: trio.Nursery) -> None:
        self.programs = programs
        self.folder = folder
        self.origin = origin
        self.nursery = nursery
        self.roles = Roles(nursery)  # scripted services, and clients
        self.node = Node(programs, options=("--proxy.access-log.disable", "--grace-period=20s"))

    @property
    def clients(self) -> int:
        return self.node.proxy

    async def start(
        self, *options: str, around: tuple[str | Path, ...] = (), env: dict[str, str] | None = None
    ) -> Program:
        """The node, as the last words of the command `around`, which becomes it."""
        words = [*around, *self.node.words(), *options]
        return await self.programs.start(*words, port=self.node.admin, env=env)

    async def agent(
        self,
        *options: str,
        endpoint: str = "web",
        service: int | None = None,
        kind: str = "http",
        around: tuple[str | Path, ...] = (),
        env: dict[str, str] | None = None,
    ) -> Program:
        """An agent that is registered. An option that comes twice counts the second time."""
        words = [*around, TRIODUCT, "agent", kind, endpoint, str(service or self.origin), "--access-log.disable"]
        words.append(f"--connect.url=http://127.0.0.1:{self.node.upstream}")
        sessions = (await self.node.endpoints()).get(endpoint, 0)
        agent = await self.programs.start(*words, *options, env=env)
        await self.node.wait_registered(endpoint, sessions + 1)
        return agent

    async def agents(self, number: int, processes: int, *options: str) -> list[Program]:
        """So many agents of as many endpoints (e0, e1, …), all registered, in a few processes."""
        started = []
        for first in range(processes):
            listeners = "".join(
                f"  - {{endpoint_id: e{index}, addr: '{self.origin}', access_log: {{disable: true}}}}\n"
                for index in range(first, number, processes)
            )
            path = self.folder / f"agents-{first}.yaml"
            url = f"http://127.0.0.1:{self.node.upstream}"
            path.write_text(f"connect: {{url: '{url}', timeout: 5m}}\nlisteners:\n{listeners}")
            words = [TRIODUCT, "agent", "start", "--config.path", str(path), "--log.level=error", *options]
            started.append(await self.programs.start(*words))
        while len(await self.node.endpoints()) < number:  # noqa: ASYNC110, the node sends no events
            await trio.sleep(0.1)
        return started

    async def number(self, metric: str) -> float:
        """A metric of the node, summed over its labels; 0 if it has none."""
        _, said = await get(self.node.admin, "/metrics")
        return sum(map(float, re.findall(rf"^{metric}(?:\{{[^}}]*\}})? ([0-9.e+-]+)$", said, re.MULTILINE)))


@asynccontextmanager
async def open_alone(folder: Path, *, seconds: float) -> AsyncIterator[Alone]:
    async with open_programs(seconds) as programs, open_origin() as origin, trio.open_nursery() as nursery:
        yield Alone(programs, folder, origin, nursery)
        nursery.cancel_scope.cancel()


# What faults do ---------------------------------------------------------------------------------------------


def in_a_namespace() -> None:
    """Start this program again, with the same arguments, where no other's traffic is: in namespaces of the network and
    of mounts. Needs root, or a kernel that lets anybody.
    """
    if _MARK in os.environ:
        del os.environ[_MARK]
        run("ip", "link", "set", "lo", "up", "mtu", "1500")
        return
    rootless = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    command = ["unshare", *rootless, "--net", "--mount", sys.executable, "-m", "tests.faults", *sys.argv[1:]]
    os.execvpe("unshare", command, os.environ | {_MARK: "1"})


def run(*command: str | Path, said: str = "") -> str:
    """What a command says that has ended well. Raises CalledProcessError."""
    path = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or command[0]
    done = subprocess.run([path, *command[1:]], input=said, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}{done.stdout}")
    return done.stdout


@contextmanager
def rules(port: int, verdict: str, *, more: str = "") -> Iterator[None]:
    """What becomes of the packets from and to `port` (of connections that match `more` as well) in the block."""
    table = f"""
table inet faults {{
    chain input {{
        type filter hook input priority 0;
        tcp dport {port} {more.replace("PEER", "sport")} {verdict}
        tcp sport {port} {more.replace("PEER", "dport")} {verdict}
    }}
}}
"""
    run("nft", "-f", "-", said=table)
    try:
        yield
    finally:
        run("nft", "delete", "table", "inet", "faults")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def cpu_share(pid: int, seconds: float) -> float:
    """The share of a core that a process uses from now on."""
    since, before = trio.current_time(), cpu_seconds(pid)
    await trio.sleep(seconds)
    return (cpu_seconds(pid) - before) / (trio.current_time() - since)


def more_descriptors(number: int) -> None:
    """This process, and what it starts, may have so many open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, max(hard, number)))


async def all_of(number: int, at_once: int, one: Callable[[int], Awaitable[None]]) -> None:
    """Call `one` with each number below `number`, so many of them at once."""
    numbers = iter(range(number))

    async def some() -> None:
        for index in numbers:
            await one(index)

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(some)
