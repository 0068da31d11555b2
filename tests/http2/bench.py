"""Two ends of a connection in memory, which is carried by the test."""

from __future__ import annotations

import math

from engine.http2.connection import Connection, Timeouts
from engine.http2.stream import Stream
from engine.loop.reactor import Reactor
from engine.wire.http2 import Field
from tests.loop.ends import Ear, End


class Bench:
    """A client and a server; `streams` are those that the server was given, with an Ear each."""

    def __init__(self, reactor: Reactor, *, timeouts: Timeouts | None = None, takes: int | None = None) -> None:
        self.reactor = reactor
        self.near, self.far = End(), End()
        self.streams: list[tuple[Stream, Ear]] = []
        self.reasons: list[str] = []
        self.takes = takes
        limits = timeouts or Timeouts(math.inf, math.inf, math.inf)
        self.client = Connection(self.near, reactor, timeouts=limits, on_end=self.reasons.append)
        self.server = Connection(self.far, reactor, timeouts=limits, on_end=self.reasons.append, on_stream=self._take)

    def _take(self, stream: Stream, fields: list[Field]) -> None:
        ear = Ear(takes=self.takes)
        stream.receiver = ear
        self.streams.append((stream, ear))

    def ask(self, request: bytes) -> tuple[Stream, Ear]:
        """Put a request; the stream, and who hears its answer."""
        stream, ear = self.client.open(), Ear()
        stream.receiver = ear
        stream.put(request)
        return stream, ear

    def run(self, *, step: int = 1 << 30) -> None:
        """Carry what both say, so many bytes at a time, until nobody says anything."""
        while True:
            self.reactor.flush()
            self.reactor._go_on()
            self.reactor.flush()
            near, far = self.near.take_said(), self.far.take_said()
            if not near and not far and not self.reactor._again:
                return
            for said, end in ((near, self.far), (far, self.near)):
                for start in range(0, len(said), step):
                    end.hear(said[start : start + step])
