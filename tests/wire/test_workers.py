"""Which of how many workers."""

from __future__ import annotations

import pytest

from engine.wire.workers import FIELD, Seat, parse_seat, seat_in


def test_a_seat_is_read_as_it_is_written() -> None:
    assert parse_seat(str(Seat(2, 4))) == Seat(2, 4)
    assert seat_in([(b"Upgrade", b"websocket"), (b"X-Trioduct-Workers", b"1/1")]) == Seat(1, 1)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/257", "-1/2", "1/2 ", "1/2/3", "٣/٤", "0001/2"])
def test_what_is_no_seat_is_none(text: str) -> None:
    assert parse_seat(text) is None


def test_two_are_none() -> None:
    assert seat_in([]) is None
    assert seat_in([(FIELD, b"1/2"), (FIELD, b"2/2")]) is None
