"""The same bytes in other pieces: what they mean must not depend on how they come."""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Final

STRETCH: Final = 48
"""Bytes that come one by one, of an input that has more."""


def singly(data: bytes) -> list[bytes]:
    """Byte by byte: all of it if it is short, else a stretch at a place that is drawn, for which every input has
    another one. All of a long one would take most of the time, and tell what the stretches of many tell.
    """
    start = places(data, 1)[0] if len(data) > STRETCH else 0
    end = start + STRETCH
    return [data[:start], *(data[at : at + 1] for at in range(start, min(end, len(data)))), data[end:]]


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
