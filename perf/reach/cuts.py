"""A connection that is cut again and again: how long a stream stands still, and whether a request is lost."""

import os
import re
import signal
import statistics
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
import trio

from perf.contender import Contender
from perf.errors import LabError, LoadFailed
from perf.loads.load import Load
from perf.loads.outcome import Outcome
from perf.loads.victim import Victim
from perf.loads.websocket import Echo
from perf.probes.legs import Usage
from perf.reach.sides import carrier_of
from perf.record import Better, Figure, Goal, Plan, Sample
from perf.rows import Heard, Opened, Reach, apply
from perf.statistics.histogram import decoded
from perf.topologies.build import Topology
from perf.topologies.middlebox import LEG
from perf.topologies.shape import Middlebox, Service, Shape

CALM_SECONDS = 1.0  # before the first cut, and behind the last
PATIENCE_SECONDS = 10.0  # for the answers that have not come by then
STILL, LONGEST, CUTS, FAILED, P99 = "stands still ms", "longest ms", "cuts", "failed", "p99 ms"
A_DIAL_AND_150_MS = Goal(150.0, absolute=True)  # on loopback a dial is well below a millisecond


class StandstillRow(msgspec.Struct, frozen=True, kw_only=True):
    """One message after the other on one stream, while its session's connections are reset: of the messages, as many as
    there were cuts have waited for the session to go on, and those are the longest.
    """

    name: str
    title: str
    carrier: str
    sides: Mapping[str, Contender]
    cuts: int = 20
    every_seconds: float = 0.25
    most_rounds: int | None = 2
    figures: tuple[Figure, ...] = (
        Figure(STILL, Better.LOWER, A_DIAL_AND_150_MS),
        Figure(LONGEST, Better.LOWER),
    )

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        side = self.sides[carrier_of(self.carrier, contender)]
        async with reach(Shape(service=Service.OWN, middlebox=Middlebox.CUTTER), side) as running:
            load = Echo(connections=1, seconds=_seconds(self.cuts, self.every_seconds))

            async def measure(heard: Heard) -> Sample:
                outcome, legs, found = await _apply_cutting(load, running, heard, self.cuts, self.every_seconds)
                if outcome.errors or not outcome.latency:
                    raise LoadFailed("; ".join(outcome.doubts()))
                still = longest_ms(outcome.latency, found)
                return Sample({STILL: statistics.median(still), LONGEST: still[0]}, [outcome], legs)

            yield Opened(measure, running.commands(), lambda: running.pids)


class FailedRow(msgspec.Struct, frozen=True, kw_only=True):
    """Requests at a steady rate while the session's connections are reset a hundred times: how many have failed."""

    name: str
    title: str
    carrier: str
    sides: Mapping[str, Contender]
    rate: float = 200.0
    cuts: int = 100
    every_seconds: float = 0.15
    most_rounds: int | None = 1
    figures: tuple[Figure, ...] = (
        Figure(FAILED, Better.LOWER, Goal(0.0, absolute=True)),
        Figure(CUTS),
        Figure(P99, Better.LOWER),
    )

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        side = self.sides[carrier_of(self.carrier, contender)]
        async with reach(Shape(middlebox=Middlebox.CUTTER), side) as running:
            # What is answered whole has not failed, however late; what is not answered in the end has.
            load = Victim(
                rate=self.rate,
                connections=256,
                seconds=_seconds(self.cuts, self.every_seconds),
                patience_seconds=PATIENCE_SECONDS,
            )

            async def measure(heard: Heard) -> Sample:
                outcome, legs, found = await _apply_cutting(load, running, heard, self.cuts, self.every_seconds)
                latency = outcome.percentiles()
                if latency is None:
                    raise LoadFailed("; ".join(outcome.doubts()))
                figures = {FAILED: float(sum(outcome.errors.values())), CUTS: float(found), P99: latency.p99}
                return Sample(figures, [outcome], legs)

            yield Opened(measure, running.commands(), lambda: running.pids)


def _seconds(cuts: int, every_seconds: float) -> float:
    return 2 * CALM_SECONDS + cuts * every_seconds


async def _apply_cutting(
    load: Load, running: Topology, heard: Heard, cuts: int, every_seconds: float
) -> tuple[Outcome, dict[str, Usage], int]:
    """Apply a load, and cut so often meanwhile; also how many of the cuts have met a connection. Raises LabError."""
    warm = trio.Event()
    before = cuts_found(running.said(LEG))
    failures: list[LabError] = []
    done: list[tuple[Outcome, dict[str, Usage]]] = []

    async def cut() -> None:
        await warm.wait()
        await trio.sleep(CALM_SECONDS)
        for _ in range(cuts):
            os.kill(running.pids[LEG], signal.SIGUSR1)
            await trio.sleep(every_seconds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut)
        try:
            done.append(await apply(load, running, heard, warm.set))
        except LabError as error:
            failures.append(error)  # not out of a nursery, which would wrap it
        nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]
    found = cuts_found(running.said(LEG)) - before
    if not found:
        raise LoadFailed(f"none of {cuts} cuts has met a connection")
    return *done[0], found


def cuts_found(said: str) -> int:
    """How many of a cutter's cuts have met a connection, by its own words."""
    return sum(int(count) > 0 for count in re.findall(r"^cut (\d+)$", said, re.MULTILINE))


def longest_ms(latency: str, count: int) -> list[float]:
    """The so many longest of a histogram, the longest first."""
    found: list[float] = []
    for item in decoded(latency).get_recorded_iterator():
        found += [item.value_iterated_to / 1000] * item.count_at_value_iterated_to
    return sorted(found, reverse=True)[:count]
