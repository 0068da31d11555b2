"""The rows of `trioduct-perf scale`."""

import http.client
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager

import msgspec
import trio

from perf.cgroups import cpu_group
from perf.contender import Contender
from perf.errors import LabError, LoadFailed
from perf.goals import at_least, at_most, keep_alive
from perf.loads.bulk import Download, Upload
from perf.loads.load import Load
from perf.probes.legs import family, ran_seconds
from perf.probes.machine import busy_seconds
from perf.record import Figure, Plan, Sample
from perf.rows import Heard, LoadRow, Measurable, Opened, Reach, apply, figures_of, planned, starting
from perf.scale.sides import PLAIN, SCALED, Sides, over_a_peer, with_words
from perf.topologies.build import Topology
from perf.topologies.shape import Service, Shape
from perf.topologies.tunnels.piko import ENDPOINT, ports_of

WORKERS: Mapping[str, int] = {SCALED: 2, PLAIN: 1}
REGISTERED_SECONDS = 20.0
BUSY = "machine busy %"


class SidedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One load on two programs, one for each side."""

    name: str
    title: str
    sides: Sides
    load: Load
    figures: tuple[Figure, ...]
    service: Service = Service.WEB
    most_rounds: int | None = None

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        shape = Shape(service=self.service)
        row = LoadRow(name=self.name, title=self.title, shape=shape, load=self.load, figures=self.figures)
        async with row.opened(self.sides[contender.name], plan, reach) as opened:
            yield opened


class WorkersRow(msgspec.Struct, frozen=True, kw_only=True):
    """One load on two workers and on one, each of which gets so much of a core (`cores`) and no more.

    So they are what is scarce, as on a machine that has a core for each, and the load, the agent and the service have
    the rest of this one. How busy each worker was, and the machine, is beside the requests.
    """

    name: str
    title: str
    sides: Sides
    load: Load
    cores: float
    most_rounds: int | None = None
    figures: tuple[Figure, ...] = (
        at_least("requests/s", 1.7),
        at_most("p50 ms"),
        at_most("CPU s/million"),
        *(Figure(f"worker {number} CPU %") for number in range(1, WORKERS[SCALED] + 1)),
        Figure(BUSY),
    )

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        count = WORKERS[contender.name]
        load = planned(self.load, plan)
        with ExitStack() as stack:
            groups = [stack.enter_context(cpu_group(self.cores)) for _ in range(count)]
            async with reach(Shape(), self.sides[contender.name]) as running:
                await _wait_registered(running, count)
                node, *children = (process.pid for process in family(running.pids["node"]))
                workers = children or [node]  # one has no supervisor
                if len(workers) != count:
                    raise LabError(f"{len(workers)} workers were started; expected {count}")
                for group, pid in zip(groups, workers, strict=True):
                    (group / "cgroup.procs").write_text(str(pid))

                def read() -> list[float]:
                    return [time.monotonic(), busy_seconds(), *map(ran_seconds, workers)]

                async def measure(heard: Heard) -> Sample:
                    before: list[float] = []
                    outcome, legs = await apply(load, running, heard, lambda: before.extend(read()))
                    if not outcome.finished:
                        raise LoadFailed("; ".join(outcome.doubts()))
                    seconds, busy, *used = (now - then for now, then in zip(read(), before, strict=True))
                    figures = figures_of(outcome, legs, self.figures)
                    figures |= {
                        f"worker {number} CPU %": 100 * one / outcome.seconds for number, one in enumerate(used, 1)
                    }
                    figures[BUSY] = 100 * busy / seconds / (os.cpu_count() or 1)
                    return Sample(figures, [outcome], legs)

                yield Opened(measure, running.commands(), lambda: running.pids)


async def _wait_registered(running: Topology, sessions: int) -> None:
    """Raises LabError if the agent does not get one session on each worker, which is chance in the end."""
    admin = ports_of(running.commands()["node"]).admin
    with trio.move_on_after(REGISTERED_SECONDS):
        while await trio.to_thread.run_sync(_sessions, admin) != sessions:
            running.check()
            await trio.sleep(0.1)
        return
    raise LabError(f"the agent has not got {sessions} sessions within {REGISTERED_SECONDS:g} s")


def _sessions(admin: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=5)
    try:
        connection.request("GET", "/status/upstream/endpoints")
        return int(json.loads(connection.getresponse().read()).get(ENDPOINT, 0))
    finally:
        connection.close()


def scale_rows(program: str = "trioduct", only: str | None = None, cores: float = 0.25) -> list[Measurable]:
    """All rows, or those whose names start with one of the words. Raises LabError for a word that starts none."""
    return starting(_rows(program, cores), only)


def _rows(program: str, cores: float) -> list[Measurable]:
    peer = over_a_peer(program)
    one = with_words(program, ("--workers", "1"), ())
    workers = with_words(program, *(("--workers", str(WORKERS[side])) for side in (SCALED, PLAIN)))
    requests = at_least("requests/s"), at_most("p50 ms"), at_most("p99 ms")
    cost = at_most("CPU s/million", 1.7), at_most("nodes' CPU s/million")
    down, up = Download(path="/bulk"), Upload()
    share = f"{100 * cores:g} % of a core each"
    rows: list[Measurable] = [
        SidedRow(
            name="peer-crowd",
            title="over a peer, a crowd",
            sides=peer,
            load=keep_alive(32, varied=True),
            figures=(*cost, *requests),
        ),
        SidedRow(
            name="peer-keepalive",
            title="over a peer, keep-alive, 32 connections",
            sides=peer,
            load=keep_alive(32),
            figures=(*cost, *requests),
        ),
        SidedRow(
            name="peer-down",
            title="over a peer, download",
            sides=peer,
            load=down,
            figures=(at_least("MB/s down", 0.7), at_most("CPU s/GB down")),
        ),
        SidedRow(
            name="peer-up",
            title="over a peer, upload",
            sides=peer,
            load=up,
            service=Service.OWN,
            figures=(at_least("MB/s up", 0.7), at_most("CPU s/GB up")),
        ),
        WorkersRow(
            name="workers-crowd",
            title=f"two workers and one, {share}, a crowd of 64",
            sides=workers,
            load=keep_alive(64, varied=True),
            cores=cores,
        ),
        WorkersRow(
            name="workers-keepalive",
            title=f"two workers and one, {share}, 64 connections",
            sides=workers,
            load=keep_alive(64),
            cores=cores,
        ),
        SidedRow(
            name="option-crowd",
            title="`--workers 1` and no such option, a crowd",
            sides=one,
            load=keep_alive(32, varied=True),
            figures=(*requests, at_most("CPU s/million")),
        ),
        SidedRow(
            name="option-down",
            title="`--workers 1` and no such option, download",
            sides=one,
            load=down,
            figures=(at_least("MB/s down"), at_most("CPU s/GB down")),
        ),
    ]
    return rows
