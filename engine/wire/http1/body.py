"""What of the bytes behind a head belongs to the message's body, and how it goes on (RFC 9112, 6)."""

from __future__ import annotations

from typing import Final

from engine.wire.http1.chunked import ChunkedBody
from engine.wire.http1.message import CHUNKED, UNTIL_CLOSE

Bytes = bytes | memoryview
CHUNK_LINES: Final = 256  # read in one call, half a millisecond at the most: who sends them by the byte gets more turns


class Body:
    """Follows one body after the other. `done` when the present one has come to its last byte."""

    __slots__ = ("_chunked", "_chunks", "_left", "done", "taken")

    def __init__(self) -> None:
        self._left = 0  # bytes, or CHUNKED, or UNTIL_CLOSE
        self._chunked: ChunkedBody | None = None
        self._chunks = False
        self.done = True
        self.taken = 0  # of what was given last

    def begin(self, framing: int, *, chunks: bool = True) -> None:
        """A body with `framing`: a length, CHUNKED or UNTIL_CLOSE. It goes on in `chunks` where it has no length, or as
        it is (to HTTP/1.0).
        """
        self._left = framing
        self._chunks = chunks
        self.done = not framing
        self._chunked = ChunkedBody(decode=not chunks) if framing == CHUNKED else None

    @property
    def until_close(self) -> bool:
        return self._left == UNTIL_CLOSE

    @property
    def trailers(self) -> bytes:
        """What of its trailers may go on, when it is done: field lines and an empty one, or nothing."""
        return self._chunked.trailers if self._chunked is not None else b""

    def receive(self, data: memoryview) -> list[Bytes]:
        """Take the next bytes, `taken` of them, and give what goes on.

        Raises HTTPError: the body is broken, and whoever reads it has to see it break off.
        """
        left = self._left
        if left >= 0:
            if len(data) > left:
                data = data[:left]
            self.taken = size = len(data)
            self._left = left = left - size
            self.done = not left
            return [data]
        chunked = self._chunked
        if chunked is not None:
            parts = chunked.receive(data, CHUNK_LINES)
            self.taken = chunked.taken
            self.done = chunked.done
            return parts
        self.taken = len(data)
        return [b"%x\r\n" % len(data), data, b"\r\n"] if self._chunks and data else [data]

    def end(self) -> bytes:
        """The connection has ended, and the body with it: what says so to the next reader."""
        self.done = True
        return b"0\r\n\r\n" if self._chunks else b""
