"""The client's side of HTTP/1.1, as little of it as counting answers needs.

An `Answer` is fed what came and says when the message is complete: by Content-Length, by chunks, by the
end of the connection, or without a body (RFC 9112, 6.3). Nothing is kept of the body but its length.
"""

import re
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from perf.crowd import READABLE, WRITABLE, Crowd
from perf.loads.dial import NOT_YET
from perf.loads.outcome import Watch

RECEIVE_BYTES = 1 << 14  # a larger buffer costs an mmap each time
LONGEST_HEAD = 1 << 16
LONGEST_SIZE_LINE = 1 << 10
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+) *\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked *\r\n", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close *\r\n", re.IGNORECASE)
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]+)[^\r\n]*\r\n")


class NotHttp(Exception):
    """What came is not an HTTP/1.1 answer."""


class Head(NamedTuple):
    status: int
    length: int  # of the body; negative: until the connection ends
    chunked: bool
    last: bool  # the connection closes after the answer


# The same head comes again and again: it changes once a second, with its Date.
@lru_cache(maxsize=256)
def parse_head(head: bytes) -> Head:
    """Raises NotHttp."""
    found = STATUS.match(head)
    if found is None:
        raise NotHttp(f"answered {head[:40]!r}")
    status = int(found[1])
    closes = CLOSE.search(head) is not None
    if status < 200 or status in (204, 304):
        return Head(status, 0, False, closes)
    if CHUNKED.search(head):
        return Head(status, 0, True, closes)
    length = LENGTH.search(head)
    return Head(status, int(length[1]) if length else -1, False, closes or length is None)


class Answer:
    """One answer on its way: `head`, and `size`, the bytes of body so far."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.size = 0
        self._data = b""  # of the head, or of chunks
        self._left = 0  # of the body, or of the chunk and its end of line

    def feed(self, data: bytes) -> bool:
        """Whether the answer is complete. Empty data is the end of the connection. Raises NotHttp."""
        if not data:
            if self.head is not None and self.head.length < 0:
                return True
            raise NotHttp("closed before the answer was complete")
        if self.head is None:
            return self._feed_head(self._data + data if self._data else data)
        if self.head.chunked:
            return self._feed_chunks(self._data + data)
        self.size += len(data)
        return self.size == self.head.length

    def _feed_head(self, data: bytes) -> bool:
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > LONGEST_HEAD:
                raise NotHttp("the head is longer than 64 KiB")
            self._data = data
            return False
        head = parse_head(data[:end])
        if head.status < 200:
            self._data = b""
            return len(data) > end and self._feed_head(data[end:])
        self.head = head
        if head.chunked:
            return self._feed_chunks(data[end:])
        self.size = len(data) - end
        return self.size == head.length

    def _feed_chunks(self, data: bytes) -> bool:
        while data:
            if self._left:
                taken = min(self._left, len(data))
                self._left -= taken
                data = data[taken:]
                continue
            found = CHUNK_SIZE.match(data)
            if found is None:
                if len(data) > LONGEST_SIZE_LINE:
                    raise NotHttp("a chunk without a size")
                break
            size = int(found[1], 16)
            if not size:
                # The last chunk: trailers, if any, and an empty line end the answer.
                if b"\r\n\r\n" in data:
                    return True
                break
            self.size += size
            self._left = size + 2
            data = data[found.end() :]
        self._data = data
        return False


class Asker:
    """One client connection in a crowd: asks, hears the answer, tells the watch, and is free again.

    `free` is called with the asker when it may be asked again, `lost` when its connection is gone (which it
    has closed). One request at a time.

    A connection that was answered on before may be closed while it is idle, just as it is asked again. `again`, if
    there is one, is called with that request's `since`, before `lost`; otherwise it is an error.
    """

    def __init__(
        self,
        crowd: Crowd,
        connection: socket.socket,
        watch: Watch,
        free: Callable[["Asker"], None],
        lost: Callable[["Asker"], None],
        again: Callable[[float], None] | None = None,
    ) -> None:
        self._crowd = crowd
        self._connection = connection
        self._watch = watch
        self._free = free
        self._lost = lost
        self._again = again
        self._used = False
        self.since: float | None = None
        self._answer: Answer | None = None  # of which something has come
        # An answer that came whole, in one piece: the same bytes again are the same answer, and need not be read.
        self._known, self._known_size = b"", 0
        self._unsent = b""
        crowd.add(connection.fileno(), self._ready)

    def ask(self, request: bytes, since: float) -> None:
        """Send a request whose latency counts from `since`."""
        self.since = since
        self._answer = None
        self._unsent = request
        self._send()

    def close(self) -> None:
        self._crowd.discard(self._connection.fileno())
        self._connection.close()

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except NOT_YET:
            pass
        except OSError as error:
            self._fail(type(error).__name__)
            return
        if self._unsent:
            self._crowd.change(self._connection.fileno(), READABLE | WRITABLE)

    def _ready(self, events: int) -> None:
        if self._unsent:
            if events & WRITABLE:
                self._send()
                if not self._unsent and self._connection.fileno() >= 0:
                    self._crowd.change(self._connection.fileno(), READABLE)
            if not events & READABLE:
                return
        try:
            data = self._connection.recv(RECEIVE_BYTES)
        except NOT_YET:
            return
        except OSError as error:
            self._fail(type(error).__name__)
            return
        now = time.monotonic()
        if self.since is None:
            # Closed, or talked, without being asked: no answer is missing.
            self.close()
            self._lost(self)
            return
        since = self.since
        answer = self._answer
        if answer is None and data and data == self._known:
            self.since = None
            self._watch.answered(since, now, self._known_size)
            self._free(self)
            return
        whole = answer is None
        answer = answer or Answer()
        if data:
            self._answer = answer
        try:
            if not answer.feed(data):
                return
        except NotHttp as error:
            self._fail(str(error))
            return
        self.since = None
        self._used = True
        assert answer.head is not None
        if answer.head.status >= 400:
            self._watch.errors[f"status {answer.head.status}"] += 1
        else:
            self._watch.answered(since, now, answer.size)
        if answer.head.last:
            self.close()
            self._lost(self)
            return
        if whole and answer.head.status < 400:
            self._known, self._known_size = data, answer.size
        self._free(self)

    def _fail(self, kind: str) -> None:
        since, self.since = self.since, None
        if self._again is not None and since is not None and self._used and self._answer is None:
            self._again(since)
        else:
            self._watch.errors[kind] += 1
        self.close()
        self._lost(self)
