"""What a span says of an exchange."""

from __future__ import annotations

import time

import pytest

from engine.gateway.exchange import Exchange
from engine.tracing.span import (
    TEXT_CHARACTERS,
    Kind,
    Span,
    described,
    described_towards,
    name_of,
    path_of,
    server_of,
)
from engine.wire import http1
from engine.wire.http1 import Request


def request(line: bytes = b"GET / HTTP/1.1", host: bytes = b"web.test") -> Request:
    return http1.parse_request(http1.encode_lines([line, b"Host: " + host]), http1.MAX_HEAD)


def ended(kind: Kind, status: int, *, answered: bool = True) -> Span:
    exchange = Exchange(request())
    exchange.status = status
    if answered:
        found = http1.next_response(memoryview(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status), 0, b"GET")
        assert found is not None
        exchange.response = found[0]
    span = Span(kind, "GET", b"1" * 32, b"2" * 16, b"", 1, exchange.started_at)
    span.end(exchange)
    return span


@pytest.mark.parametrize(
    ("kind", "status", "answered", "error"),
    [
        (Kind.SERVER, 200, True, ""),
        (Kind.SERVER, 404, True, ""),
        (Kind.SERVER, 503, True, "503"),
        (Kind.SERVER, 502, False, "502"),
        (Kind.SERVER, 499, False, "client_gone"),
        (Kind.CLIENT, 200, True, ""),
        (Kind.CLIENT, 404, True, "404"),
        (Kind.CLIENT, 502, True, "502"),
        (Kind.CLIENT, 502, False, "no_answer"),
        (Kind.CLIENT, 504, False, "timeout"),
        (Kind.CLIENT, 101, False, ""),
        (Kind.CLIENT, 499, False, "client_gone"),
    ],
)
def test_whose_fault_it_is(kind: Kind, status: int, answered: bool, error: str) -> None:
    span = ended(kind, status, answered=answered)
    assert span.error == span.attributes.get("error.type", "") == error
    says_status = error in ("", str(status))
    assert span.attributes.get("http.response.status_code") == (status if says_status else None)


def test_times_are_unix_times() -> None:
    before = time.time_ns()
    span = ended(Kind.SERVER, 200)
    assert (
        before - 10**9 < span.offset_ns + span.began * 1e9 <= span.offset_ns + span.ended * 1e9 <= time.time_ns() + 1e6
    )


def test_an_attempt_that_failed_says_so() -> None:
    span = Span(Kind.CLIENT, "GET", b"1" * 32, b"2" * 16, b"", 1, 0.0)
    span.end(None, "connection_lost")
    assert (span.error, span.attributes) == ("connection_lost", {"error.type": "connection_lost"})


@pytest.mark.parametrize(
    ("host", "found"),
    [
        (b"web.test", {"server.address": "web.test"}),
        (b"web.test:8000", {"server.address": "web.test", "server.port": 8000}),
        (b"[::1]:8000", {"server.address": "::1", "server.port": 8000}),
        (b"[::1]", {"server.address": "::1"}),
    ],
)
def test_where_a_request_goes(host: bytes, found: dict[str, str | int]) -> None:
    assert server_of(request(host=host)) == found


def test_http_1_0_may_not_say_where_it_goes() -> None:
    assert server_of(http1.parse_request(b"GET / HTTP/1.0\r\n\r\n", http1.MAX_HEAD)) == {}


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a/b?token=s3cret", "/a/b"),
        (b"/?", "/"),
        (b"*", "*"),
        (b"/token=s3cret/x", "/token=***"),
        (b"/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln/x", "/***/x"),
        (b"/" + b"x" * 4000, "/" + "x" * (TEXT_CHARACTERS - 1)),
    ],
)
def test_a_path_has_no_query_and_no_secret(target: bytes, path: str) -> None:
    asked = request(b"OPTIONS %b HTTP/1.1" % target)
    assert path_of(asked) == path
    assert described(asked, "https")["url.path"] == path
    full = described_towards(asked, "http://service", {})["url.full"]
    assert full == ("http://service" if path == "*" else f"http://service{path}")


def test_methods_that_strangers_make_up_are_one() -> None:
    made_up = request(b"MADEUP / HTTP/1.1")
    assert name_of(made_up) == "HTTP"
    assert described(made_up, "http")["http.request.method"] == "_OTHER"
    assert described(made_up, "http")["http.request.method_original"] == "MADEUP"
    assert name_of(request()) == "GET"
