"""One exchange, while it goes on."""

from __future__ import annotations

from engine.inspector.record import MOST_FAILURES
from engine.inspector.recorder import Recorder
from tests.inspector.records import answered, asked, get

GET = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"


def test_times_are_told_as_they_come() -> None:
    assert asked(Recorder(), GET).times == (0, None, 0, None, None)
    record = asked(Recorder(), GET)
    record.connected(0.002)
    assert record.times.connect == 0.002
    assert record.times.sent > 0
    answered(record, b"HTTP/1.1 204 No Content\r\n\r\n")
    times = record.times
    assert times.first_byte
    assert times.whole
    assert (record.done, record.status) == (True, 204)


def test_an_exchange_and_its_record_do_not_keep_each_other() -> None:
    assert get(Recorder())._exchange.watch is None


def test_failures_are_bounded() -> None:
    record = asked(Recorder(), GET)
    for _ in range(100):
        record.failed("once more")
    assert len(record.failures) == MOST_FAILURES
