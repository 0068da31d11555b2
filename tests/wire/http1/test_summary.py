"""Summaries of requests: they say what the head says, or are refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import HTTPError
from engine.wire import http1
from engine.wire.http1 import CHUNKED, Request, summary
from engine.wire.http1.summary import MARK, SIZE
from tests.wire.http1.heads import head
from tests.wire.http1.test_lines import field_lines, request_lines

PLAIN = head(b"Accept: */*")
POST = head(b"Content-Length: 5", first=b"POST /a HTTP/1.1")
CHUNKS = head(b"Transfer-Encoding: chunked", first=b"POST /a HTTP/1.1")


def packed(data: bytes, body: int, *, size: int | None = None) -> bytes:
    """A summary as anybody could make it, and a head."""
    return struct.pack("!B3xIq", MARK, len(data) if size is None else size, body) + data


def read(data: bytes, start: int = 0, limit: int = http1.MAX_HEAD) -> tuple[Request, int]:
    found = summary.next_request(memoryview(data), start, limit)
    assert found is not None
    return found


def said(request: Request) -> tuple[object, ...]:
    first = (request.method, request.target, request.version, request.host, request.body)
    return (*first, request.keep_alive, request.upgrade, request.expect_continue, request.fields, request.lines)


@settings(max_examples=500)
@given(request_lines, st.booleans(), field_lines)
def test_a_request_with_a_summary_is_the_one_without(first: bytes, host: bool, lines: list[bytes]) -> None:
    try:
        request = http1.parse_request(head(*lines, first=first, host=host))
    except HTTPError:
        return
    data = http1.encode_lines(request.lines)
    try:
        whole = http1.parse_request(data)
    except HTTPError:  # of HTTP/1.0 without Host, which the role adds
        return
    for _ in range(3):
        got, end = read(b"before" + summary.with_summary(request, data) + b"behind", 6)
        assert said(got) == said(whole)
        assert got.intact
        assert end == 6 + len(summary.with_summary(request, data))


@pytest.mark.parametrize("line", [b"Content-Length-X: 5", b"Transfer-Encoding~: chunked", b"Content-Length.: 1"])
def test_a_name_that_only_begins_like_one_that_frames_does_not(line: bytes) -> None:
    for data, body in (PLAIN, 0), (POST, 5), (CHUNKS, CHUNKED):
        more = data[:-2] + line + b"\r\n\r\n"
        assert http1.parse_request(more).body == body
        assert read(packed(more, body))[0].body == body


@pytest.mark.parametrize("data", [PLAIN, POST, CHUNKS, head(b"A: " + b"a" * 1000)])
def test_a_request_with_a_summary_may_be_cut_anywhere(data: bytes) -> None:
    whole = summary.with_summary(http1.parse_request(data), data)
    for size in range(1, len(whole)):
        assert summary.next_request(memoryview(whole[:size]), 0) is None
    assert read(whole)[1] == len(whole) == SIZE + len(data)


@pytest.mark.parametrize(
    "lines", [(b"Connection: upgrade", b"Upgrade: foo"), (b"Expect: 100-continue", b"Content-Length: 5")]
)
def test_what_is_rare_has_no_summary_and_is_read(lines: tuple[bytes, ...]) -> None:
    data = head(*lines)
    request = http1.parse_request(data)
    assert summary.with_summary(request, data) == data
    assert said(read(data)[0]) == said(request)


LIES = {
    "a body": packed(PLAIN, 5),
    "chunks": packed(PLAIN, CHUNKED),
    "another kind of body": packed(PLAIN, -2),
    "no body": packed(POST, 0),
    "a shorter body": packed(POST, 4),
    "chunks for a length": packed(POST, CHUNKED),
    "a length for chunks": packed(CHUNKS, 5),
    "nothing for chunks": packed(CHUNKS, 0),
    "two lengths": packed(head(b"Content-Length: 5", b"content-length: 5"), 5),
    "a length and chunks": packed(head(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 5),
    "chunks and a length": packed(head(b"Content-Length: 5", b"Transfer-Encoding: chunked"), CHUNKED),
    "another coding": packed(head(b"Transfer-Encoding: gzip, chunked"), CHUNKED),
    "a length and a space": packed(head(b"Content-Length : 5"), 5),
    "a length without a space": packed(head(b"Content-Length:5"), 5),
    "a length with a sign": packed(head(b"Content-Length: +5"), 5),
    "an odd length": packed(head(b"Content-Length: 1_0"), 10),
    "a name that goes on": packed(head(b"Content-Length-X: 5"), 5),
    "an end too early": packed(PLAIN + PLAIN, 0),
    "an end too late": packed(PLAIN[:-2], 0, size=len(PLAIN) - 2),
    "an end in a line": packed(PLAIN, 0, size=len(PLAIN) - 7),
    "no lines": packed(b"\r\n", 0),
    "nothing": packed(b"", 0),
    "a bare LF": packed(head(b"A: b\nContent-Length: 5"), 5),
    "a bare LF, and no body": packed(head(b"A: b\nB: c"), 0),
    "a bare CR": packed(head(b"A: b\rB: c"), 0),
    "CR and LF apart": packed(head(b"A: b\rB: c\nD: e"), 0),
    "an empty line by LF": packed(head(b"A: b\n\nGET / HTTP/1.1"), 0),
    "another version": packed(head(first=b"GET / HTTP/1.0"), 0),
    "no version": packed(head(first=b"GET /"), 0),
    "four words": packed(head(first=b"GET / / HTTP/1.1"), 0),
    "no method": packed(head(first=b" / HTTP/1.1"), 0),
    "no target": packed(head(first=b"GET  HTTP/1.1"), 0),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_summary_that_is_not_its_heads_is_refused(lie: str) -> None:
    for _ in range(3):
        with pytest.raises(HTTPError) as caught:
            summary.next_request(memoryview(LIES[lie]), 0)
        assert caught.value.status == 400


def test_a_lie_about_a_head_that_is_known_is_refused() -> None:
    for _ in range(3):
        read(packed(POST, 5))
    with pytest.raises(HTTPError):
        read(packed(POST, 4))


def test_a_head_that_is_too_long_is_refused_before_it_has_come() -> None:
    for limit in 100, http1.MAX_HEAD:
        with pytest.raises(HTTPError) as caught:
            summary.next_request(memoryview(packed(b"", 0, size=limit + 1)), 0, limit)
        assert caught.value.status == 431


@given(st.binary(max_size=40), st.sampled_from([PLAIN, POST, CHUNKS]), st.integers(0, 80))
def test_whatever_is_said_is_a_request_or_a_protocol_error(noise: bytes, data: bytes, place: int) -> None:
    whole = bytearray(packed(data, 5 if data is POST else 0))
    whole[place : place + len(noise)] = noise
    if not whole:
        return
    try:
        found = summary.next_request(memoryview(whole), 0)
    except HTTPError:
        return
    if found is not None and whole[0] == MARK:
        request, end = found
        again = http1.encode_lines(request.lines)
        assert end == SIZE + len(again)
        assert request.head == again
