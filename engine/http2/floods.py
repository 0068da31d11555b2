"""What a peer may send of what costs it nothing and us something. Pure: times are given.

Each frame gets its turn like any other work, so a flood takes no more of a process than any busy client; and nothing
is read of who does not take what is sent to him. What is left are peers that have no use for what they send, and those
are ended: whoever resets his requests as he sends them (CVE-2023-44487), or makes us reset them (CVE-2025-8671), sends
a head in pieces without end (CVE-2024-27316), settings and pings that are all to be answered (CVE-2019-9512, -9515), or
windows and empty frames (CVE-2019-9518).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from engine.session.liveness import Budget

SECONDS: Final = 10.0
MAX_RESETS: Final = 1000  # of requests, within SECONDS
MAX_RAPID: Final = 200  # of those, sooner than RAPID_SECONDS after they came
RAPID_SECONDS: Final = 0.1
MAX_BLOCK_FRAMES: Final = 32  # that one head comes in
MAX_BLOCK_BYTES: Final = 64 * 1024  # compressed
GRANTS: Final = 8  # window updates for each frame of data that was sent

END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4


class Kind(IntEnum):
    """Of frames (RFC 9113, 6). Others are to be ignored."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


_DATA: Final = int(Kind.DATA)
_HEADERS: Final = int(Kind.HEADERS)
_WINDOW_UPDATE: Final = int(Kind.WINDOW_UPDATE)
_CONTINUATION: Final = int(Kind.CONTINUATION)

_LIMITS: Final = {
    Kind.SETTINGS: ("settings", 100),
    Kind.PING: ("pings", 1000),
    Kind.GOAWAY: ("goaways", 100),
}


class Floods:
    """Looks at the frames of one connection. What is not right has a name, which metrics count by."""

    def __init__(self) -> None:
        self._budgets = {int(kind): (name, Budget(limit, SECONDS)) for kind, (name, limit) in _LIMITS.items()}
        self._useless = Budget(1000, SECONDS)  # empty data, priorities, and what nobody knows
        self._resets = Budget(MAX_RESETS, SECONDS)
        self._rapid = Budget(MAX_RAPID, SECONDS)
        self._windows = Budget(10000, SECONDS)
        self._granted = 0
        self._block_frames = 0
        self._block_bytes = 0

    def frame(self, kind: int, flags: int, length: int, now: float) -> str:
        """A frame begins: what it is a flood of, or ""."""
        if kind == _DATA:
            return "" if length or flags & END_STREAM or self._useless.spend(now) else "empty_frames"
        if kind in (_HEADERS, _CONTINUATION):
            if kind == _HEADERS:
                self._block_frames = self._block_bytes = 0
            self._block_frames += 1
            self._block_bytes += length
            return "head" if self._block_frames > MAX_BLOCK_FRAMES or self._block_bytes > MAX_BLOCK_BYTES else ""
        if kind == _WINDOW_UPDATE:
            if self._granted:
                self._granted -= 1
                return ""
            return "" if self._windows.spend(now) else "window_updates"
        if kind == Kind.RST_STREAM:
            return ""  # `reset` is told of those that end something
        name, budget = self._budgets.get(kind, ("useless_frames", self._useless))
        return "" if budget.spend(now) else name

    def sent_data(self) -> None:
        """A frame of data was sent, for which windows may be opened."""
        self._granted = min(self._granted + GRANTS, 1 << 20)

    def reset(self, now: float, age_seconds: float) -> str:
        """A request was reset before its answer was whole, by the peer or because of it."""
        if age_seconds < RAPID_SECONDS and not self._rapid.spend(now):
            return "resets"
        return "" if self._resets.spend(now) else "resets"
