"""The victim of an attack: a client that asks at a steady, low rate and wants to know how long it has to wait.

It is the open loop with two differences. What is unanswered when the time is over is an error, and counts with its wait
so far: a node that answers nobody during an attack must not look as if nobody had asked. Where the question is whether
answers come, and not how soon, they may come a while later, in which nothing else is asked. And it does not share a
processor with the attackers if it can help it, because it stands for another machine.
"""

import time

import trio

from perf.crowd import Crowd
from perf.loads.askers import open_askers
from perf.loads.closed import request_bytes, run_measured
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
        schedule = Schedule(self, request_bytes(target, self.body_bytes), watch)
        async with open_askers(crowd, target, watch, self.connections, schedule.free):
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
        outcome.asked_per_second = self.rate
        return outcome
