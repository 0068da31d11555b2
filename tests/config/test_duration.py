"""Durations in Go's spelling."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import format_duration, parse_duration, parse_lifetime


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("1m30s", 90),
        ("100ms", 0.1),
        ("1.5h", 5400),
        ("1h15m30.918273645s", 4530.918273645),
        (".5s", 0.5),
        ("1.s", 1),
        ("-5s", -5),
        ("+5s", 5),
        ("3us2ns", 3.002e-6),
        ("7µs", 7e-6),
        ("7μs", 7e-6),
    ],
)
def test_durations_are_spelt_as_in_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "1m 30s", "1d", "٣s", "--5s", "5s-", "1e3s", "300y", "3000000h"])
def test_what_go_does_not_read_as_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1e-9, "1ns"),
        (1.5e-6, "1.5µs"),
        (0.1, "100ms"),
        (1, "1s"),
        (90, "1m30s"),
        (3600, "1h0m0s"),
        (3661.5, "1h1m1.5s"),
        (-60, "-1m0s"),
    ],
)
def test_durations_are_printed_as_in_go(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(-(10**15), 10**15))
def test_a_printed_duration_reads_back_the_same(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds / 1e9)) == nanoseconds / 1e9


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert math.isfinite(seconds)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 2592000), ("1d12h", 129600), ("0d1s", 1), ("720h", 2592000), ("-1h", -3600)]
)
def test_a_lifetime_may_begin_with_days(text: str, seconds: float) -> None:
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "1.5d", "-1d", "1d-1h", "1d2d", "1h1d", "٣d", "200000d", "1d ", "1"])
def test_what_is_no_lifetime_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_lifetime(text)
