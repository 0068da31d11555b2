"""What a registration says of visitors."""

from __future__ import annotations

import pytest

from engine.errors import HTTPError
from engine.wire.visitors import FIELD, KEPT, MAX_BYTES, Visitors, are_kept, visitors_in


@pytest.mark.parametrize(
    "said",
    [
        Visitors(["10.0.0.0/8"], ["10.0.0.1"], {"alice": "$2y$hash"}),
        Visitors(deny=["::1"]),
        Visitors(users={'J\xfc"\\r\x85': "$2y$"}),
    ],
)
def test_what_is_said_is_read(said: Visitors) -> None:
    value = said.encode()
    assert value.isascii()
    assert value.decode().isprintable()
    assert visitors_in([(b"Host", b"x"), (b"X-Trioduct-Visitors", value)]) == said


def test_nothing_said_is_nothing() -> None:
    assert Visitors().encode() == b""
    assert visitors_in([(b"Host", b"x")]) is None


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b"{"],
        [b"[]"],
        [b'{"allow": "10.0.0.0/8"}'],
        [b'{"users": {"alice": 1}}'],
        [b'{"allowed": []}'],
        [b'{"allow": ["\xff"]}'],
        [b"[" * 5000],
        [b'{"allow": [%b]}' % (b" " * MAX_BYTES)],
        [b"{}", b"{}"],
    ],
)
def test_what_is_no_such_json_is_refused(values: list[bytes]) -> None:
    with pytest.raises(HTTPError, match="x-trioduct-visitors"):
        visitors_in([(FIELD, value) for value in values])


def test_an_answer_says_that_it_is_kept_or_not() -> None:
    assert are_kept([(b"X-Trioduct-Visitors", KEPT)])
    assert not are_kept([(b"X-Trioduct-Visitors", b"1"), (b"Other", KEPT)])


def test_a_repr_shows_no_hash() -> None:
    assert "$2y$" not in repr(Visitors(users={"alice": "$2y$hash"}))
