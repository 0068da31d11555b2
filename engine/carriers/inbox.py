"""Bytes that come in pieces, some of them twice or ahead of their turn: put in order, and offered to a receiver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from engine.loop.duplex import NOBODY, Receiver
from engine.loop.memory import Account
from engine.loop.reactor import current_reactor

MAX_AHEAD: Final = 4  # pieces that came before their turn; two are under way at a time


class Inbox:
    """Gives `receiver` the bytes from offset 0 on, each once. What it does not take is offered again in later turns.

    All that waits is charged to `account`; `failed` is called when that is too much, or when the receiver has a defect.
    """

    def __init__(self, account: Account, failed: Callable[[Exception], None]) -> None:
        self.receiver: Receiver = NOBODY
        self.queued = False
        self.end = 0  # up to where bytes have come, without a gap
        self._account = account
        self._failed = failed
        self._reactor = current_reactor()
        self._ahead: dict[int, bytes] = {}
        self._held: list[bytes] = []  # in order
        self._paused = False
        self._open = True
        self._taken: trio.Event | None = None

    async def wait_taken(self) -> None:
        """Return when all that has come in order was taken, or is not wanted any more."""
        while self._held:
            self._taken = trio.Event()
            await self._taken.wait()

    def receive(self, offset: int, data: bytes) -> bool:
        """`data` begins at `offset`; False for a piece that is too far ahead, which is not taken."""
        if not self._open:
            return True
        if offset > self.end:
            if offset not in self._ahead:
                if len(self._ahead) >= MAX_AHEAD:
                    return False
                self._ahead[offset] = data
                self._charge(len(data))
            return True
        self._append(offset, data, charged=0)
        while self._ahead and (first := min(self._ahead)) <= self.end:
            piece = self._ahead.pop(first)
            self._append(first, piece, charged=len(piece))
        if not self._paused and self._open:
            self._reactor.call("received", self, self._offer)
        return True

    def _append(self, offset: int, data: bytes, charged: int) -> None:
        new = data[self.end - offset :]
        self.end += len(new)
        self._account.release(charged - len(new)) if charged > len(new) else self._charge(len(new) - charged)
        if new:
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
        if not self._held and self._taken is not None:
            self._taken.set()
            self._reactor.hand_over()

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
        self._held.clear()
        self._ahead.clear()
        self._tell()

    # -- a source of the reactor's

    def ready(self, events: int) -> None:
        """It has no socket: only `turn` is called."""

    def turn(self) -> None:
        self._offer()

    def break_off(self, error: Exception) -> None:
        receiver = self.receiver
        self._failed(error)
        receiver.break_off(error)
