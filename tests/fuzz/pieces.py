"""The same bytes in other pieces: what they mean must not depend on how they come."""

from __future__ import annotations

import zlib
from itertools import pairwise


def singly(data: bytes) -> list[bytes]:
    """Byte by byte."""
    return [data[at : at + 1] for at in range(len(data))]


def places(data: bytes, count: int) -> list[int]:
    """Where to cut `data`: places that are drawn from what is in it, so that an input is always cut alike."""
    drawn = zlib.crc32(data)
    found = []
    for _ in range(count):
        drawn = (drawn * 1103515245 + 12345) & 0xFFFFFFFF
        found.append((drawn >> 8) % (len(data) + 1))
    return sorted(found)


def cut(data: bytes, count: int = 3) -> list[bytes]:
    """In a few pieces, some of them perhaps empty."""
    at = [0, *places(data, count), len(data)]
    return [data[start:end] for start, end in pairwise(at)]
