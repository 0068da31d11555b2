"""The latest exchanges of an agent, within a number and a size: the oldest is forgotten for a new one."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Final

from engine.gateway.exchange import Exchange
from engine.inspector.record import RECORD_BYTES, Record, Source

MOST_RECORDS: Final = 1000
MOST_BYTES: Final = 64 * 1024 * 1024


class Recorder:
    """`records` by number, oldest first; `held` bytes of memory in all. How many were `forgotten`.

    `sources` are the listeners that are recorded. `version` goes up with every change. `on_change` is called then.
    """

    def __init__(self, *, most_records: int = MOST_RECORDS, most_bytes: int = MOST_BYTES) -> None:
        self.sources: list[Source] = []
        self.records: dict[int, Record] = {}
        self.held = 0
        self.forgotten = 0
        self.version = 0
        self.on_change: Callable[[], None] | None = None
        self.most_records = most_records
        self.most_bytes = most_bytes
        self._number = 0
        self._changed = self.changed  # one for all records

    def begin(self, source: Source, exchange: Exchange, replay_of: int = 0) -> Record:
        """An exchange has begun."""
        request = exchange.request
        assert request is not None
        self._number = number = self._number + 1
        record = Record(number, source, exchange, request, time(), replay_of, self._changed)
        self.records[number] = record
        if len(self.records) > self.most_records:
            self._forget_oldest()
        record.held = size = RECORD_BYTES + len(request.head)
        self.changed(record, size)
        return record

    def changed(self, record: Record, size: int) -> None:
        """It has, and holds `size` bytes more."""
        self.version = record.version = self.version + 1
        self.held += size
        while self.held > self.most_bytes:
            self._forget_oldest()
        if self.on_change is not None:
            self.on_change()

    def clear(self) -> None:
        """Forget all."""
        for number in tuple(self.records):
            self._forget(number)

    def _forget_oldest(self) -> None:
        self._forget(next(iter(self.records)))
        self.forgotten += 1

    def _forget(self, number: int) -> None:
        record = self.records.pop(number)
        self.held -= record.held
        record.forget()
