"""How a row is measured: bring a topology up, apply a load for one round, read off its figures.

A row opened for a side is a function that measures one round; between rounds of its own it stands idle
while the other side has its turn (`perf.rounds`).
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol, Self

import msgspec
import trio

from perf.contender import Contender
from perf.errors import LabError, LoadFailed
from perf.loads.closed import Closed
from perf.loads.drive import drive
from perf.loads.load import Load
from perf.loads.open import Open
from perf.loads.outcome import Outcome, Progress
from perf.loads.wrk import Wrk
from perf.probes.legs import Usage, read_legs, used_between
from perf.probes.machine import busy_seconds
from perf.record import BY_US, Figure, Plan, Sample
from perf.statistics.histogram import Percentiles, answers_needed
from perf.topologies.build import Topology, topology
from perf.topologies.shape import Shape

KNEE = "knee, requests/s"
RAMP_STEPS, RAMP_FACTOR = 24, 1.4  # 24 steps lead from 500 to 1.1 million requests per second
OUTSIDE = ("service", "delay", "middlebox", "store")  # legs that are not what is measured
NODES = ("node", "peer")

Heard = Callable[[Progress], None]
Round = Callable[[Heard], Awaitable[Sample]]
Reach = Callable[[Shape, Contender], AbstractAsyncContextManager[Topology]]


class Opened(msgspec.Struct):
    """A row on one side, ready: call `measure` once per round; it tells its listener how it goes."""

    measure: Round
    commands: dict[str, str]
    pids: Callable[[], dict[str, int]] = dict


class Measurable(Protocol):
    """A row as `perf.rounds` uses it. `most_rounds` is for what hardly varies, or takes long."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def figures(self) -> tuple[Figure, ...]: ...
    @property
    def most_rounds(self) -> int | None: ...

    def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AbstractAsyncContextManager[Opened]: ...


class LoadRow(msgspec.Struct, frozen=True, kw_only=True):
    """One load on one topology."""

    name: str
    title: str
    shape: Shape
    load: Load
    figures: tuple[Figure, ...]
    most_rounds: int | None = None
    timed: bool = True  # the plan's seconds apply; else the load's own

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        async with reach(self.shape, contender) as running:
            load = planned(self.load, plan) if self.timed else self.load

            async def measure(heard: Heard) -> Sample:
                outcome, legs = await apply(load, running, heard)
                if not outcome.finished:
                    raise LoadFailed("; ".join(outcome.doubts()))
                return Sample(figures_of(outcome, legs, self.figures), [outcome], legs)

            yield Opened(measure, running.commands(), lambda: running.pids)


class WitnessRow(msgspec.Struct, frozen=True, kw_only=True):
    """wrk, and our own closed loop in turns with it: two witnesses of the same rate."""

    name: str
    title: str
    shape: Shape
    connections: int
    processes: int
    figures: tuple[Figure, ...]
    most_rounds: int | None = None

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        wrk = planned(Wrk(connections=self.connections, threads=self.processes), plan)
        ours = planned(Closed(connections=self.connections, processes=self.processes), plan)
        # wrk knows whole seconds only.
        ours = msgspec.structs.replace(ours, seconds=max(1, round(plan.seconds)))
        turns: list[Load] = [wrk, ours]
        async with reach(self.shape, contender) as running:

            async def measure(heard: Heard) -> Sample:
                done = {load: await apply(load, running, heard) for load in turns}
                turns.reverse()
                (by_wrk, legs), (by_us, _) = done[wrk], done[ours]
                figures = figures_of(by_wrk, legs, self.figures) | {BY_US: by_us.answers / by_us.seconds}
                return Sample(figures, [by_us, by_wrk], legs)

            yield Opened(measure, running.commands(), lambda: running.pids)


class RampRow(msgspec.Struct, frozen=True, kw_only=True):
    """An open loop at rising rates, to find the knee: the highest rate with p99 under a bound and without errors.

    Its last step is more than the machine can do, and most often also more than the generator can that shares it. A
    generator is only too late if without its lag p99 might have been under the bound.
    """

    name: str
    title: str
    shape: Shape
    load: Open
    bound_ms: float
    figures: tuple[Figure, ...] = (Figure(KNEE),)
    most_rounds: int | None = None

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        async with reach(self.shape, contender) as running:
            load = planned(self.load, plan)

            async def measure(heard: Heard) -> Sample:
                knee = 0.0
                outcomes: list[Outcome] = []
                legs: dict[str, Usage] = {}
                for step in range(RAMP_STEPS):
                    rate = self.load.rate * RAMP_FACTOR**step
                    outcome, legs = await apply(msgspec.structs.replace(load, rate=rate), running, heard)
                    outcomes.append(outcome)
                    if not self.bears(outcome):
                        break
                    knee = rate
                return Sample({KNEE: knee}, outcomes, legs)

            yield Opened(measure, running.commands(), lambda: running.pids)

    def bears(self, outcome: Outcome) -> bool:
        """Whether a step was borne; allows its generator the lag that has not decided it."""
        found = outcome.percentiles()
        if found is None or outcome.errors:
            outcome.lag_allowed_ms = 1000 * outcome.seconds  # whenever it had asked, there were errors
            return False
        beyond = found.p99 - self.bound_ms
        outcome.lag_allowed_ms = max(outcome.lag_allowed_ms, beyond if beyond > 0 else self.bound_ms)
        return beyond <= 0


class MixRow(msgspec.Struct, frozen=True, kw_only=True):
    """Several loads at the same time; each figure has its load's name before it."""

    name: str
    title: str
    shape: Shape
    loads: tuple[tuple[str, Load, tuple[Figure, ...]], ...]
    most_rounds: int | None = None

    @property
    def figures(self) -> tuple[Figure, ...]:
        return tuple(
            msgspec.structs.replace(figure, name=f"{name}: {figure.name}")
            for name, _, figures in self.loads
            for figure in figures
        )

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        async with reach(self.shape, contender) as running:

            async def measure(heard: Heard) -> Sample:
                together = Sample({})
                failures: list[LabError] = []
                async with trio.open_nursery() as nursery:

                    async def measure_one(name: str, load: Load, figures: tuple[Figure, ...]) -> None:
                        try:
                            outcome, legs = await apply(planned(load, plan), running, heard)
                        except LabError as error:
                            failures.append(error)
                            nursery.cancel_scope.cancel()
                            return
                        found = figures_of(outcome, legs, figures)
                        together.figures.update({f"{name}: {figure}": value for figure, value in found.items()})
                        outcome.others_cpu_seconds = 0  # among others that of the other loads
                        together.outcomes.append(outcome)
                        together.legs = legs  # of all the loads: nobody can tell whose work a process did

                    for one in self.loads:
                        nursery.start_soon(measure_one, *one)
                if failures:
                    raise failures[0]
                return together

            yield Opened(measure, running.commands(), lambda: running.pids)


class AccessLogRow(msgspec.Struct, frozen=True, kw_only=True):
    """What access logs cost: the same load on two topologies of the same program, in turns."""

    name: str
    title: str
    shape: Shape
    load: Load
    figures: tuple[Figure, ...]
    most_rounds: int | None = None

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        logged = msgspec.structs.replace(self.shape, access_log=True)
        load = planned(self.load, plan)
        async with reach(logged, contender) as on, reach(self.shape, contender) as off:

            async def measure(heard: Heard) -> Sample:
                silent, _ = await apply(load, off, heard)
                written, legs = await apply(load, on, heard)
                rate_off, rate_on = silent.answers / silent.seconds, written.answers / written.seconds
                cost = {"cost %": 100 * (1 - rate_on / rate_off) if rate_off else 0.0, "requests/s": rate_on}
                return Sample(cost, [silent, written], legs)

            yield Opened(measure, on.commands())


class IdleRow(msgspec.Struct, frozen=True, kw_only=True):
    """What an idle tunnel weighs: memory with so many listeners, less the memory with one."""

    name: str
    title: str
    shape: Shape
    figures: tuple[Figure, ...]
    most_rounds: int | None = 2

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        many = self.shape.listeners

        async def weigh(listeners: int) -> dict[str, Usage]:
            shape = msgspec.structs.replace(self.shape, listeners=listeners)
            async with reach(shape, contender) as running:
                return read_legs(running.pids)

        async def measure(heard: Heard) -> Sample:
            one, all_of_them = await weigh(1), await weigh(many)
            figures = {
                f"{leg} KiB": (all_of_them[leg].resident_bytes - one[leg].resident_bytes) / 1024 / (many - 1)
                for leg in ("node", "agent")
            }
            return Sample(figures, legs=all_of_them)

        yield Opened(measure, {})


class MemoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """Memory after a mix of loads, and how much more it is after the same mix again."""

    name: str
    title: str
    shape: Shape
    loads: tuple[Load, ...]
    figures: tuple[Figure, ...]
    most_rounds: int | None = 1

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        async with reach(self.shape, contender) as running:

            async def measure(heard: Heard) -> Sample:
                at_rest = read_legs(running.pids)
                readings, outcomes = [], []
                for _ in range(2):
                    for load in self.loads:
                        outcome, legs = await apply(planned(load, plan), running, heard)
                        outcomes.append(outcome)
                    readings.append(legs)
                first, second = readings
                figures = {}
                for leg in ("node", "agent"):
                    figures[f"{leg} MiB at rest"] = at_rest[leg].resident_bytes / 2**20
                    figures[f"{leg} MiB"] = first[leg].resident_bytes / 2**20
                    figures[f"{leg} growth %"] = 100 * (
                        second[leg].resident_bytes / (first[leg].resident_bytes or 1) - 1
                    )
                return Sample(figures, outcomes, second)

            yield Opened(measure, running.commands(), lambda: running.pids)


@asynccontextmanager
async def reached(asked: Shape, contender: Contender) -> AsyncIterator[Topology]:
    """What a row asks for, as the contender does it: a topology of processes, or a target that is there
    already.
    """
    shape = contender.shape(asked)
    if contender.target is not None:
        yield Topology(shape, contender.target)
        return
    async with topology(shape, contender.tunnel) as running:
        yield running


class Standing:
    """Topologies that outlive a row: the next one that asks a contender for the same shape finds it running.

    One that does not answer any more is replaced. All end with the context.
    """

    def __init__(self) -> None:
        self._all = AsyncExitStack()
        self._running: dict[tuple[Shape, Contender], Topology] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._all.aclose()

    @asynccontextmanager
    async def reach(self, asked: Shape, contender: Contender) -> AsyncIterator[Topology]:
        key = contender.shape(asked), contender
        running = self._running.get(key)
        if running is None or not await running.answers():
            running = self._running[key] = await self._all.enter_async_context(reached(asked, contender))
        yield running


async def apply(
    load: Load, running: Topology, heard: Heard, begun: Callable[[], None] = lambda: None
) -> tuple[Outcome, dict[str, Usage]]:
    """Apply a load and say what it did and what it cost each leg; `begun` is called when it is warm. Raises LabError if
    a process ended meanwhile.
    """
    readings: list[tuple[dict[str, Usage], float]] = []

    def read() -> None:
        readings.append((read_legs(running.pids), busy_seconds()))

    def begin() -> None:
        read()
        begun()

    running.check()
    outcome = await drive(load, running.target, begun=begin, ended=read, heard=heard)
    running.check()
    (legs_before, busy_before), (legs_after, busy_after) = readings[0], readings[-1]
    legs = used_between(legs_before, legs_after)
    if legs:  # a target of somebody's own may work on this machine unseen
        ours = sum(usage.cpu_seconds for usage in legs.values()) + outcome.generator_cpu_seconds
        outcome.others_cpu_seconds = max(0.0, busy_after - busy_before - ours)
    return outcome, legs


def starting(rows: list[Measurable], only: str | None) -> list[Measurable]:
    """All rows, or those whose names start with a word of `only`. Raises LabError for a word that starts none."""
    if only is None:
        return rows
    words = tuple(word.strip() for word in only.split(","))
    for word in words:
        if not any(row.name.startswith(word) for row in rows):
            raise LabError(f"no row starts with {word}: there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if row.name.startswith(words)]


def planned(load: Load, plan: Plan) -> Load:
    return msgspec.structs.replace(load, seconds=plan.seconds, warmup_seconds=plan.warmup_seconds)


def figures_of(outcome: Outcome, legs: dict[str, Usage], wanted: tuple[Figure, ...]) -> dict[str, float]:
    """The wanted figures by name; those that nothing can be said about are left out.

    Of a percentile for which the answers are too few, the outcome's notes say how many it needs.
    """
    between = [usage.cpu_seconds for leg, usage in legs.items() if leg not in OUTSIDE]
    latency = outcome.percentiles()
    found: dict[str, float] = {
        "requests/s": outcome.answers / outcome.seconds,
        "MB/s down": outcome.bytes_down / outcome.seconds / 1e6,
        "MB/s up": outcome.bytes_up / outcome.seconds / 1e6,
    }
    if latency is not None:
        found |= _latency_figures(outcome, latency, wanted)
    at_nodes = [usage.cpu_seconds for leg, usage in legs.items() if leg in NODES]
    for name, used, amount in (
        ("CPU s/million", between, outcome.answers / 1e6),
        ("nodes' CPU s/million", at_nodes, outcome.answers / 1e6),
        ("CPU s/GB down", between, outcome.bytes_down / 1e9),
        ("CPU s/GB up", between, outcome.bytes_up / 1e9),
    ):
        if amount and used:
            found[name] = sum(used) / amount
    return {figure.name: found[figure.name] for figure in wanted if figure.name in found}


def _latency_figures(outcome: Outcome, latency: Percentiles, wanted: tuple[Figure, ...]) -> dict[str, float]:
    found = {"max ms": latency.maximum}
    each = {50.0: latency.p50, 90.0: latency.p90, 99.0: latency.p99, 99.9: latency.p999}
    for percent, value in each.items():
        name, needed = f"p{percent:g}", answers_needed(percent)
        if latency.count >= needed:
            found[f"{name} ms"] = value
        elif any(figure.name.startswith(f"{name} ") for figure in wanted):
            said = f"it needs {needed} in a round, there were {latency.count}"
            outcome.notes.append(f"too few answers for {name}: {said}")
    if "p99 ms" in found:
        found["p99 / p50"] = latency.p99 / latency.p50 if latency.p50 else math.inf
    return found
