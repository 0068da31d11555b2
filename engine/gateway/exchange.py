"""One request and its answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Final, Protocol

from engine.gateway.states import Answer
from engine.limits import Pace
from engine.loop.duplex import Bytes, Duplex
from engine.wire.http1 import Request, Response

_ROUTING: Final[Answer] = Answer.ROUTING  # to look up a member of an enum costs more than a name of the module


Amend = Callable[[Request, Response], Response]
"""What makes of an answer's head the one that goes on."""


class Watch(Protocol):
    """Who looks at one exchange while it goes on, and changes nothing. Bytes are valid during the call only."""

    def request_body(self, data: Bytes) -> None:
        """The next bytes of the request's body have come, as they came."""

    def answer_body(self, data: Bytes) -> None:
        """The next bytes of the answer's body have come, as they came."""

    def connected(self, seconds: float) -> None:
        """A connection was made for it, which took so long."""

    def switched(self, response: Response, outlet: Duplex) -> Duplex:
        """101: what stands in place of `outlet` from now on, and does the same."""

    def failed(self, reason: str) -> None:
        """What has gone wrong; another try may follow."""

    def finished(self) -> None:
        """The exchange is over."""


class Exchange:
    """One request and its answer, from its head to their end: what is known of them, and what metrics are told.

    `request` is None for one whose head was not understood. Bytes are those of bodies, as they came; seconds are of
    `time.perf_counter`.
    """

    __slots__ = (
        "amend",
        "answer",
        "attempts",
        "bytes_in",
        "bytes_out",
        "endpoint",
        "expires_at",
        "failed_by",
        "first_byte_at",
        "kept",
        "pace",
        "refused",
        "request",
        "response",
        "started_at",
        "status",
        "watch",
    )

    def __init__(self, request: Request | None) -> None:
        self.request = request
        self.response: Response | None = None  # the final one, once its head was passed on
        self.answer = _ROUTING
        self.attempts = 0  # how many outbounds it was sent by
        self.failed_by = ""  # why the last of them but one was not the last (see gateway.retry)
        self.kept: list[bytes] | None = None  # of the body, as long as it may be sent again
        self.status = 0
        self.refused = ""  # why the visitor was, if it was
        self.bytes_in = 0
        self.bytes_out = 0
        self.started_at = perf_counter()
        self.first_byte_at = 0.0
        self.endpoint = ""  # what the role has found out that it is for
        self.pace: Pace | None = None  # of what it becomes by an upgrade
        self.expires_at = math.inf  # when what allows it ends, in the reactor's seconds
        self.watch: Watch | None = None
        self.amend: Amend | None = None

    @property
    def seconds(self) -> float:
        """Since the request came."""
        return perf_counter() - self.started_at

    @property
    def first_byte_seconds(self) -> float | None:
        """From the request to the first byte of its answer; None if there was none."""
        return self.first_byte_at - self.started_at if self.first_byte_at else None

    def figures(self) -> tuple[bytes, int, float, int, int]:
        """Method (b"" if there was none), status, seconds, bytes in and out."""
        method = self.request.method if self.request is not None else b""
        return method, self.status, self.seconds, self.bytes_in, self.bytes_out
