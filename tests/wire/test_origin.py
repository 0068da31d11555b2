"""Which pages may open a connection: by their origin, as browsers write it."""

from __future__ import annotations

import pytest

from engine.wire.origin import may_open, origin


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("*", "*"),
        ("https://App.example.com", "https://app.example.com"),
        ("https://app.example.com:443/", "https://app.example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_an_origin_is_written_as_browsers_do(text: str, written: str) -> None:
    assert origin(text) == written
    assert may_open([(b"Origin", written.encode())], {written})


@pytest.mark.parametrize(
    "text", ["", "null", "app.example.com", "https://", "https://*.example.com", "https://a/b", "ws://a"]
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        origin(text)


@pytest.mark.parametrize(
    "origins",
    [[b"https://evil.test"], [b"null"], [b""], [b"https://a.test", b"https://evil.test"], [b"https://a.test:444"]],
)
def test_only_pages_that_are_named_and_who_is_no_page_may_open(origins: list[bytes]) -> None:
    fields = [(b"Host", b"a.test"), *((b"ORIGIN", value) for value in origins)]
    assert not may_open(fields, set())
    assert not may_open(fields, {"https://a.test"})
    assert may_open(fields, {"*"})
    assert may_open([(b"Host", b"a.test")], set())
    assert may_open([(b"origin", b"HTTPS://A.test")], {"https://a.test"})
