"""The victim of an attack: a client that asks at a steady, low rate and wants to know how long it has to wait.

It is the open loop with three differences. What is unanswered when the time is over is an error, and counts with its
wait so far: a node that answers nobody during an attack must not look as if nobody had asked. Where the question is
whether answers come, and not how soon, they may come a while later, in which nothing else is asked. And it does not
share a processor with the attackers if it can help it, because it stands for another machine. And it treats connections
as a browser does: one that was closed is opened again when there is something to ask, and a request that was on its way
to a closed one is sent again (RFC 9112, 9.3.1), while its clock runs.
"""

import socket
import time

import trio

from perf.crowd import Crowd
from perf.errors import LoadFailed
from perf.loads.askers import REOPEN_SECONDS, open_all
from perf.loads.closed import request_bytes, run_measured
from perf.loads.dial import open_non_blocking
from perf.loads.http import Asker
from perf.loads.open import Open, Schedule
from perf.loads.outcome import Outcome, Watch
from perf.loads.target import Target
from perf.priority import VICTIM, prioritize

LOOK_SECONDS = 0.05  # whether all is answered


class Victim(Open, frozen=True, kw_only=True, tag="victim"):
    rate: float = 100.0
    connections: int = 16
    patience_seconds: float = 0.0  # behind the last request, for what is not answered by then

    def generate(self, target: Target, watch: Watch) -> Outcome:
        prioritize(0, VICTIM)
        return super().generate(target, watch)

    async def _generate(self, target: Target, watch: Watch) -> Outcome:
        crowd = Crowd()
        connections = await open_all(target, self.connections)
        async with trio.open_nursery() as nursery:
            schedule = _Browser(self, target, crowd, watch, nursery)
            for connection in connections:
                schedule.add(connection)
            schedule.start(crowd)
            await run_measured(crowd, watch, self.seconds)
            schedule.stop(crowd)
            now = time.monotonic()
            until = now + self.patience_seconds
            while schedule.unanswered() and now < until:
                with trio.move_on_after(min(LOOK_SECONDS, until - now)):
                    await crowd.run()
                now = time.monotonic()
            for since in schedule.unanswered():
                if now - since > 1 / self.rate:  # the last one has only just been sent
                    watch.errors["unanswered at the end"] += 1
                    watch.answered(since, now, 0)
            outcome = watch.end()
            schedule.hang_up()
            nursery.cancel_scope.cancel()
        outcome.asked_per_second = self.rate
        return outcome


class _Browser(Schedule):
    """It has up to `connections`. What each new one is for is in `_waiting`."""

    def __init__(self, load: Victim, target: Target, crowd: Crowd, watch: Watch, nursery: trio.Nursery) -> None:
        super().__init__(load, request_bytes(target, load.body_bytes), watch)
        self._most = load.connections
        self._target = target
        self._crowd = crowd
        self._nursery = nursery
        self._opening = 0

    def add(self, connection: socket.socket) -> None:
        self.free(Asker(self._crowd, connection, self._watch, self.free, self._lost, self._waiting.appendleft))

    def hang_up(self) -> None:
        for asker in self._askers:
            asker.close()

    def _wait(self, since: float) -> None:
        super()._wait(since)
        self._connect()

    def _lost(self, asker: Asker) -> None:
        self._askers.discard(asker)
        if asker in self._free:
            self._free.remove(asker)
        if self._waiting and self._free:
            self._free.popleft().ask(self._request, self._waiting.popleft())
        self._connect()

    def _connect(self) -> None:
        """Open one more for what waits, if one more may be."""
        if self._opening < len(self._waiting) and len(self._askers) + self._opening < self._most:
            self._opening += 1
            self._nursery.start_soon(self._open)

    async def _open(self) -> None:
        try:
            connection = await open_non_blocking(self._target)
        except LoadFailed:
            self._watch.errors["cannot connect"] += 1
            await trio.sleep(REOPEN_SECONDS)
            self._opening -= 1
            self._connect()
        else:
            self._opening -= 1
            self._watch.reconnects += 1
            self.add(connection)
