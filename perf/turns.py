"""Two sides in alternating turns of 50 ms: how `gate` finds a few percent on a busy machine.

What others do to a machine (its caches, its clock, the other half of a core) changes the CPU time of the very same
requests by a quarter from one second to the next, and in rounds of a second the two sides do not see the same of it. In
turns they do: both programs stand ready, one generator asks one of them for `TURN_SECONDS`, hears out its answers, and
asks the other. The order changes from pair to pair.

A round is as many pairs as its seconds hold. The second side's figure is the median of its turns, and the first side's
is that times the median of the ratios of the pairs, so that a disturbance in a few turns is not in the round.
`perf.experiments.gate` tries it.
"""

import math
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import repeat
from typing import NamedTuple

import trio

from perf.contender import Contender
from perf.crowd import Crowd
from perf.errors import LabError, LoadFailed
from perf.loads.askers import open_askers
from perf.loads.closed import request_bytes, varied_requests
from perf.loads.http import Asker
from perf.loads.outcome import Outcome, Watch
from perf.loads.target import Target
from perf.probes.legs import Usage, family, ran_seconds
from perf.record import Better, Figure, Record, Row, Sample, Side
from perf.rounds import Tell
from perf.rows import OUTSIDE, figures_of, reached
from perf.topologies.build import Topology
from perf.topologies.shape import Service, Shape

TURN_SECONDS = 0.05
PATIENCE_SECONDS = 10.0  # for the answers to what was asked in a turn
LOOK_SECONDS = 0.002  # between two looks whether they are all there
UP_BYTES = 1 << 20


class TurnLoad(NamedTuple):
    """A load that can be interrupted: so many connections, each of which asks again as soon as it was answered."""

    name: str
    title: str
    service: Service
    connections: int
    requests: Callable[[Target], Iterator[bytes]]
    figures: tuple[Figure, Figure]
    bytes_up: int = 0  # of each request


def _rates(unit: str, each: str) -> tuple[Figure, Figure]:
    return Figure(unit), Figure(f"CPU s/{each}", Better.LOWER)


REQUESTS = _rates("requests/s", "million")
TURN_LOADS: Mapping[str, TurnLoad] = {
    load.name: load
    for load in (
        TurnLoad("crowd", "a crowd of browsers, 32 connections", Service.WEB, 32, varied_requests, REQUESTS),
        TurnLoad(
            "closed", "closed loop, 32 connections", Service.WEB, 32, lambda t: repeat(request_bytes(t, 0)), REQUESTS
        ),
        TurnLoad(
            "down",
            "download, one stream of 15 MB each",
            Service.WEB,
            1,
            lambda target: repeat(target.at("/15mb").request()),
            _rates("MB/s down", "GB down"),
        ),
        TurnLoad(
            "up",
            "upload, one stream of 1 MiB each",
            Service.OWN,
            1,
            lambda target: repeat(request_bytes(target, UP_BYTES)),
            _rates("MB/s up", "GB up"),
            UP_BYTES,
        ),
    )
}


def turn_load(name: str) -> TurnLoad:
    """Raises LabError."""
    if name not in TURN_LOADS:
        raise LabError(f"no load that takes turns is called {name}: there are {', '.join(TURN_LOADS)}")
    return TURN_LOADS[name]


async def measure_in_turns(
    record: Record, loads: Sequence[TurnLoad], contenders: Sequence[Contender], *, tell: Tell
) -> None:
    """Measure the loads on two contenders into the record; `tell` hears what is being done.

    Each load has processes of its own. A side that cannot be measured is noted in its place, and its row ends.
    Cancelled in the middle of a row, the record holds the rounds finished so far.
    """
    for index, load in enumerate(loads):
        row = Row(load.name, load.title, list(load.figures), [Side() for _ in contenders])
        record.rows.append(row)
        said = f"{load.name} ({index + 1} of {len(loads)})"
        async with AsyncExitStack() as stack:
            lanes = []
            for side, contender in zip(row.sides, contenders, strict=True):
                tell(f"{said}: starting {contender.name}")
                try:
                    lane = await stack.enter_async_context(_opened(load, contender))
                    await lane.turn(record.plan.warmup_seconds)
                except LabError as error:
                    side.failure = str(error)
                    break
                side.commands = lane.running.commands()
                lanes.append(lane)
            else:
                await _measure_row(row, lanes, record, said, tell)
    record.complete = True


async def _measure_row(row: Row, lanes: "Sequence[_Lane]", record: Record, said: str, tell: Tell) -> None:
    pairs = max(1, round(record.plan.seconds / TURN_SECONDS))
    for number in range(record.plan.rounds):
        tell(f"{said}: round {number + 1} of {record.plan.rounds}")
        turns: tuple[list[Values], list[Values]] = ([], [])
        for pair in range(pairs):
            for place in (0, 1) if pair % 2 == 0 else (1, 0):
                try:
                    turns[place].append(await lanes[place].turn(TURN_SECONDS))
                except LabError as error:
                    row.sides[place].failure = str(error)
                    return
        for side, values in zip(row.sides, together(*turns), strict=True):
            side.samples.append(Sample(values))


Values = dict[str, float]  # figures by name


def together(first: Sequence[Values], second: Sequence[Values]) -> tuple[Values, Values]:
    """The figures of a round, from the turns of both sides, of which those with the same index were neighbours."""
    b = {name: statistics.median(turn[name] for turn in second) for name in second[0]}
    a = {}
    for name in first[0]:
        if name in b:
            logs = [math.log(x[name] / y[name]) for x, y in zip(first, second, strict=True) if x[name] and y[name]]
            a[name] = b[name] * math.exp(statistics.median(logs)) if logs else 0.0
        else:
            a[name] = statistics.median(turn[name] for turn in first)
    return a, b


@asynccontextmanager
async def _opened(load: TurnLoad, contender: Contender) -> "AsyncIterator[_Lane]":
    async with reached(Shape(service=load.service), contender) as running:
        crowd, watch = Crowd(), Watch(lambda _: None, 0.0)
        lane = _Lane(load, running, crowd, watch)
        async with open_askers(crowd, running.target, watch, load.connections, lane.free):
            try:
                yield lane
            finally:
                lane.close()  # before its processes, which would wait for it to leave


class _Lane:
    """One side: its topology, and its connections, which ask only while it has a turn."""

    def __init__(self, load: TurnLoad, running: Topology, crowd: Crowd, watch: Watch) -> None:
        self.running = running
        self._load = load
        self._crowd = crowd
        self._watch = watch
        self._requests = load.requests(running.target)
        self._askers: set[Asker] = set()
        self._resting: list[Asker] = []
        self._asking = False
        self._asked = 0
        between = {leg: pid for leg, pid in running.pids.items() if leg not in OUTSIDE}
        self._pids = {leg: [process.pid for process in family(pid)] for leg, pid in between.items()}

    def free(self, asker: Asker) -> None:
        self._askers.add(asker)
        if self._asking:
            self._asked += 1
            asker.ask(next(self._requests), time.monotonic())
        else:
            self._resting.append(asker)

    def close(self) -> None:
        for asker in self._askers:
            asker.close()

    async def turn(self, seconds: float) -> Values:
        """The figures of one turn. Raises LabError if a process has ended, and if answers do not come or are errors."""
        self.running.check()
        watch, before = self._watch, self._cpu_seconds()
        begun_at, bytes_down, asked = time.monotonic(), watch.bytes_down, self._asked
        self._asking = True
        resting, self._resting = self._resting, []
        for asker in resting:
            self.free(asker)
        with trio.move_on_after(seconds):
            await self._crowd.run()
        self._asking = False
        with trio.move_on_after(PATIENCE_SECONDS):
            while len(self._resting) < self._load.connections:
                with trio.move_on_after(LOOK_SECONDS):
                    await self._crowd.run()
        errors = watch.errors.copy()
        if len(self._resting) < self._load.connections:
            errors["no answer"] += self._load.connections - len(self._resting)
        if errors:
            raise LoadFailed("errors: " + ", ".join(f"{kind} {count}" for kind, count in sorted(errors.items())))
        answers = self._asked - asked
        outcome = Outcome(
            time.monotonic() - begun_at,
            answers=answers,
            bytes_down=watch.bytes_down - bytes_down,
            bytes_up=answers * self._load.bytes_up,
        )
        legs = {leg: Usage(after - before[leg]) for leg, after in self._cpu_seconds().items()}
        return figures_of(outcome, legs, self._load.figures)

    def _cpu_seconds(self) -> dict[str, float]:
        try:
            return {leg: sum(map(ran_seconds, pids)) for leg, pids in self._pids.items()}
        except OSError as error:
            self.running.check()  # who has ended can say why
            raise LabError(f"the time that a process of the path has run cannot be read: {error.strerror}") from error
