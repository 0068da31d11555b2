"""How long each state may last, and what happens then. Pure: times are given.

No clock measures how long a message takes that moves. How fast a client reads is not looked at here: a connection that
takes nothing of what is queued for it ends by itself (`connection.stall_seconds`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from engine.gateway.states import Answer, Request

BODY_BYTES_PER_SECOND: Final = 240  # slower than this is an attack (slow body)
BODY_GRACE_SECONDS: Final = 30.0  # before that rule holds
SCARCE_SECONDS: Final = 3.0  # the same, and for who takes nothing of an answer, where others need the place
LEAVING_SECONDS: Final = 1.0  # for a request that may be on its way, when the role is leaving


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; infinity switches one off."""

    head: float = 10.0  # from a connection's begin, or a request's first byte, to the end of its head
    idle: float = 300.0  # between requests
    pause: float = 10.0  # in which no byte of a request's body comes
    answer: float = 30.0  # from a request's end to its answer's head
    stall: float = 60.0  # in which the other side takes no byte of an answer


class Verdict(Enum):
    """What is done when a state has lasted too long."""

    CLOSE = auto()  # nobody is owed an answer
    REFUSE_HEAD = auto()  # 408
    LOOK_AT_BODY = auto()  # does it move, or is it us who hold it back? If neither: 408, or breaking off
    REFUSE_WAIT = auto()  # what the role has said
    TIMEOUT = auto()  # 504
    NOTHING = auto()


def verdict(request: Request, answer: Answer | None) -> Verdict:
    """`answer` is None where there is no exchange."""
    if answer is None:
        return Verdict.REFUSE_HEAD if request is Request.HEAD else Verdict.CLOSE
    if answer is Answer.ROUTING:
        return Verdict.REFUSE_WAIT
    if request is Request.BODY:
        return Verdict.LOOK_AT_BODY
    return Verdict.TIMEOUT if answer is Answer.AWAITED else Verdict.NOTHING


class Pace:
    """Whether a request's body moves."""

    __slots__ = ("_bytes", "_since")

    def __init__(self) -> None:
        self._since = math.inf
        self._bytes = 0

    def begin(self, now: float, bytes_in: int) -> None:
        """The body is awaited from now on; `bytes_in` of it are there."""
        self._since = now
        self._bytes = bytes_in

    def moves(self, now: float, bytes_in: int) -> bool:
        """Has any of it come since this was asked last, and all in all enough for its time?"""
        came, self._bytes = bytes_in > self._bytes, bytes_in
        return came and not self.trickles(now, bytes_in)

    def trickles(self, now: float, bytes_in: int, grace_seconds: float = BODY_GRACE_SECONDS) -> bool:
        """Is that too little for its time?"""
        seconds = now - self._since
        return seconds >= grace_seconds and bytes_in < BODY_BYTES_PER_SECOND * seconds
