"""How two ends of ours agree that a session outlives its carrier, and where it goes on.

Both count the bytes of the session that they have taken (`received`) and keep what they have sent until the other end
has confirmed it (yamux.CONFIRM). When the carrier is lost, the agent dials again and says which session it means and
how much of it has come; the node says the same; each sends again what the other lacks (as in XEP-0198, 5).

    new 30                      I want one, and would keep it for 30 s without a carrier
    resume ID GENERATION COUNT  it is this one; this is my GENERATIONth carrier of it, and COUNT bytes have come
    opened ID 20                the answer to the first: its name, and for how long it is kept
    resumed COUNT               the answer to the second

ID is 128 random bits that the node draws. It is a secret, like the token that opened the session and has to be shown
again. A generation is used once: what is repeated, by whomever, is refused.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from engine.errors import HTTPError, RemoteProtocolError
from engine.wire import owner
from engine.wire.http1 import Fields

FIELD: Final = b"x-trioduct-session"
MAX_SECONDS: Final = 600

_NEW = re.compile(rb"new (\d{1,9})", re.ASCII)
_RESUME = re.compile(rb"resume ((?:%b\.)?[0-9a-f]{32}) (\d{1,9}) (\d{1,18})" % owner.TAG, re.ASCII)
_OPENED = re.compile(rb"opened ((?:%b\.)?[0-9a-f]{32}) (\d{1,9})" % owner.TAG, re.ASCII)
_RESUMED = re.compile(rb"resumed (\d{1,18})", re.ASCII)


class New(NamedTuple):
    """A session is to be opened that is kept for `seconds` without a carrier, or less if the node wants less."""

    seconds: int

    def encode(self) -> bytes:
        return b"new %d" % self.seconds


class Resume(NamedTuple):
    """The session `id` is to go on; `received` bytes of it have come."""

    id: bytes
    generation: int
    received: int

    def encode(self) -> bytes:
        return b"resume %b %d %d" % self

    def __repr__(self) -> str:
        return f"Resume(generation={self.generation}, received={self.received})"  # the id is a secret


class Opened(NamedTuple):
    """The session has this name, and is kept for so many seconds without a carrier."""

    id: bytes
    seconds: int

    def encode(self) -> bytes:
        return b"opened %b %d" % self

    def __repr__(self) -> str:
        return f"Opened(seconds={self.seconds})"


class Resumed(NamedTuple):
    """It goes on; the node has `received` bytes of it."""

    received: int

    def encode(self) -> bytes:
        return b"resumed %d" % self.received


def parse_wish(text: bytes) -> New | Resume:
    """What an agent or a forward asks for. Raises HTTPError."""
    if match := _NEW.fullmatch(text):
        return New(min(int(match[1]), MAX_SECONDS))
    if match := _RESUME.fullmatch(text):
        return Resume(match[1], int(match[2]), int(match[3]))
    raise HTTPError(400, "expected `new SECONDS` or `resume ID GENERATION COUNT` for a session")


def parse_answer(text: bytes) -> Opened | Resumed:
    """What the node answers. Raises RemoteProtocolError."""
    if match := _OPENED.fullmatch(text):
        return Opened(match[1], min(int(match[2]), MAX_SECONDS))
    if match := _RESUMED.fullmatch(text):
        return Resumed(int(match[1]))
    raise RemoteProtocolError("expected `opened ID SECONDS` or `resumed COUNT` for a session")


def wish_in(fields: Fields) -> New | Resume | None:
    """What a request's fields ask for; None if they ask for nothing of the kind. Raises HTTPError."""
    values = [value for name, value in fields if name.lower() == FIELD]
    if len(values) > 1:
        raise HTTPError(400, "more than one wish for a session")
    return parse_wish(values[0]) if values else None


def answer_in(fields: Fields) -> Opened | Resumed | None:
    """What an answer's fields say; None if they say nothing. Raises RemoteProtocolError."""
    values = [value for name, value in fields if name.lower() == FIELD]
    if len(values) > 1:
        raise RemoteProtocolError("more than one answer for a session")
    return parse_answer(values[0]) if values else None
