"""Addresses and URLs."""

from __future__ import annotations

import pytest

from engine.config import split_address, split_url
from engine.config.address import StorePlace, split_store


def test_an_address_is_split() -> None:
    assert split_address(":8000") == ("", 8000)
    assert split_address("localhost:0") == ("localhost", 0)
    assert split_address("[::1]:65535") == ("::1", 65535)


@pytest.mark.parametrize(
    "text", ["", "8000", "host", "host:", "host:65536", "::1:80", "a b:1", "a\0:1", "\x1f:1", "http://a:1", "a:-1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no host:port"):
        split_address(text)


@pytest.mark.parametrize(
    "url", ["", "host", "host:80", "ftp://host", "http://", "http://host:x", "http://host:0", "http://a b"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        split_url(url)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h", StorePlace(False, [("h", 6379)], "", "", "", 0)),
        ("rediss://me:a%40b@h:7/3", StorePlace(True, [("h", 7)], "", "me", "a@b", 3)),
        ("redis://[::1]:7/", StorePlace(False, [("::1", 7)], "", "", "", 0)),
        ("redis+sentinel://a,b:7/main", StorePlace(False, [("a", 26379), ("b", 7)], "main", "", "", 0)),
        ("rediss+sentinel://:pw@a/main/2", StorePlace(True, [("a", 26379)], "main", "", "pw", 2)),
    ],
)
def test_a_stores_url_has_parts(text: str, expected: StorePlace) -> None:
    assert split_store(text) == expected
    assert "pw" not in repr(split_store(text))


@pytest.mark.parametrize(
    "text",
    ["redis://", "redis:///0", "redis://h/x", "redis://a,b", "redis+sentinel://h", "http://h", "redis://h:99999"],
)
def test_what_is_no_stores_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        split_store(text)
