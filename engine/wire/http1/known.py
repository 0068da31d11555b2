"""Heads that come again: the object that was read from one is kept for the next one that is equal."""

from __future__ import annotations

from array import array
from typing import Generic, TypeVar

M = TypeVar("M")

MAX_KNOWN_HEAD = 1024  # bytes; a longer head is read anew each time
KNOWN_HEADS = 512
NOTED_HEADS = 4096


class Known(dict[bytes, M], Generic[M]):
    """Messages by their heads.

    Clients and services say the same things again and again. On a kept-alive connection most heads are equal to the
    last byte, and to look one up costs a tenth of what it costs to read it. But where no two are equal, keeping them
    costs more than reading them: each would push out one that nobody asks for, and would drag through the caches
    memory that had left them long ago (105 -> 87 us of CPU a request in both processes). So a head is kept when it
    comes for the second time. Of the first time only its hash is noted, in a place that it shares with others.
    """

    def __init__(self) -> None:
        self._noted = array("q", bytes(8 * NOTED_HEADS))

    def learn(self, head: bytes, message: M) -> bool:
        """Keep `message` if an equal head was here lately. True if it is kept."""
        if len(head) > MAX_KNOWN_HEAD:
            return False
        noted = hash(head)
        place = noted % NOTED_HEADS
        if self._noted[place] != noted:
            self._noted[place] = noted
            return False
        if len(self) >= KNOWN_HEADS:
            del self[next(iter(self))]  # the oldest
        self[head] = message
        return True
