"""A duplex that shows what passes it: it stands between another duplex and who uses it, and does what that does."""

from __future__ import annotations

from collections.abc import Callable

from engine.loop.duplex import NOBODY, Bytes, Duplex, Receiver
from engine.loop.memory import Account


class Tap:
    """In place of `duplex`, whose receiver it becomes. `put` and `received` are shown to `sent` and `heard`."""

    def __init__(self, duplex: Duplex, sent: Callable[[Bytes], None], heard: Callable[[Bytes], None]) -> None:
        self.receiver: Receiver = NOBODY
        self._duplex = duplex
        self._sent = sent
        self._heard = heard
        duplex.receiver = self

    def __repr__(self) -> str:
        return f"<Tap on {self._duplex!r}>"

    # -- the duplex

    @property
    def account(self) -> Account:
        return self._duplex.account

    @property
    def backlog(self) -> int:
        return self._duplex.backlog

    @property
    def room(self) -> int:
        return self._duplex.room

    def put(self, *parts: Bytes) -> bool:
        for part in parts:
            self._sent(part)
        return self._duplex.put(*parts)

    def end(self) -> None:
        self._duplex.end()

    def close(self) -> None:
        self._duplex.close()

    def abort(self) -> None:
        self._duplex.abort()

    def read_at_most(self, size: int) -> None:
        self._duplex.read_at_most(size)

    def pause(self) -> None:
        self._duplex.pause()

    def resume(self) -> None:
        self._duplex.resume()

    # -- its receiver

    @property
    def idle(self) -> bool:
        return self.receiver.idle

    def received(self, data: memoryview) -> int:
        taken = self.receiver.received(data)
        self._heard(data[:taken])
        return taken

    def ended(self) -> None:
        self.receiver.ended()

    def lost(self, error: Exception) -> None:
        self.receiver.lost(error)

    def drained(self) -> None:
        self.receiver.drained()

    def break_off(self, error: Exception) -> None:
        self.receiver.break_off(error)
