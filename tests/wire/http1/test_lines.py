"""Field lines that come again: what they say is what they would say alone, and what is kept of them is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import HTTPError
from engine.wire import http1
from engine.wire.http1 import lines as module
from engine.wire.http1 import read
from engine.wire.http1.lines import KEPT_BYTES, KEPT_NAMES, Lines
from tests.wire.http1.heads import head, passed_on
from tests.wire.http1.whole import Read, read_request, read_response

NAMES = (
    b"Host host Accept accept User-Agent Connection connection Upgrade TE Transfer-Encoding Content-Length"
    b" content-length Expect Keep-Alive Proxy-Authorization Cookie X-Forwarded-For X-Real-IP X_Real_IP X-Piko-Endpoint"
    b" x-piko-endpoint Authorization X_Piko_Endpoint X-Made-Up X_Made_Up Date"
).split()
VALUES = (
    b"a.b|*/*|keep-alive|close|upgrade|Upgrade, X-Made-Up|te|websocket|trailers|chunked|Chunked|5|05|-1|100-continue"
    b"||a, b|a.b |\ta.b|x\ty|\xe9|a\x0bb|a\nb"
).split(b"|")
line = st.builds(
    lambda name, colon, value: name + colon + value,
    st.sampled_from(NAMES),
    st.sampled_from([b": "] * 8 + [b":", b" : ", b":  ", b""]),
    st.sampled_from(VALUES),
)
field_lines = st.lists(line, max_size=6)
request_lines = st.sampled_from(
    b"GET / HTTP/1.1|GET /a?b HTTP/1.0|POST /c HTTP/1.1|OPTIONS * HTTP/1.1|GET http://c.d/e HTTP/1.1"
    b"|CONNECT a:1 HTTP/1.1|GET  / HTTP/1.1|Accept: */*|GET / HTTP/1.2|\r\nGET / HTTP/1.1".split(b"|")
)
status_lines = st.sampled_from(
    b"HTTP/1.1 200 OK|HTTP/1.0 200 OK|HTTP/1.1 204 |HTTP/1.1 304|HTTP/1.1 100 Continue|HTTP/2 200|Accept: */*".split(
        b"|"
    )
)


@settings(max_examples=1000)
@given(st.lists(st.tuples(request_lines, st.booleans(), field_lines), min_size=1, max_size=3))
def test_a_request_read_by_lines_is_what_it_is_as_a_whole(asked: list[tuple[bytes, bool, list[bytes]]]) -> None:
    heads = [head(*lines, first=first, host=host) for first, host, lines in asked]
    for data in heads * 3:  # by the third time every line that is kept is known
        read._known_requests.clear()
        try:
            got = http1.parse_request(data)
        except HTTPError:
            assert read_request(data) is None
            continue
        first = (got.method, got.target)
        assert Read(first, got.body, got.keep_alive, got.upgrade, passed_on(got)) == read_request(data)
        if got.intact:
            assert http1.encode_lines(got.lines) == got.head


@settings(max_examples=1000)
@given(
    st.lists(st.tuples(status_lines, field_lines), min_size=1, max_size=3), st.sampled_from([b"GET", b"HEAD", b"POST"])
)
def test_a_response_read_by_lines_is_what_it_is_as_a_whole(
    answered: list[tuple[bytes, list[bytes]]], method: bytes
) -> None:
    heads = [head(*lines, first=first, host=False) for first, lines in answered]
    for data in heads * 3:
        read._known_responses.clear()
        try:
            got = http1.parse_response(data, method)
        except HTTPError:
            assert read_response(data, method) is None
            continue
        first = (got.status, got.reason)
        assert Read(first, got.body, got.keep_alive, got.upgrade, passed_on(got)) == read_response(data, method)


def known(lines: Lines) -> list[bytes]:
    return [*lines.passing, *lines.marked]


def test_a_line_is_kept_when_it_has_come_twice() -> None:
    lines = Lines()
    for _ in range(2):
        assert known(lines) == []
        lines.read([b"GET / HTTP/1.1", b"Accept: */*", b"Host: a.b"])
    assert known(lines) == [b"Accept: */*", b"Host: a.b"]
    assert lines.read([b"GET / HTTP/1.1", b"Accept: */*", b"Host: a.b"]) == [(b"host", b"a.b", b"Host: a.b")]


@pytest.mark.parametrize(
    "line",
    [
        b"Cookie: session=1",
        b"Set-Cookie: session=1",
        b"Authorization: Bearer x",
        b"Proxy-Authorization: Basic x",
        b"X-Piko-Authorization: Bearer x",
        b"X-Api-Key: x",
        b"Referer: https://a.b/?token=x",
        b"Location: https://a.b/?token=x",
        b"Sec-WebSocket-Key: x",
        b"X-Nobody-Knows: x",
        b"Accept: " + b"a" * module.KEPT_LINE,
    ],
)
def test_a_line_that_may_hold_a_secret_is_never_kept_nor_one_that_is_long(line: bytes) -> None:
    lines = Lines()
    for _ in range(5):
        lines.read([b"GET / HTTP/1.1", line])
    assert known(lines) == []


def test_all_lines_together_are_bounded_and_so_are_names() -> None:
    lines = Lines()
    most = 0
    for number in range(3 * KEPT_BYTES // 256):
        for _ in range(2):
            lines.read([b"", b"Accept: %0256d" % number, b"Host: %d" % number, b"X-%d: a" % number])
        most = max(most, sum(map(len, known(lines))))
        assert len(lines._names) <= KEPT_NAMES
    assert KEPT_BYTES / 2 < most <= KEPT_BYTES


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"A",
        b": b",
        b"A:b",
        b"A: b ",
        b"A:  b",
        b"A : b",
        b"A_b: c",
        b" A: b",
        b"A: b\rc",
        b"A: b\nB: c",
        b"A: \x00",
    ],
)
def test_a_head_with_a_line_that_is_not_plain_is_left_to_the_grammar(line: bytes) -> None:
    lines = Lines()
    for _ in range(3):
        assert lines.read([b"GET / HTTP/1.1", b"Host: a.b", line]) is None
    assert line not in known(lines)
