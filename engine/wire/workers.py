"""What a node that consists of several workers tells an agent in the answer to its registration.

    x-trioduct-workers: 2/4         the second of four has the session

An agent that understands it dials until it has one session on each.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from engine.wire.http1 import Fields

FIELD: Final = b"x-trioduct-workers"
MAX_WORKERS: Final = 256

_SEAT = re.compile(r"(\d{1,3})/(\d{1,3})", re.ASCII)


class Seat(NamedTuple):
    """The `number`th, from 1 on, of so many workers."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_seat(text: str) -> Seat | None:
    """None for what is none: whoever has written it, an agent serves all the same."""
    match = _SEAT.fullmatch(text)
    if match is None:
        return None
    seat = Seat(int(match[1]), int(match[2]))
    return seat if 1 <= seat.number <= seat.of <= MAX_WORKERS else None


def seat_in(fields: Fields) -> Seat | None:
    """What an answer's fields say."""
    values = [value for name, value in fields if name.lower() == FIELD]
    return parse_seat(values[0].decode("latin-1")) if len(values) == 1 else None
