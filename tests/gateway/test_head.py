"""Heads as they go on to the next hop."""

from __future__ import annotations

import pytest

from engine.gateway.head import answer_head, head_for_go, request_head
from engine.wire import http1


def request(head: bytes) -> bytes:
    parsed = http1.parse_request(head)
    return request_head(parsed, parsed.lines, b"/base")


def test_a_request_goes_on_with_this_hops_framing_and_without_the_last_ones() -> None:
    head = b"PUT /a HTTP/1.1\r\nHost: x.test\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert request(head) == b"PUT /base/a HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_an_upgrade_is_asked_of_the_next_hop() -> None:
    head = b"GET /a HTTP/1.1\r\nHost: x.test\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n"
    assert request(head).endswith(b"Host: x.test\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n")


@pytest.mark.parametrize(
    ("fields", "last"),
    [
        (b"", False),
        (b"Content-Length: 0\r\n", False),
        (b"Content-Length: 1\r\n", True),
        (b"Transfer-Encoding: chunked\r\n", True),
        (b"Content-Length: 1\r\nExpect: 100-continue\r\n", True),
        (b"Content-Length: 1\r\nConnection: Upgrade\r\nUpgrade: foo\r\n", False),
    ],
)
def test_a_request_with_a_body_is_the_last_that_goes_to_go(fields: bytes, last: bool) -> None:
    parsed = http1.parse_request(b"POST /a HTTP/1.1\r\nHost: x.test\r\n" + fields + b"\r\n")
    head = request_head(parsed, parsed.lines)
    assert head_for_go(parsed, head) == (head[:-2] + b"Connection: close\r\n\r\n" if last else head)


WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
WITHOUT = b"HTTP/1.1 200 OK\r\nETag: x\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "version", "last", "added"),
    [
        (WITH_LENGTH, 11, False, b""),
        (WITH_LENGTH, 11, True, b"Connection: close\r\n"),
        (WITH_LENGTH, 10, False, b"Connection: keep-alive\r\n"),
        (WITH_LENGTH, 10, True, b"Connection: close\r\n"),
        (WITHOUT, 11, False, b"Transfer-Encoding: chunked\r\n"),
        (WITHOUT, 11, True, b"Transfer-Encoding: chunked\r\nConnection: close\r\n"),
        (WITHOUT, 10, True, b"Connection: close\r\n"),
    ],
)
def test_an_answer_says_how_it_ends_and_whether_another_may_follow(
    head: bytes, version: int, last: bool, added: bytes
) -> None:
    for _ in range(3):  # an answer that repeats is remembered
        response = http1.parse_response(head, b"GET")
        assert answer_head(response, version, last) == head[:-2] + added + b"\r\n"
