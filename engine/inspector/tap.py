"""A duplex that shows what passes it."""

from __future__ import annotations

from collections.abc import Callable

from engine.loop.duplex import Bytes, Duplex
from engine.tunnel.over import Over


class Tap(Over):
    """What is put is shown to `sent`, and what comes, as far as it is taken, to `heard`."""

    __slots__ = ("_heard", "_sent")

    def __init__(self, duplex: Duplex, sent: Callable[[Bytes], None], heard: Callable[[Bytes], None]) -> None:
        super().__init__(duplex)
        self._sent = sent
        self._heard = heard

    def put(self, *parts: Bytes) -> bool:
        for part in parts:
            self._sent(part)
        return self._duplex.put(*parts)

    def received(self, data: memoryview) -> int:
        taken = self.receiver.received(data)
        self._heard(data[:taken])
        return taken
