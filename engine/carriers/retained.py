"""What was sent and is not confirmed yet. Pure: bytes, and where in the session they stand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from engine.loop.duplex import Bytes
from engine.wire.yamux import CONFIRM_WRAP

SMALL: Final = 1024  # pieces are joined up to this size


class Retained:
    """The last bytes that were sent, in the pieces in which they were put. Counts are of bytes since the session began.

    `sent` of them were put, `confirmed` of them have arrived; what lies between is kept.
    """

    __slots__ = ("_last", "_pieces", "confirmed", "sent")

    def __init__(self) -> None:
        self.confirmed = 0
        self.sent = 0
        self._last = 0  # bytes in the last piece
        self._pieces: deque[tuple[int, tuple[Bytes, ...]]] = deque()  # where each ends, and its parts

    @property
    def size(self) -> int:
        """Bytes that are not confirmed; a little more is kept, because pieces are kept whole."""
        return self.sent - self.confirmed

    def keep(self, size: int, parts: tuple[Bytes, ...]) -> None:
        """`parts`, of `size` bytes together, were put. They must not change any more."""
        pieces = self._pieces
        self.sent = end = self.sent + size
        if size < SMALL and pieces and end - pieces[-1][0] + self._last < SMALL:
            # A byte here and a byte there would weigh ten times what they are.
            self._last += size
            pieces[-1] = end, (b"".join((*pieces[-1][1], *parts)),)
        else:
            self._last = size
            pieces.append((end, parts))

    def confirm(self, count: int) -> int:
        """`count` bytes have arrived; how many more that is than were known of. ValueError if it cannot be."""
        more = count - self.confirmed
        if more < 0 or count > self.sent:
            raise ValueError(f"{count} bytes confirmed, between {self.confirmed} and {self.sent} can be")
        self.confirmed = count
        pieces = self._pieces
        while pieces and pieces[0][0] <= count:
            pieces.popleft()
        return more

    def expand(self, low: int) -> int:
        """The count whose low 32 bits are `low`; `confirmed` for an older one, which was sent again."""
        more = (low - self.confirmed) % CONFIRM_WRAP
        return self.confirmed + (more if more < CONFIRM_WRAP // 2 else 0)

    def unconfirmed(self) -> Iterator[tuple[Bytes, ...]]:
        """All that is kept, in the pieces in which it was put; the first without what has arrived of it."""
        start = self.confirmed
        for end, parts in self._pieces:
            if sum(map(len, parts)) > end - start:
                joined = b"".join(parts)
                arrived = len(joined) - (end - start)
                parts = (joined[arrived:],)
            yield parts
            start = end

    def clear(self) -> None:
        """Nothing of it will be asked for any more."""
        self._pieces.clear()
        self.confirmed = self.sent
