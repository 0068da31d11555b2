"""Who is shown pages, and who JSON."""

from __future__ import annotations

import pytest

from engine.wire.http1.accept import prefers_html

FIREFOX = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    "value",
    [
        FIREFOX,
        b"text/html",
        b"TEXT/HTML ; Q=0.5 , application/json; q=0.4",
        b"application/json, text/html",
        b"text/html;charset=utf-8;q=0.001",
    ],
)
def test_browsers_are_shown_pages(value: bytes) -> None:
    assert prefers_html([(b"Host", b"x"), (b"ACCEPT", value)])
    assert prefers_html([(b"Accept", b"image/png"), (b"accept", value)])


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"*/*",
        b"text/*",
        b"application/json",
        b"application/json, text/html;q=0.9",
        b"text/html;q=0",
        b"text/html;q=0.000",
        b"text/html;q=nan",
        b"text/html;q=1e9",
        b"text/html;q",
        b"text/html-ish",
        b"text/html;q=1;q=0",
        b";;,,=,q=1",
        b"\xff\x00",
    ],
)
def test_programs_read_json(value: bytes) -> None:
    assert not prefers_html([(b"Accept", value)])


def test_who_says_nothing_reads_json() -> None:
    assert not prefers_html([])
