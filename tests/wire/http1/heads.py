"""Heads to read, and ways to make them."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from engine.errors import HTTPError
from engine.wire import http1
from engine.wire.http1 import Fields, Request, Response
from engine.wire.http1.message import fields_of

BROWSER = (
    b"GET /assets/app.js?v=12 HTTP/1.1\r\n"
    b"Host: app.example.com\r\n"
    b"Connection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="130", "Google Chrome";v="130"\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n"
    b"Accept: */*\r\n"
    b"Cookie: _ga=1; session=abc\r\n"
    b"\r\n"
)
NGINX = (
    b"HTTP/1.1 200 OK\r\n"
    b"Server: nginx/1.22.1\r\n"
    b"Date: Mon, 23 Nov 2026 01:40:00 GMT\r\n"
    b"Content-Type: text/html\r\n"
    b"Content-Length: 128\r\n"
    b"Connection: keep-alive\r\n"
    b"\r\n"
)


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bool = True) -> bytes:
    return b"\r\n".join([first, *([b"Host: a.b"] if host else []), *lines, b"", b""])


def request(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bool = True) -> Request:
    return http1.parse_request(head(*lines, first=first, host=host))


def response(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET") -> Response:
    return http1.parse_response(head(*lines, first=first, host=False), method)


def refusal(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bool = True) -> int:
    with pytest.raises(HTTPError) as caught:
        request(*lines, first=first, host=host)
    return caught.value.status


def passed_on(message: Request | Response) -> Fields:
    """The fields that go on to the next hop."""
    return fields_of(http1.encode_lines(message.lines))


# Bytes that are nearly messages.
soup = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            b"GET |/ |HTTP/1.1|\r\n|Host: a.b\r\n|Content-Length: |Transfer-Encoding: |chunked|5|0|;|:| "
            b"|\n|\r|,|_|Connection: |upgrade|close|\r\n\r\n|HTTP/1.1 200 OK\r\n|5\r\nhello\r\n|0\r\n\r\n"
            b"|http://c.d|*".split(b"|")
        ),
    ),
    max_size=14,
).map(b"".join)
