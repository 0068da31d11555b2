"""A duplex that stands between another duplex and who uses it: what it does not change goes through."""

from __future__ import annotations

from engine.loop.duplex import NOBODY, Bytes, Duplex, Receiver
from engine.loop.memory import Account


class Over:
    """In place of `duplex`, whose receiver it becomes. Does what that does, and passes on what comes."""

    __slots__ = ("_duplex", "receiver")

    def __init__(self, duplex: Duplex) -> None:
        self.receiver: Receiver = NOBODY
        self._duplex = duplex
        duplex.receiver = self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self._duplex!r}>"

    # -- Duplex

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

    # -- the receiver of the duplex

    @property
    def idle(self) -> bool:
        return self.receiver.idle

    def received(self, data: memoryview) -> int:
        return self.receiver.received(data)

    def ended(self) -> None:
        self.receiver.ended()

    def lost(self, error: Exception) -> None:
        self.receiver.lost(error)

    def drained(self) -> None:
        self.receiver.drained()

    def break_off(self, error: Exception) -> None:
        self.receiver.break_off(error)
