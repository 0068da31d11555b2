"""The first bytes of a body."""

from __future__ import annotations

from typing import Final

from engine.loop.duplex import Bytes

BODY_BYTES: Final = 256 * 1024


class Kept:
    """Of `size` bytes that have passed, `data` has the first."""

    __slots__ = ("data", "size")

    def __init__(self) -> None:
        self.data = bytearray()
        self.size = 0

    @property
    def whole(self) -> bool:
        return len(self.data) == self.size

    def add(self, data: Bytes) -> int:
        """More has passed; how many bytes of it are kept."""
        before = len(self.data)
        if before == self.size and before < BODY_BYTES:
            self.data += data[: BODY_BYTES - before]
        self.size += len(data)
        return len(self.data) - before
