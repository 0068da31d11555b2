"""Addresses and URLs."""

from __future__ import annotations

import pytest

from engine.config import split_address, split_url


def test_an_address_is_split() -> None:
    assert split_address(":8000") == ("", 8000)
    assert split_address("localhost:0") == ("localhost", 0)
    assert split_address("[::1]:65535") == ("::1", 65535)


@pytest.mark.parametrize(
    "text", ["", "8000", "host", "host:", "host:65536", "::1:80", "a b:1", "http://a:1", "a:-1", "[a"]
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
