"""What a head is after it was read."""

from __future__ import annotations

import pytest

from engine.wire import http1


@pytest.mark.parametrize(
    ("head", "goes_on"),
    [
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nProxy-Authorization: Basic eDp5\r\n\r\n", False),
        (b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True),
        (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nETag: x\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nKeep-Alive: 5\r\nContent-Length: 5\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", False),
    ],
)
def test_only_a_head_in_which_nothing_ends_here_goes_on_as_it_came(head: bytes, goes_on: bool) -> None:
    message: http1.Request | http1.Response
    message = http1.parse_response(head, b"GET") if head.startswith(b"HTTP/") else http1.parse_request(head)
    assert message.intact is goes_on
    if goes_on:
        assert message.head == http1.encode_lines(message.lines) == head


@pytest.mark.parametrize(
    ("head", "plain"),
    [
        (
            b"GET / HTTP/1.1\r\nHost:a.test\r\nAccept: \t*/* \r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n\r\n",
        ),
        (b"\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nA_b: c\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a.test\r\nA_b: c\r\n\r\n"),
        (
            b"GET http://b.test HTTP/1.1\r\nA: b\r\nHost: a.test\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: b.test\r\nA: b\r\n\r\n",
        ),
        (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length:5\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_a_head_that_is_not_plain_goes_on_in_plain_form(head: bytes, plain: bytes) -> None:
    message: http1.Request | http1.Response
    message = http1.parse_response(head, b"GET") if head.startswith(b"HTTP/") else http1.parse_request(head)
    assert message.head == http1.encode_lines(message.lines) == plain
