"""Floods of frames are told from use."""

from __future__ import annotations

import pytest

from engine.http2.floods import (
    END_HEADERS,
    END_STREAM,
    GRANTS,
    MAX_BLOCK_BYTES,
    MAX_BLOCK_FRAMES,
    MAX_RAPID,
    MAX_RESETS,
    RAPID_SECONDS,
    SECONDS,
    Floods,
    Kind,
)


@pytest.mark.parametrize(
    ("kind", "name", "most"),
    [
        (Kind.SETTINGS, "settings", 100),
        (Kind.PING, "pings", 1000),
        (Kind.GOAWAY, "goaways", 100),
        (Kind.PRIORITY, "useless_frames", 1000),
        (99, "useless_frames", 1000),
        (Kind.DATA, "empty_frames", 1000),
        (Kind.WINDOW_UPDATE, "window_updates", 10000),
    ],
)
def test_so_many_at_once_and_again_later(kind: int, name: str, most: int) -> None:
    floods = Floods()
    assert {floods.frame(kind, 0, 0, 100.0) for _ in range(most)} == {""}
    assert floods.frame(kind, 0, 0, 100.0) == name
    assert floods.frame(kind, 0, 0, 100.0 + SECONDS) == ""


def test_data_is_no_flood_and_neither_is_an_end() -> None:
    floods = Floods()
    assert {floods.frame(Kind.DATA, 0, 1, 0.0) for _ in range(100000)} == {""}
    assert {floods.frame(Kind.DATA, END_STREAM, 0, 0.0) for _ in range(100000)} == {""}


def test_windows_may_be_opened_for_what_was_sent() -> None:
    floods = Floods()
    for _ in range(10000):
        floods.sent_data()
        assert {floods.frame(Kind.WINDOW_UPDATE, 0, 4, 0.0) for _ in range(GRANTS)} == {""}


def test_a_head_comes_in_so_many_pieces() -> None:
    floods = Floods()
    for _ in range(2):
        assert floods.frame(Kind.HEADERS, 0, 0, 0.0) == ""
        assert {floods.frame(Kind.CONTINUATION, 0, 0, 0.0) for _ in range(MAX_BLOCK_FRAMES - 1)} == {""}
    assert floods.frame(Kind.CONTINUATION, END_HEADERS, 0, 0.0) == "head"


def test_and_in_so_many_bytes() -> None:
    floods = Floods()
    assert floods.frame(Kind.HEADERS, 0, MAX_BLOCK_BYTES - 1, 0.0) == ""
    assert floods.frame(Kind.CONTINUATION, 0, 1, 0.0) == ""
    assert floods.frame(Kind.CONTINUATION, 0, 1, 0.0) == "head"


@pytest.mark.parametrize(("age_seconds", "most"), [(RAPID_SECONDS, MAX_RESETS), (0.0, MAX_RAPID)])
def test_resets_have_a_budget_and_rapid_ones_a_smaller_one(age_seconds: float, most: int) -> None:
    floods = Floods()
    assert {floods.reset(5.0, age_seconds) for _ in range(most)} == {""}
    assert floods.reset(5.0, age_seconds) == "resets"
