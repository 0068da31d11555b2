"""Open loop: requests leave at their scheduled moments, whether or not earlier ones were answered.

Latency counts from the scheduled moment, so that a stall is paid by every request that should have been
sent during it, as by users who do not wait for one another. A request that finds no free connection waits
for one, and its clock runs. `lag` is how late the generator itself was at sending although a connection was
free: the generator's fault, not the target's, and what its outcome is judged by.
"""

import random
import time
from collections import deque
from typing import Literal, Self

import msgspec
import trio

from perf.crowd import Crowd
from perf.loads.askers import open_askers
from perf.loads.beside import beside
from perf.loads.closed import request_bytes, run_measured
from perf.loads.http import Asker
from perf.loads.load import Load, part
from perf.loads.outcome import Outcome, Watch
from perf.loads.target import Target
from perf.timer import Timer

Arrivals = Literal["constant", "poisson"]


class Open(Load, frozen=True, kw_only=True, tag="open"):
    rate: float = 1000.0  # requests per second
    connections: int = 64
    arrivals: Arrivals = "constant"
    body_bytes: int = 0
    stalled: int = 0  # downloads beside it that nobody reads, of the first process
    slow_readers: int = 0  # and those that are read slowly
    slow_bytes_per_second: int = 1 << 16

    def share(self, index: int) -> Self:
        return msgspec.structs.replace(
            self,
            rate=self.rate / self.processes,
            connections=part(self.connections, index, self.processes),
            stalled=0 if index else self.stalled,
            slow_readers=0 if index else self.slow_readers,
        )

    def generate(self, target: Target, watch: Watch) -> Outcome:
        return trio.run(self._generate, target, watch)

    async def _generate(self, target: Target, watch: Watch) -> Outcome:
        crowd = Crowd()
        schedule = Schedule(self, request_bytes(target, self.body_bytes), watch)
        takers = beside(
            target,
            "/bulk",
            stalled=self.stalled,
            slow=self.slow_readers,
            slow_bytes_per_second=self.slow_bytes_per_second,
        )
        async with takers, open_askers(crowd, target, watch, self.connections, schedule.free):
            schedule.start(crowd)
            await run_measured(crowd, watch, self.seconds)
            schedule.close(crowd)
            outcome = watch.end()
        outcome.asked_per_second = self.rate
        return outcome


class Schedule:
    """Who asks when: the moments that are due, the connections that are free."""

    def __init__(self, load: Open, request: bytes, watch: Watch) -> None:
        self._interval = 1 / load.rate
        self._poisson = load.arrivals == "poisson"
        self._request = request
        self._watch = watch
        self._free: deque[Asker] = deque()
        self._waiting: deque[float] = deque()  # moments that found no free connection
        self._askers: set[Asker] = set()  # all there have been
        self._timer = Timer()
        self._due = 0.0

    def start(self, crowd: Crowd) -> None:
        self._due = time.monotonic() + self._interval
        crowd.add(self._timer.fileno(), self._ring)
        self._timer.ring_at(self._due)

    def close(self, crowd: Crowd) -> None:
        """What is still waiting was never sent: that is an error of the target, not silence."""
        if self._waiting:
            self._watch.errors["not sent: no connection was free"] += len(self._waiting)
        self.stop(crowd)

    def stop(self, crowd: Crowd) -> None:
        crowd.discard(self._timer.fileno())
        self._timer.close()

    def unanswered(self) -> list[float]:
        """The moments of what waits for a connection or for its answer."""
        return [*self._waiting, *(asker.since for asker in self._askers if asker.since is not None)]

    def free(self, asker: Asker) -> None:
        self._askers.add(asker)
        if self._waiting:
            asker.ask(self._request, self._waiting.popleft())
        else:
            self._free.append(asker)

    def _wait(self, since: float) -> None:
        """No connection is free for what was due `since`."""
        self._waiting.append(since)

    def _ring(self, _events: int) -> None:
        self._timer.heard()
        while (now := time.monotonic()) >= self._due:
            if self._free:
                self._watch.late(now - self._due)
                self._free.popleft().ask(self._request, self._due)
            else:
                self._wait(self._due)
            self._due += random.expovariate(1 / self._interval) if self._poisson else self._interval
        self._timer.ring_at(self._due)
