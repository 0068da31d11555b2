"""The rows of `trioduct-perf attack`: a victim's latency without an attack and with it, for each program."""

import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import trio

from perf.attacks.weapons import ATTACKED, SLOWHTTPTEST, WEAPONS
from perf.cgroups import memory_group
from perf.contender import Contender
from perf.errors import LabError, LoadFailed, MissingProgram
from perf.loads.victim import Victim
from perf.priority import ATTACKERS, VICTIM, prioritize
from perf.probes.legs import read_leg
from perf.record import Better, Figure, Goal, Plan, Sample
from perf.rows import Heard, Measurable, Opened, Reach, apply, figures_of, starting
from perf.topologies.build import Topology
from perf.topologies.processes import Ground, free_port, open_ground
from perf.topologies.shape import Shape
from perf.topologies.tunnels.piko import PikoLike, ports_of

BEGUN_SECONDS = 0.5  # after which an attack is under way
CROWD_SECONDS = 6.0  # the same where thousands of connections are made first
CROWDS = ("idle", "slowhttptest")
LOOK_SECONDS = 0.1  # between two looks at the node's memory

P99 = Figure("p99 ms", Better.LOWER)
FIGURES = (
    Figure("calm p99 ms", Better.LOWER),
    Figure("p50 ms", Better.LOWER),
    P99,
    Figure("max ms", Better.LOWER, Goal(30.0, absolute=True)),
    Figure("failed", Better.LOWER, Goal(0.0, absolute=True)),
    Figure("node MiB", Better.LOWER),
)
SCARCE = (*FIGURES, Figure("reconnects", Better.LOWER))
"""With few descriptors, the victim's idle connections are closed for others."""


class AttackRow(msgspec.Struct, frozen=True, kw_only=True):
    """One attack, by so many processes. `memory_mib` bounds the node's memory (a cgroup), `descriptors` its files."""

    name: str
    title: str
    weapon: str
    connections: int
    memory_mib: int | None = None
    descriptors: int | None = None
    figures: tuple[Figure, ...] = FIGURES
    most_rounds: int | None = None

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        """Each round starts everything anew: what a node still has to do after an attack (a socket's buffer full of
        one-byte frames is work for half a minute) would be paid for by the other program's round.
        """
        if not isinstance(contender.tunnel, PikoLike):
            raise LabError(f"{contender.name}: an attack needs a program with Piko's command line")
        program = contender.tunnel.program()
        if self.weapon.startswith(SLOWHTTPTEST) and shutil.which(SLOWHTTPTEST) is None:
            raise MissingProgram(f"{SLOWHTTPTEST} is not installed; Debian has it in a package of that name")
        commands: dict[str, str] = {}

        async def measure(heard: Heard) -> Sample:
            said = {"TRIODUCT_PROXY_HTTP2": "true"} if self.weapon.startswith("http2") else {}
            with _bounded(self.memory_mib, self.descriptors, program, said) as bounded:
                started = msgspec.structs.replace(contender, tunnel=PikoLike(contender.name, path=bounded))
                shape = Shape(secure=self.weapon == "handshakes", access_log=self.weapon == "like-secrets")
                async with reach(shape, started) as running, open_ground() as ground:
                    commands.update(running.commands())
                    return await self._attack(running, ground, program, plan, heard)

        yield Opened(measure, commands)

    async def _attack(self, running: Topology, ground: Ground, program: Path, plan: Plan, heard: Heard) -> Sample:
        for leg in ("agent", "service"):
            prioritize(running.pids[leg], VICTIM)
        ports = ports_of(running.commands()["node"])
        if self.weapon != "handshakes":
            await _attacked_endpoint(ground, program, ports.upstream)
        victim = Victim(seconds=plan.seconds, warmup_seconds=plan.warmup_seconds)
        calm, _ = await apply(victim, running, heard)
        begun = CROWD_SECONDS if self.weapon.startswith(CROWDS) else BEGUN_SECONDS
        seconds = begun + plan.warmup_seconds + plan.seconds
        argv = [sys.executable, "-m", "perf.attacks.weapons", self.weapon, "--seconds", f"{seconds + 1:g}"]
        argv += ["--proxy", str(ports.proxy), "--upstream", str(ports.upstream)]
        for _ in range(self.connections):
            await ground.start("attacker", argv)
        await trio.sleep(begun)
        most = 0
        failure: LabError | None = None

        async def look() -> None:
            nonlocal most
            while True:
                most = max(most, read_leg(running.pids["node"]).resident_bytes)
                await trio.sleep(LOOK_SECONDS)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            try:
                outcome, legs = await apply(victim, running, heard)
            except LabError as error:
                failure = error  # not out of a nursery, which would wrap it
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if not outcome.latency or not calm.latency:
            raise LoadFailed("; ".join(outcome.doubts()))
        figures = {f"calm {name}": value for name, value in figures_of(calm, {}, (P99,)).items()}
        figures |= figures_of(outcome, legs, self.figures)
        figures |= {"failed": sum(outcome.errors.values()), "node MiB": most / 2**20}
        if SCARCE[-1] in self.figures:
            figures["reconnects"] = outcome.reconnects
        return Sample(figures, [outcome], legs)


def attack_rows(
    only: str | None = None, memory_mib: int | None = None, descriptors: int | None = None
) -> list[Measurable]:
    """Each attack by one and by four connections, or those whose names start so. Raises LabError for a word that starts
    none.
    """
    rows: list[Measurable] = [
        AttackRow(
            name=f"{name}-{connections}",
            title=f"{name.replace('-', ' ')}, {connections} at once",
            weapon=name,
            connections=connections,
            memory_mib=memory_mib,
            descriptors=descriptors,
            figures=FIGURES if descriptors is None else SCARCE,
        )
        for name in WEAPONS
        for connections in (1, 4)
    ]
    return starting(rows, only)


async def _attacked_endpoint(ground: Ground, program: Path, upstream: int) -> None:
    """An agent and a service of its own for the endpoint that is attacked: the victim shares only the node.

    Like the attackers, they stand for other machines.
    """
    port = free_port()
    service = await ground.start("sink", [sys.executable, "-m", "perf.attacks.sink", "--port", str(port)])
    await service.answers_at(port)
    url = f"http://127.0.0.1:{upstream}"
    words = ["agent", "http", ATTACKED, f"127.0.0.1:{port}", "--connect.url", url, "--access-log.disable"]
    agent = await ground.start("attacked agent", [program, *words, "--log.level", "warn"])
    for started in (service, agent):
        prioritize(started.pid, ATTACKERS)
    await trio.sleep(1)


@contextmanager
def _bounded(memory_mib: int | None, descriptors: int | None, program: Path, said: Mapping[str, str]) -> Iterator[Path]:
    """A program that runs `program`, a node within these bounds and with this in its environment. Raises LabError where
    no memory cgroup can be made.
    """
    bounds = [f"export {name}={value}" for name, value in said.items()]
    bounds += [] if descriptors is None else [f"ulimit -n {descriptors}"]
    with ExitStack() as stack:
        if memory_mib is not None:
            bounds.append(f"echo $$ > {stack.enter_context(memory_group(memory_mib))}/cgroup.procs")
        if not bounds:
            yield program
            return
        script = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trioduct-perf-"))) / "program"
        lines = "".join(f'[ "$1" = server ] && {bound}\n' for bound in bounds)
        script.write_text(f'#!/bin/sh\n{lines}exec {program.absolute()} "$@"\n')
        script.chmod(0o755)
        yield script
