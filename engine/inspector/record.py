"""One exchange, as it is recorded while it goes on (gateway.exchange.Watch)."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final, NamedTuple

from engine.gateway.exchange import Exchange
from engine.gateway.role import Role
from engine.inspector.kept import Kept
from engine.inspector.messages import Messages
from engine.inspector.tap import Tap
from engine.loop.duplex import Bytes, Duplex
from engine.wire.http1 import Request, Response

RECORD_BYTES: Final = 2048  # what a record takes in memory beside heads, bodies and messages
MOST_FAILURES: Final = 8


class Source(NamedTuple):
    """A listener whose requests are recorded. `role` sends them to `service`, which is a URL."""

    endpoint: str
    service: str
    role: Role


class Times(NamedTuple):
    """Seconds since the request's first byte came from the node; None for what has not happened.

    `connect` is how long a connection to the service took, if one was made for it; `sent` when the request began to go
    to the service.
    """

    request: float  # its last byte so far
    connect: float | None
    sent: float
    first_byte: float | None  # of the answer
    whole: float | None  # the exchange is over


class Record:
    """One exchange. `changed` is told of each change, and how many bytes more are held for it.

    `version` is that of the recorder when it has changed last; `started` is by `time.time`.
    `body_in` is the request's, `body_out` the answer's, both as they came, in chunks if they came in chunks. Where
    the protocol was switched they only count what has passed, and `messages` has what was said if that is a WebSocket.
    `failures` are sentences. `replay_of` is the number of another record, or 0.
    """

    __slots__ = (
        "_connect",
        "_done_at",
        "_exchange",
        "_requested_at",
        "_sent_at",
        "_switched",
        "_tell",
        "body_in",
        "body_out",
        "failures",
        "forgotten",
        "held",
        "messages",
        "number",
        "replay_of",
        "request",
        "source",
        "started",
        "version",
    )

    def __init__(
        self,
        number: int,
        source: Source,
        exchange: Exchange,
        request: Request,
        started: float,
        replay_of: int,
        changed: Callable[[Record, int], None],
    ) -> None:
        self.number = number
        self.source = source
        self.request = request
        self.started = started
        self.replay_of = replay_of
        self.body_in = Kept()
        self.body_out = Kept()
        self.messages: Messages | None = None
        self.failures: tuple[str, ...] = ()
        self.version = 0
        self.held = 0  # bytes of memory
        self.forgotten = False  # by the recorder
        self._tell = changed
        self._exchange = exchange
        self._switched: Response | None = None
        self._connect: float | None = None
        self._requested_at = self._sent_at = exchange.started_at
        self._done_at: float | None = None

    # -- what is known

    @property
    def done(self) -> bool:
        return self._done_at is not None

    @property
    def status(self) -> int:
        """0 if there is no answer yet."""
        return self._exchange.status

    @property
    def response(self) -> Response | None:
        """None where there is none, or the agent has answered by itself."""
        return self._switched or self._exchange.response

    @property
    def is_websocket(self) -> bool:
        return self.request.upgrade.lower() == b"websocket"

    @property
    def times(self) -> Times:
        began, first = self._exchange.started_at, self._exchange.first_byte_seconds
        whole = None if self._done_at is None else self._done_at - began
        return Times(self._requested_at - began, self._connect, self._sent_at - began, first, whole)

    # -- what happens

    def request_body(self, data: Bytes) -> None:
        self._requested_at = perf_counter()
        if not self.forgotten:
            self._changed(self.body_in.add(data))

    def answer_body(self, data: Bytes) -> None:
        if not self.forgotten:
            self._changed(self.body_out.add(data))

    def connected(self, seconds: float) -> None:
        self._connect = seconds
        self._sent_at = perf_counter()
        self._changed()

    def switched(self, response: Response, outlet: Duplex) -> Duplex:
        self._switched = response
        if self.is_websocket:
            extensions = b",".join(v for n, v in response.fields if n.lower() == b"sec-websocket-extensions")
            self.messages = Messages(compressed=b"permessage-deflate" in extensions, keep=self._changed)
        self._changed(len(response.head))
        return Tap(outlet, self._to_service, self._from_service)

    def _to_service(self, data: Bytes) -> None:
        self._said(self.body_in, data)

    def _from_service(self, data: Bytes) -> None:
        self._said(self.body_out, data)

    def _said(self, body: Kept, data: Bytes) -> None:
        body.size += len(data)
        if self.messages is not None:
            seconds = perf_counter() - self._exchange.started_at
            self.messages.receive(data, to_service=body is self.body_in, seconds=seconds)
        self._changed()

    def failed(self, reason: str) -> None:
        if len(self.failures) < MOST_FAILURES:
            self.failures += (reason,)
        self._changed()

    def finished(self) -> None:
        self._done_at = perf_counter()
        self._exchange.watch = None  # or the two would keep each other
        response = self._exchange.response
        self._changed(0 if response is None else len(response.head))

    def forget(self) -> None:
        """Nothing is held any more, though the exchange may go on."""
        self.forgotten = True
        if self._done_at is None:
            self.body_in, self.body_out, self.messages = Kept(), Kept(), None

    def _changed(self, size: int = 0) -> None:
        """Something has; `size` bytes more are held."""
        if not self.forgotten:
            self.held += size
            self._tell(self, size)
