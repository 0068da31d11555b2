"""Bytes that come in pieces, some of them twice or ahead of their turn: put in order, and offered to a receiver."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from engine.loop.duplex import NOBODY, Receiver
from engine.loop.memory import Account
from engine.loop.reactor import current_reactor

MAX_AHEAD: Final = 256  # pieces that came before their turn
AHEAD_BYTES: Final = 4 * 1024 * 1024  # how far before it: two are under way at a time, of 1 MiB at the most


class Inbox:
    """Gives `receiver` the bytes from offset 0 on, each once. What it does not take is offered again in later turns.

    All that waits is charged to `account`; `failed` is called when that is too much, `broken` when the receiver has a
    defect.
    """

    def __init__(
        self, account: Account, failed: Callable[[Exception], None], broken: Callable[[Exception], None]
    ) -> None:
        self.receiver: Receiver = NOBODY
        self.queued = False
        self.end = 0  # up to where bytes have come, without a gap
        self._account = account
        self._failed = failed
        self.break_off = broken
        self._reactor = current_reactor()
        self._ahead: dict[int, bytes] = {}
        self._held: list[bytes] = []  # in order
        self._paused = False
        self._open = True
        self._taken: trio.Event | None = None
        self._last = math.inf  # where the bytes end
        self._then: Callable[[], None] = _nothing

    async def wait_taken(self) -> None:
        """Return when all that has come in order was taken, or is not wanted any more."""
        while self._held:
            if self._taken is None or self._taken.is_set():
                self._taken = trio.Event()
            await self._taken.wait()

    def finish(self, offset: int, then: Callable[[], None]) -> None:
        """The bytes end before `offset`: call `then` when all of them were taken."""
        self._last, self._then = offset, then
        self._tell()

    def receive(self, offset: int, data: bytes) -> bool:
        """`data` begins at `offset`; False for a piece that is too far ahead, which is not taken."""
        if not self._open:
            return True
        if offset > self.end:
            return self._keep(offset, data)
        self._append(offset, data, charged=0)
        while self._ahead and (first := min(self._ahead)) <= self.end:
            piece = self._ahead.pop(first)
            self._append(first, piece, charged=len(piece))
        if not self._paused and self._open:
            self._reactor.call("received", self, self._offer)
        return True

    def _keep(self, offset: int, data: bytes) -> bool:
        """Keep a piece until its turn has come; False if it is too far ahead."""
        before = self._ahead.get(offset, b"")
        if len(data) > len(before):
            if offset + len(data) > self.end + AHEAD_BYTES or (not before and len(self._ahead) >= MAX_AHEAD):
                return False
            self._ahead[offset] = data
            self._charge(len(data) - len(before))
        return True

    def _append(self, offset: int, data: bytes, charged: int) -> None:
        new = data[self.end - offset :]
        self.end += len(new)
        self._account.release(charged - len(new)) if charged > len(new) else self._charge(len(new) - charged)
        if new and self._open:
            self._held.append(new)

    def _charge(self, size: int) -> None:
        if size and not self._account.charge(size):
            self._failed(MemoryError(f"{self._account.used} bytes are held for it"))

    def _offer(self) -> None:
        """Give the receiver what it takes of all that is there."""
        while self._held and self._open and not self._paused:
            data = self._held[0]
            taken = self.receiver.received(memoryview(data))
            if self.receiver is NOBODY:
                return
            self._account.release(taken)
            if taken == len(data):
                del self._held[0]
            else:
                self._held[0] = data[taken:]
                self._reactor.again(self)
                return
        self._tell()

    def _tell(self) -> None:
        if self._held:
            return
        if self._taken is not None:
            self._taken.set()
            self._reactor.hand_over()
        if self._open and self.end >= self._last:
            self._last = math.inf
            self._then()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._held:
            self._reactor.again(self)

    def close(self) -> None:
        """Nothing is to be offered any more."""
        self._open = False
        self.receiver = NOBODY
        self._then = _nothing
        self._account.release(sum(map(len, self._held)) + sum(map(len, self._ahead.values())))
        self._held.clear()
        self._ahead.clear()
        self._tell()

    # -- a source of the reactor's

    def ready(self, events: int) -> None:
        """It has no socket: only `turn` is called."""

    def turn(self) -> None:
        self._offer()


def _nothing() -> None: ...
