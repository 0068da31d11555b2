"""Datagrams of UDP on a stream of bytes: those of many flows, one behind the other.

A *flow* is what passes between one client's address and a service. Each end begins with a line: who has opened the
stream says `trioduct udp 1 open`, and the other one, once it has heard that, `trioduct udp 1 ready`. So who is joined
to something else by mistake, be it an echo, finds out before a datagram is lost in it. Frames follow, numbers
big-endian:

    flow        4 bytes   chosen by who has opened the stream
    size        2 bytes   of the datagram, 0 to 65527; 65535: the flow is over, and no datagram follows
    datagram

A flow begins with its first datagram. Only who has opened the stream says that one is over, to free what the other end
keeps for it; that end may forget a flow at any time, and begins it anew with its next datagram.

These are not the capsules of RFC 9297, by which CONNECT-UDP (RFC 9298) carries datagrams on a stream: there each flow
has a stream and a request of its own, which would cost a resolver's client more than its question. Nobody else speaks
to either end, and a head of one size is read in one step.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

from engine.errors import RemoteProtocolError

OPEN: Final = b"trioduct udp 1 open\n"
READY: Final = b"trioduct udp 1 ready\n"
MAX_LINE: Final = 40
MOST: Final = 65527  # bytes in a datagram, over IPv6; over IPv4 it is 65507
MAX_FLOW: Final = 2**32 - 1
_OVER: Final = 65535
_HEAD: Final = Struct(">IH")
_HEAD_BYTES: Final = _HEAD.size
_other_version = re.compile(rb"trioduct udp (\d{1,6})", re.ASCII).match

Frame = tuple[int, memoryview | None]
"""A flow and its datagram; None: the flow is over."""


class DatagramError(RemoteProtocolError):
    """What came is not the line that was to come first, or no frame."""


def line_end(said: bytes, line: bytes) -> int:
    """The index behind `line`, which is to begin `said`, or -1 if its end has not come yet. Raises DatagramError as
    soon as it is known for another one.
    """
    if said.startswith(line):
        return len(line)
    if line.startswith(said):
        return -1
    version = _other_version(said)
    if version is None or version[1] == b"1":
        raise DatagramError("expected UDP in a tunnel", repr(said[:MAX_LINE]))
    if version.end() == len(said):
        return -1
    raise DatagramError(f"expected version 1 of UDP in a tunnel, got {version[1].decode()}")


def encode_head(flow: int, size: int) -> bytes:
    """What stands in front of a datagram."""
    return _HEAD.pack(flow, size)


def encode_over(flow: int) -> bytes:
    return _HEAD.pack(flow, _OVER)


class Reader:
    """Reads frames. `position`: how much of the present data is read; who gives it other data sets it to 0."""

    __slots__ = ("_begun", "position")

    def __init__(self) -> None:
        self.position = 0
        self._begun = bytearray()  # a frame of which not all has come

    def next(self, data: memoryview) -> Frame | None:
        """The next frame, behind `position`; None if there is no whole one, and then all of `data` is read.

        The datagram is a view of `data`, or of memory that is used for nothing else. Raises DatagramError.
        """
        if self._begun:
            return self._go_on(data)
        start = self.position + _HEAD_BYTES
        if start <= len(data):
            flow, size = _HEAD.unpack_from(data, self.position)
            end = start + _length(size)
            if end <= len(data):
                self.position = end
                return flow, None if size == _OVER else data[start:end]
        self._fill(data, _HEAD_BYTES + MOST)
        return None

    def _go_on(self, data: memoryview) -> Frame | None:
        self._fill(data, _HEAD_BYTES)
        if len(self._begun) < _HEAD_BYTES:
            return None
        flow, size = _HEAD.unpack_from(self._begun)
        whole = _HEAD_BYTES + _length(size)
        self._fill(data, whole)
        if len(self._begun) < whole:
            return None
        begun, self._begun = self._begun, bytearray()
        return flow, None if size == _OVER else memoryview(begun)[_HEAD_BYTES:]

    def _fill(self, data: memoryview, size: int) -> None:
        """Keep what there is, until it is so much."""
        end = min(self.position + max(0, size - len(self._begun)), len(data))
        self._begun += data[self.position : end]
        self.position = end


def _length(size: int) -> int:
    """Of the datagram behind a head. Raises DatagramError."""
    if size == _OVER:
        return 0
    if size > MOST:
        raise DatagramError(f"a datagram of {size} bytes, more than {MOST}")
    return size
