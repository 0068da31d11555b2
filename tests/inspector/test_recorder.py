"""The latest records, within a number and a size."""

from __future__ import annotations

from engine.inspector.kept import BODY_BYTES
from engine.inspector.record import RECORD_BYTES
from engine.inspector.recorder import Recorder
from tests.inspector.records import asked, get, post

GET = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"


def held(recorder: Recorder) -> int:
    return sum(record.held for record in recorder.records.values())


def test_the_oldest_are_forgotten_for_the_latest() -> None:
    recorder = Recorder(most_records=3)
    for _ in range(5):
        get(recorder)
    assert list(recorder.records) == [3, 4, 5]
    assert recorder.forgotten == 2
    assert recorder.held == held(recorder) > 3 * RECORD_BYTES


def test_what_is_held_is_bounded_and_counted_to_the_byte() -> None:
    recorder = Recorder(most_bytes=1_000_000)
    for _ in range(50):
        record = post(recorder, b"x" * (2 * BODY_BYTES))
        assert record.held == RECORD_BYTES + BODY_BYTES + len(record.request.head) + len(
            b"HTTP/1.1 204 No Content\r\n\r\n"
        )
        assert recorder.held == held(recorder) <= 1_000_000
    assert len(recorder.records) == 3


def test_one_that_is_forgotten_holds_nothing_however_long_it_goes_on() -> None:
    recorder = Recorder(most_records=1)
    long = asked(recorder, GET)
    long.answer_body(b"x" * 1000)
    get(recorder)
    before = recorder.held
    for _ in range(10):
        long.answer_body(b"x" * 1000)
        long.request_body(b"x" * 1000)
        long.failed("in the end")
    long.finished()
    assert long.forgotten
    assert recorder.held == before == held(recorder)
    assert not long.body_out.data


def test_every_change_has_a_version_and_is_told() -> None:
    recorder = Recorder()
    told: list[int] = []
    recorder.on_change = lambda: told.append(recorder.version)
    first, second = asked(recorder, GET), asked(recorder, GET)
    since = recorder.version
    second.connected(0.002)
    first.answer_body(b"x")
    assert [record.number for record in recorder.records.values() if record.version > since] == [1, 2]
    assert told == list(range(1, recorder.version + 1))


def test_all_can_be_forgotten() -> None:
    recorder = Recorder()
    for _ in range(5):
        get(recorder)
    recorder.clear()
    assert (recorder.records, recorder.held) == ({}, 0)
    assert get(recorder).number == 6  # numbers are not given twice
