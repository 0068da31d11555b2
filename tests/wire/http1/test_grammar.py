"""What is grammar in a head and what is not."""

from __future__ import annotations

import pytest

from engine.errors import HTTPError
from engine.wire import http1
from tests.wire.http1.heads import head, refusal, request, response


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"GET / HTTP/1.32", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 505),
        (b"GET /", 400),
        (b"GET", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET\t/\tHTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET / http/1.1", 400),
        (b"GET / FTP/1.1", 400),
        (b"GET / HTTP/1.1.1", 400),
        (b"GE(T / HTTP/1.1", 400),
        (b"GET /\xc3\xa9 HTTP/1.1", 400),
        (b"GET /a\x7fb HTTP/1.1", 400),
        (b"GET /\x00 HTTP/1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET index.html HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET a.b:80 HTTP/1.1", 400),
        (b"GET ftp://a.b/ HTTP/1.1", 400),
        (b"GET http:///x HTTP/1.1", 400),
        (b"GET http://user@a.b/ HTTP/1.1", 400),
        (b"CONNECT a.b:443 HTTP/1.1", 501),
        (b"CONNECT / HTTP/1.1", 501),
        (b"GET /" + b"a" * http1.MAX_LINE + b" HTTP/1.1", 414),
    ],
)
def test_a_request_line_outside_the_grammar_is_refused(first: bytes, status: int) -> None:
    assert refusal(first=first) == status


@pytest.mark.parametrize("byte", list(b'#"<>\\^`{|}'))
def test_a_byte_that_no_target_has_is_refused(byte: int) -> None:
    for target in (b"/a%cb" % byte, b"/?a=%c" % byte, b"/%c" % byte, b"http://a.b/%c" % byte):
        assert refusal(first=b"GET " + target + b" HTTP/1.1") == 400


@pytest.mark.parametrize("target", [b"/", b"//x", b"/a%zz?b=%zz", b"/%00", b"/?*", b"/a?b[]=c", b"/-._~!$&'()*+,;=:@"])
def test_a_path_passes_as_it_was_sent(target: bytes) -> None:
    assert request(first=b"GET " + target + b" HTTP/1.1").target == target


@pytest.mark.parametrize(
    "line",
    [
        b"A : b",
        b"A\t: b",
        b": b",
        b"A",
        b"A b: c",
        b"A\xe9: b",
        b"A(: b",
        b" A: b",
        b"A: b\r\n c",
        b"A: b\r\n\tc",
        b"A: b\rc",
        b"A: b\nc: d",
        b"A: b\x00",
        b"A: \x0bb",
        b"A: \x1b[31m",
        b"A: \x7f",
        b"A\x00: b",
    ],
)
def test_a_field_line_outside_the_grammar_is_refused_on_both_sides(line: bytes) -> None:
    assert refusal(line) == 400
    with pytest.raises(HTTPError):
        response(line)


def test_more_fields_than_the_limit_are_refused() -> None:
    assert len(request(*[b"A: b"] * (http1.MAX_FIELDS - 1)).fields) == http1.MAX_FIELDS
    assert refusal(*[b"A: b"] * http1.MAX_FIELDS) == 431
    with pytest.raises(HTTPError):
        response(*[b"A: b"] * (http1.MAX_FIELDS + 1))


def test_the_first_line_alone_has_the_limit_of_a_line() -> None:
    long = b"a" * http1.MAX_LINE
    assert request(b"A: " + long).fields[1] == (b"A", long)
    assert refusal(first=b"\r\nGET /" + long + b" HTTP/1.1") == 414
    assert refusal(first=b"GET /" + long + b"\x00 HTTP/1.1") == 414


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"HTTP/1.1 200 OK", b"OK"),
        (b"HTTP/1.1 200 ", b""),
        (b"HTTP/1.1 200", b""),
        (b"HTTP/1.1 200 not \xe9 word", b"not \xe9 word"),
    ],
)
def test_a_reason_is_free_text(first: bytes, reason: bytes) -> None:
    assert response(first=first).reason == reason


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/2 200 OK",
        b"HTTP/1.2 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200 OK\rX",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 +20 OK",
        b"GET / HTTP/1.1",
    ],
)
def test_a_status_line_outside_the_grammar_is_refused(first: bytes) -> None:
    with pytest.raises(HTTPError):
        response(first=first)


def test_a_long_head_of_repeated_near_misses_is_refused_in_linear_time() -> None:
    # Possessive patterns cannot backtrack; if one could, this would take minutes, not milliseconds.
    near = b"A" * 30_000 + b"\x00"
    for data in head(near + b": b"), head(b"A: " + b" " * 30_000 + b"\x00"), head(b"A:" + b" \t" * 15_000):
        with pytest.raises(HTTPError):
            http1.parse_request(data + b"\x00")
