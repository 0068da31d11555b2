"""What a carrier gives, measured in a session that is for nothing else: a doctor opens streams, and a node answers.

Who asks begins a stream with a line, how many bytes it wants; what it says behind that is dropped, and counts by the
time that it takes. When it has ended, the other end says as many bytes, and ends. So the way up is measured by wanting
none, and the way down by saying none.

A node does this for anybody who may register, so it is bounded: by bytes, by seconds, and by how many sessions do it.
"""

from __future__ import annotations

import math
import os
import re
from typing import Final

import trio

from engine.session.session import Session
from engine.session.stream import Stream

MOST_BYTES: Final = 512 * 1024  # wanted by one stream
MOST_STREAMS: Final = 32  # in one session
SESSION_SECONDS: Final = 30.0
_LINE: Final = re.compile(rb"([0-9]{1,9})\n")
_PART: Final = os.urandom(64 * 1024)  # what is on the way may compress


class Answering:
    """A node's end of a session that measures: what streams are given to."""

    def __init__(self) -> None:
        self._streams = 0

    def take(self, stream: Stream) -> None:
        self._streams += 1
        if self._streams > MOST_STREAMS:
            stream.abort()
        else:
            stream.receiver = _Answer(stream)


class _Saying:
    """Says so many bytes on a stream, as it takes them, and ends."""

    idle = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = -1  # to be said; below 0: nothing yet, or the end has been said

    def _say(self, size: int) -> None:
        self._left = size
        self.drained()

    def drained(self) -> None:
        while self._left > 0:
            part = _PART[: self._left]
            self._left -= len(part)
            if not self._stream.put(part):
                return
        if not self._left:
            self._left = -1
            self._stream.end()

    def received(self, data: memoryview) -> int:
        return len(data)

    def lost(self, error: Exception) -> None:
        self._left = -1

    def break_off(self, error: Exception) -> None:
        self._stream.abort()


class _Answer(_Saying):
    """A node's, to one stream."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._line: bytes | None = b""
        self._wanted = 0

    def received(self, data: memoryview) -> int:
        if self._line is not None:
            self._line += bytes(data[:10])
            if match := _LINE.match(self._line):
                self._line, self._wanted = None, int(match[1])
            elif len(self._line) >= 10 or not self._line.isdigit():
                self._wanted = MOST_BYTES + 1
            if self._wanted > MOST_BYTES:
                self._stream.abort()
        return len(data)

    def ended(self) -> None:
        self._say(self._wanted)


class _Asking(_Saying):
    """A doctor's, on one stream."""

    def __init__(self, session: Session, *, wanted: int, said: int) -> None:
        stream = session.open()
        super().__init__(stream)
        self.over = trio.Event()
        self.heard = 0
        self.error: Exception | None = None
        self._reactor = session.reactor
        stream.receiver = self
        stream.put(b"%d\n" % wanted)
        self._say(said)

    def received(self, data: memoryview) -> int:
        self.heard += len(data)
        return len(data)

    def ended(self) -> None:
        self.over.set()
        self._reactor.hand_over()

    def lost(self, error: Exception) -> None:
        super().lost(error)
        self.error = error
        self.ended()


async def transfer(session: Session, *, down: int = 0, up: int = 0) -> float:
    """Seconds that so many bytes take each way, one after the other; a round trip is part of it.

    `session` runs elsewhere. Raises OSError if it ends before. The deadline is the caller's.
    """
    since = trio.current_time()
    asking = _Asking(session, wanted=down, said=up)
    await asking.over.wait()
    if asking.error is not None or asking.heard != down:
        raise ConnectionResetError(str(asking.error or f"{asking.heard} bytes came, and {down} were wanted"))
    return max(trio.current_time() - since, math.ulp(1.0))
