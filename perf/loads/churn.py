"""Churn: a new connection for every request, a fixed number at a time. Latency includes connecting."""

import socket
import time
from typing import Self

import msgspec
import trio

from perf.crowd import READABLE, WRITABLE, Crowd
from perf.errors import LoadFailed
from perf.loads.closed import run_measured
from perf.loads.dial import NOT_YET, open_non_blocking
from perf.loads.http import Answer, NotHttp
from perf.loads.load import Load, part
from perf.loads.outcome import Outcome, Watch
from perf.loads.target import Target


class Churn(Load, frozen=True, kw_only=True, tag="churn"):
    connections: int = 32  # at a time

    def share(self, index: int) -> Self:
        return msgspec.structs.replace(self, connections=part(self.connections, index, self.processes))

    def generate(self, target: Target, watch: Watch) -> Outcome:
        return trio.run(self._generate, target, watch)

    async def _generate(self, target: Target, watch: Watch) -> Outcome:
        if target.via or target.tls:
            raise LoadFailed("churn connects straight to a plain target; `fresh` takes any way, one at a time")
        (await open_non_blocking(target)).close()  # one sentence now instead of a million errors
        crowd = Crowd()
        request = target.request("GET", None, ("Connection", "close"))
        for _ in range(self.connections):
            Visit(crowd, target, request, watch).begin()
        await run_measured(crowd, watch, self.seconds)
        return watch.end()


class Visit:
    """Connect, ask, hear, close, and again."""

    def __init__(self, crowd: Crowd, target: Target, request: bytes, watch: Watch) -> None:
        self._crowd = crowd
        self._address = (target.host, target.port)
        self._request = request
        self._watch = watch
        self._since = 0.0

    def begin(self) -> None:
        self._since = time.monotonic()
        self._answer = Answer()
        self._connection = socket.socket()
        self._connection.setblocking(False)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.connect_ex(self._address)
        self._crowd.add(self._connection.fileno(), self._connected, WRITABLE)

    def _connected(self, _events: int) -> None:
        try:
            self._connection.send(self._request)
        except OSError as error:
            self._again(type(error).__name__)
            return
        self._crowd.discard(self._connection.fileno())
        self._crowd.add(self._connection.fileno(), self._ready, READABLE)

    def _ready(self, _events: int) -> None:
        try:
            if not self._answer.feed(self._connection.recv(1 << 16)):
                return
        except NOT_YET:
            return
        except (OSError, NotHttp) as error:
            self._again(str(error))
            return
        assert self._answer.head is not None
        if self._answer.head.status >= 400:
            self._again(f"status {self._answer.head.status}")
            return
        self._watch.answered(self._since, time.monotonic(), self._answer.size)
        self._again(None)

    def _again(self, error: str | None) -> None:
        if error:
            self._watch.errors[error] += 1
        self._crowd.discard(self._connection.fileno())
        self._connection.close()
        self.begin()
