"""Who a client is, as a node tells it."""

from __future__ import annotations

import pytest

from engine.wire.clients import are_asked_for, are_told, encode, take


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_a_client_is_told_and_its_field_does_not_go_on(address: str) -> None:
    lines = [b"GET / HTTP/1.1", b"Host: a", b"x-piko-client: " + encode(address, 4711), b"Accept: *"]
    assert take(lines) == ((address, 4711), [b"GET / HTTP/1.1", b"Host: a", b"Accept: *"])


@pytest.mark.parametrize("value", [b"", b"here 1", b"192.0.2.7", b"192.0.2.7 x", b"\xff 1"])
def test_what_is_no_client_is_nobody(value: bytes) -> None:
    assert take([b"GET / HTTP/1.1", b"X-Piko-Client: " + value]) == (None, [b"GET / HTTP/1.1"])


def test_who_asks_and_who_tells_says_so() -> None:
    assert are_asked_for([(b"X-Trioduct-Clients", b"1")])
    assert are_told([(b"X-Trioduct-Clients", b"told")])
    assert not are_told([(b"X-Trioduct-Clients", b"1"), (b"x-trioduct-visitors", b"told")])
    assert not are_asked_for([])
