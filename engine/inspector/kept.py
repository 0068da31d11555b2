"""The first bytes of a body."""

from __future__ import annotations

from typing import Final

from engine.loop.duplex import Bytes

BODY_BYTES: Final = 256 * 1024


class Kept:
    """Of `size` bytes that have passed, `data` has the first."""

    __slots__ = ("data", "size")

    def __init__(self) -> None:
        self.data: bytes | bytearray = b""  # most requests have no body, and this one is everybody's
        self.size = 0

    @property
    def whole(self) -> bool:
        return len(self.data) == self.size

    def add(self, data: Bytes) -> int:
        """More has passed; how many bytes of it are kept."""
        before, size = self.size, len(data)
        self.size = before + size
        if before >= BODY_BYTES or before != len(self.data):
            return 0
        if not before:
            self.data = bytearray()
        self.data += data if before + size <= BODY_BYTES else data[: BODY_BYTES - before]
        return len(self.data) - before
