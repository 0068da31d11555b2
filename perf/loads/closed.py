"""Closed loop: each connection sends the next request when it has the response. It finds the highest rate.

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

VARIED = "/varied/"  # below which the services' answers differ, too


class Closed(Load, frozen=True, kw_only=True, tag="closed"):
    connections: int = 32
    path: str = ""  # "" is the target's own
    body_bytes: int = 0  # of each request; more than 0 makes it a POST
    varied: bool = False  # no two heads are the same; else all are
    folder: str = VARIED  # what a varied load asks below; "" is the target's own path, with a query that differs

    def share(self, index: int) -> Self:
        return msgspec.structs.replace(self, connections=part(self.connections, index, self.processes))

    def generate(self, target: Target, watch: Watch) -> Outcome:
        return trio.run(self._generate, target.at(self.path or target.path), watch)

    async def _generate(self, target: Target, watch: Watch) -> Outcome:
        crowd = Crowd()
        equal = repeat(request_bytes(target, self.body_bytes))
        requests = varied_requests(target, self.folder) if self.varied else equal

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


def varied_requests(target: Target, folder: str = VARIED) -> Iterator[bytes]:
    """Requests of a crowd of browsers, of which no two have the same head: path, query, cookie and trace differ.

    Without a folder the path is the target's, and what differs of the rest is its query.
    """
    beyond = "&" if "?" in target.path else "?"
    run = random.getrandbits(32)
    for number in count():
        each = f"{run:08x}{number:08x}"
        cookie, trace = ("Cookie", f"session={each}{each}"), ("traceparent", f"00-{each}{each}-{each}-01")
        path = f"{folder}{each}?page={number}" if folder else f"{target.path}{beyond}page={each}"
        yield target.request("GET", path, *BROWSER, cookie, trace)


async def run_measured(crowd: Crowd, watch: Watch, seconds: float) -> None:
    """Run the crowd through the warm-up and, from `watch.measure_from` on, for the seconds that count."""
    with trio.move_on_after(max(0.0, watch.measure_from - time.monotonic())):
        await crowd.run()
    watch.begin()
    with trio.move_on_after(seconds):
        await crowd.run()
