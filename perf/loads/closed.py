"""Closed loop: each connection asks again as soon as it was answered. What it finds is the highest rate.

Its latencies say little: a connection that waits does not ask, so a stall is met by N requests however
long it lasts (coordinated omission). Latency is the open loop's subject.
"""

import random
import time
from collections.abc import Iterator
from itertools import count, repeat
from typing import Self

import msgspec
import trio

from perf.crowd import Crowd
from perf.loads.askers import open_askers
from perf.loads.http import Asker
from perf.loads.load import Load, part
from perf.loads.outcome import Outcome, Watch
from perf.loads.target import Target


class Closed(Load, frozen=True, kw_only=True, tag="closed"):
    connections: int = 32
    body_bytes: int = 0  # of each request; more than 0 makes it a POST
    varied: bool = False  # no two heads are the same, below /varied/; else all are

    def share(self, index: int) -> Self:
        return msgspec.structs.replace(self, connections=part(self.connections, index, self.processes))

    def generate(self, target: Target, watch: Watch) -> Outcome:
        return trio.run(self._generate, target, watch)

    async def _generate(self, target: Target, watch: Watch) -> Outcome:
        crowd = Crowd()
        requests = varied_requests(target) if self.varied else repeat(request_bytes(target, self.body_bytes))

        def ask(asker: Asker) -> None:
            asker.ask(next(requests), time.monotonic())

        async with open_askers(crowd, target, watch, self.connections, ask):
            await run_measured(crowd, watch, self.seconds)
            return watch.end()


def request_bytes(target: Target, body_bytes: int) -> bytes:
    if not body_bytes:
        return target.request()
    return target.request("POST", None, ("Content-Length", str(body_bytes))) + bytes(body_bytes)


BROWSER = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "https://shop.example/"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Priority", "u=0, i"),
)


def varied_requests(target: Target) -> Iterator[bytes]:
    """Requests of a crowd of browsers, of which no two have the same head: path, query, cookie and trace differ."""
    run = random.getrandbits(32)
    for number in count():
        each = f"{run:08x}{number:08x}"
        cookie, trace = ("Cookie", f"session={each}{each}"), ("traceparent", f"00-{each}{each}-{each}-01")
        yield target.request("GET", f"/varied/{each}?page={number}", *BROWSER, cookie, trace)


async def run_measured(crowd: Crowd, watch: Watch, seconds: float) -> None:
    """Run the crowd through the warm-up and, from `watch.measure_from` on, for the seconds that count."""
    with trio.move_on_after(max(0.0, watch.measure_from - time.monotonic())):
        await crowd.run()
    watch.begin()
    with trio.move_on_after(seconds):
        await crowd.run()
