"""Fresh: one new connection after another, and the time that each step of it took.

The legs: `tcp` to the target or the first proxy, `proxy` until the last proxy has opened the way, `tls`,
`first byte` from the request to the first byte of the answer, `body` from there to its end.
"""

import time

import trio

from perf.loads.dial import NOT_YET, open_non_blocking
from perf.loads.http import RECEIVE_BYTES, Answer, NotHttp
from perf.loads.load import Load
from perf.loads.outcome import Outcome, Watch
from perf.loads.target import Target


class Fresh(Load, frozen=True, kw_only=True, tag="fresh"):
    pause_seconds: float = 0.005  # between two connections: this is about time, not about rates

    def generate(self, target: Target, watch: Watch) -> Outcome:
        return trio.run(self._generate, target, watch)

    async def _generate(self, target: Target, watch: Watch) -> Outcome:
        request = target.request("GET", None, ("Connection", "close"))
        await self._visit(target, request, watch)
        while time.monotonic() < watch.measure_from:
            await self._visit(target, request, watch)
        watch.begin()
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            await self._visit(target, request, watch)
            await trio.sleep(self.pause_seconds)
        return watch.end()

    async def _visit(self, target: Target, request: bytes, watch: Watch) -> None:
        since = time.monotonic()
        connection = await open_non_blocking(target, watch.took)
        answer = Answer()
        first_at = 0.0
        with connection:
            asked_at = time.monotonic()
            try:
                connection.send(request)
                complete = False
                while not complete:
                    try:
                        data = connection.recv(RECEIVE_BYTES)
                    except NOT_YET:
                        await trio.lowlevel.wait_readable(connection)
                        continue
                    first_at = first_at or time.monotonic()
                    complete = answer.feed(data)
            except (OSError, NotHttp) as error:
                watch.errors[str(error)] += 1
                return
        now = time.monotonic()
        watch.took("first byte", first_at - asked_at)
        watch.took("body", now - first_at)
        watch.answered(since, now, answer.size)
