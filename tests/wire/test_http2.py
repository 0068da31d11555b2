"""Heads, bodies and trailers of HTTP/2 as HTTP/1.1, and back."""

from __future__ import annotations

import pytest

from engine.errors import HTTPError
from engine.wire import http1, http2

GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a?b"), (b":authority", b"web.test")]
POST = [(b":method", b"POST"), *GET[1:]]


def test_a_request_is_one_of_http1() -> None:
    head, chunks = http2.request_head([*GET, (b"accept", b"*/*"), (b"x-empty", b"")], ended=True)
    assert head == b"GET /a?b HTTP/1.1\r\nHost: web.test\r\naccept: */*\r\nx-empty: \r\n\r\n"
    assert not chunks
    assert http1.parse_request(head).body == 0


@pytest.mark.parametrize(
    ("fields", "ended", "framing"),
    [
        ([], True, 0),
        ([], False, http1.CHUNKED),
        ([(b"content-length", b"5")], False, 5),
        ([(b"content-length", b"0")], True, 0),
    ],
)
def test_a_body_has_its_length_or_chunks(fields: list[tuple[bytes, bytes]], ended: bool, framing: int) -> None:
    head, chunks = http2.request_head([*POST, *fields], ended=ended)
    assert http1.parse_request(head).body == framing
    assert chunks == (framing == http1.CHUNKED)
    assert head.lower().count(b"content-length") + head.count(b"Transfer-Encoding") == 1


def test_the_host_field_stands_in_for_the_authority() -> None:
    head, _ = http2.request_head([*GET[:3], (b"host", b"web.test")], ended=True)
    assert head.count(b"Host: web.test") == 1
    head, _ = http2.request_head([*GET, (b"host", b"web.test")], ended=True)
    assert head.lower().count(b"host: ") == 1


@pytest.mark.parametrize(
    "fields",
    [
        [*GET, (b"a b", b"c")],
        [*GET, (b"a\r\nb", b"c")],
        [*GET, (b"a:", b"c")],
        [*GET, (b"a", b"c\r\nx: y")],
        [*GET, (b"a", b"c\x00")],
        [(b":method", b"GET / HTTP/1.1\r\nx: y\r\n\r\nGET"), *GET[1:]],
        [(b":method", b""), *GET[1:]],
        [GET[0], GET[1], (b":path", b"http://other.test/"), GET[3]],
        [GET[0], GET[1], (b":path", b"/ HTTP/1.1"), GET[3]],
    ],
)
def test_what_would_be_another_message_is_refused(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(HTTPError):
        http2.request_head(fields, ended=True)


def test_connect_is_refused_by_whoever_reads_it() -> None:
    head, _ = http2.request_head([(b":method", b"CONNECT"), (b":authority", b"other.test:443")], ended=False)
    with pytest.raises(HTTPError) as caught:
        http1.parse_request(head)
    assert caught.value.status == 501


@pytest.mark.parametrize(
    ("status", "method", "ended", "framing"),
    [
        (b"200", b"GET", True, 0),
        (b"200", b"GET", False, http1.CHUNKED),
        (b"200", b"HEAD", True, 0),
        (b"204", b"GET", True, 0),
        (b"304", b"GET", True, 0),
        (b"100", b"POST", False, 0),
    ],
)
def test_an_answer_is_one_of_http1(status: bytes, method: bytes, ended: bool, framing: int) -> None:
    head, chunks = http2.response_head([(b":status", status), (b"server", b"s")], method, ended=ended)
    response = http1.parse_response(head, method)
    assert (response.status, response.body, chunks) == (int(status), framing, framing == http1.CHUNKED)
    assert (b"server", b"s") in response.fields


def test_an_answer_goes_on_without_what_is_of_its_hop() -> None:
    head = b"HTTP/1.1 200 OK\r\nServer: s\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nSet-Cookie: a\r\n\r\n"
    fields = http2.response_fields(http1.parse_response(head, b"GET"))
    assert fields == [(b":status", b"200"), (b"server", b"s"), (b"set-cookie", b"a")]


def test_a_request_goes_on_in_fields() -> None:
    head = b"POST /a HTTP/1.1\r\nHost: web.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
    fields = http2.request_fields(http1.parse_request(head), b"https")
    assert fields[:4] == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"web.test"),
        (b":path", b"/a"),
    ]
    assert fields[4:] == [(b"te", b"trailers"), (b"x-a", b"b")]


def test_trailers_go_both_ways() -> None:
    end = http2.last_chunk([(b"grpc-status", b"0"), (b"grpc-message", b"")])
    assert end == b"0\r\ngrpc-status: 0\r\ngrpc-message: \r\n\r\n"
    body = http1.Body()
    body.begin(http1.CHUNKED, chunks=False)
    assert body.receive(memoryview(end)) == []
    assert http2.trailer_fields(body.trailers) == [(b"grpc-status", b"0"), (b"grpc-message", b"")]
