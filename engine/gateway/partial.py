"""A head that has not come whole: kept until its rest has, and charged to whom it is kept for."""

from __future__ import annotations

from engine.loop.memory import Account


class Partial:
    """The beginning of a head."""

    __slots__ = ("_account", "data")

    def __init__(self, account: Account) -> None:
        self._account = account
        self.data = b""

    def join(self, data: memoryview) -> memoryview:
        """What is kept, and `data` behind it; nothing is kept any more."""
        joined = memoryview(self.data + data)
        self._account.release(len(self.data))
        self.data = b""
        return joined

    def keep(self, data: memoryview) -> None:
        self.data = bytes(data)
        self._account.charge(len(data))

    def drop(self) -> None:
        """Its rest will not come."""
        if self.data:
            self._account.release(len(self.data))
            self.data = b""
