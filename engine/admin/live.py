"""How a node is, once a second, to whoever looks: the dashboard and `trioduct top` read the same messages.

The node is read once for all viewers, and not at all while there is none. A viewer is sent the last minutes first,
then a message each second. Whoever does not take them is let go: a few wait for him, and no more. Messages are JSON:

    {"at": 1700000000.0,        Unix seconds
     "node": {"id", "version", "reason" (why it is not ready), "degraded", "incomplete" (what this message lacks)},
     "now": {…}                 the numbers of POINT, and those of Reading that are no rows
     "sessions": […], "endpoints": […], "kinds": […], "workers": […]     see admin.reading
     "nodes": […],              as /status/cluster/nodes
     "points": [[…], …]}        in the first message: earlier ones, each in the order of POINT
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
import trio

from engine import __version__
from engine.admin.metrics import SECONDS_BOUNDS
from engine.admin.reading import Reading, add
from engine.log import get_logger

EVERY_SECONDS: Final = 1.0
POINTS: Final = 300
QUANTILE_READINGS: Final = 5  # requests of the last seconds: of one alone there may be few
LINGER_SECONDS: Final = 60.0  # a page that is loaded again finds what it had
MAX_VIEWERS: Final = 16
WAITING: Final = 3  # messages, for one viewer
READ_SECONDS: Final = 5.0
POINT: Final = ("at", "requests", "failing", "p50", "p99", "bytes_in", "bytes_out")
OF_NOW: Final = (
    *("requests", "failing", "bytes_in", "bytes_out", "in_flight", "session_count", "suspended", "endpoint_count"),
    *("streams", "tcp", "ended", "resumed"),
)

log = get_logger("admin")


class Viewer:
    """Takes messages from `messages`, which ends when he was let go."""

    def __init__(self) -> None:
        self._send, self.messages = trio.open_memory_channel[bytes](WAITING)

    def offer(self, message: bytes) -> bool:
        """False if too much waits already."""
        try:
            self._send.send_nowait(message)
        except trio.WouldBlock:
            self._send.close()
            return False
        return True


class Live:
    """`read` gives how the node is, and what is missing in that; `nodes` those of the cluster, `reason` why it is not
    ready, and `degraded` what is wrong though it is. The role runs `run`.
    """

    def __init__(
        self,
        id: str,
        read: Callable[[], Awaitable[tuple[Reading, str]]],
        *,
        nodes: Callable[[], Sequence[Mapping[str, object]]] = tuple,
        reason: Callable[[], str | None] = lambda: None,
        degraded: Callable[[], str] = str,
    ) -> None:
        self.dropped = 0  # viewers that did not take what they were sent
        self.readings = 0
        self._id = id
        self._read = read
        self._nodes = nodes
        self._reason = reason
        self._degraded = degraded
        self._viewers: set[Viewer] = set()
        self._wanted = trio.Event()
        self._points: deque[list[float | None]] = deque(maxlen=POINTS)
        self._latencies: deque[list[int]] = deque(maxlen=QUANTILE_READINGS)
        self._message: dict[str, object] = {}
        self._looked_at = -math.inf
        self._looking = trio.Lock()
        self._goes_on = False  # a message is made each second

    @contextmanager
    def viewer(self) -> Iterator[Viewer | None]:
        """One more who looks, within the context; None if there are too many."""
        if len(self._viewers) >= MAX_VIEWERS:
            yield None
            return
        viewer = Viewer()
        if self._goes_on:
            viewer.offer(self._first())
        self._viewers.add(viewer)
        self._wanted.set()
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)
            viewer.messages.close()

    async def now(self) -> dict[str, object]:
        """The latest message, made now if nobody looks."""
        async with self._looking:
            if trio.current_time() - self._looked_at >= EVERY_SECONDS:
                await self._look()
        return self._message

    async def run(self) -> None:
        """Look as long as anybody does, and a little longer."""
        while True:
            await self._wanted.wait()
            seen = due = trio.current_time()
            while seen + LINGER_SECONDS > trio.current_time():
                async with self._looking:
                    await self._look()
                message = msgspec.json.encode(self._message) if self._goes_on else self._first()
                self._goes_on = True
                for viewer in tuple(self._viewers):
                    if not viewer.offer(message):
                        self._viewers.discard(viewer)
                        self.dropped += 1
                        log.warning("somebody who looks on does not keep up, and is let go")
                if self._viewers:
                    seen = trio.current_time()
                due = max(due + EVERY_SECONDS, trio.current_time())
                await trio.sleep_until(due)
            self._goes_on = False
            self._points.clear()
            self._latencies.clear()
            if not self._viewers:  # else one has come in this very moment
                self._wanted = trio.Event()

    def _first(self) -> bytes:
        return msgspec.json.encode({**self._message, "points": list(self._points)})

    async def _look(self) -> None:
        reading, missing = Reading(), "no answer"
        with trio.move_on_after(READ_SECONDS):
            reading, missing = await self._read()
        self.readings += 1
        self._looked_at = trio.current_time()
        if reading.latencies:
            self._latencies.append(reading.latencies)
        counts: list[int] = []
        for one in self._latencies:
            counts = add(counts, one)
        now: dict[str, object] = {name: getattr(reading, name) for name in OF_NOW}
        now |= {"at": time.time(), "p50": quantile(counts, 0.5), "p99": quantile(counts, 0.99)}
        if reading.seconds:
            self._points.append([now[name] for name in POINT])  # type: ignore[misc]  # all of them are numbers, or None
        self._message = {
            "at": now.pop("at"),
            "node": {
                "id": self._id,
                "version": __version__,
                "reason": self._reason() or "",
                "degraded": self._degraded(),
                "incomplete": missing,
            },
            "now": now,
            "sessions": reading.sessions,
            "endpoints": reading.endpoints,
            "kinds": reading.kinds,
            "workers": reading.workers,
            "nodes": self._nodes(),
        }


def quantile(counts: Sequence[int], part: float) -> float | None:
    """Seconds below which this part of the requests was done; None if there were none.

    `counts`: see Reading.latencies. Within a bucket they are taken to be spread evenly, so it is right to a third.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = part * total, 0
    for index, count in enumerate(counts):
        if count and below + count >= rank:
            if index >= len(SECONDS_BOUNDS):
                break
            low = SECONDS_BOUNDS[index - 1] if index else 0.0
            return low + (SECONDS_BOUNDS[index] - low) * (rank - below) / count
        below += count
    return SECONDS_BOUNDS[-1]
