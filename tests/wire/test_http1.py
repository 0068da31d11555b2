"""HTTP/1.1 heads and chunked bodies: what is grammar, what decides, and what is refused with which status."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RemoteProtocolError
from engine.wire import http1
from engine.wire.http1 import CHUNKED, UNTIL_CLOSE, ChunkedBody, Fields, Request, Response

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
    with pytest.raises(RemoteProtocolError) as caught:
        request(*lines, first=first, host=host)
    return caught.value.status


# Heads, whole and in pieces


def test_a_browsers_request_is_read_field_by_field() -> None:
    got = http1.parse_request(BROWSER)
    assert (got.method, got.target, got.version) == (b"GET", b"/assets/app.js?v=12", 11)
    assert got.fields[0] == (b"Host", b"app.example.com")
    assert got.fields[5] == (b"Cookie", b"_ga=1; session=abc")
    assert len(got.fields) == 6
    assert (got.host, got.body, got.keep_alive, got.upgrade) == (b"app.example.com", 0, True, b"")
    assert not got.expect_continue


def test_nginxs_response_is_read_field_by_field() -> None:
    got = http1.parse_response(NGINX, b"GET")
    assert (got.version, got.status, got.reason) == (11, 200, b"OK")
    assert got.fields[3] == (b"Content-Length", b"128")
    assert (got.body, got.keep_alive, got.upgrade) == (128, True, b"")


@pytest.mark.parametrize("whole", [BROWSER, NGINX, b"\r\n\r\n" + BROWSER], ids=["request", "response", "late"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_end_of_a_head_is_found_whatever_the_reads(whole: bytes, kind: type[bytes]) -> None:
    for size in range(len(whole)):
        assert http1.head_end(kind(whole[:size])) == -1
    assert http1.head_end(kind(whole)) == len(whole)
    assert http1.head_end(kind(whole + b"body\r\n\r\n")) == len(whole)
    assert http1.head_end(kind(b"before" + whole + b"tail"), 6) == 6 + len(whole)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\x00", 400),
        (b"\x05\x01\x00", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\nHost: a.b\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a.b\n", 400),
        (b"\nGET / HTTP/1.1\r\n", 400),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 400),
        (b"GET /\r\n", 400),
        (b"\r\n" * 5, 400),
        (b"GET /" + b"a" * http1.MAX_LINE, 414),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * http1.MAX_HEAD, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * http1.MAX_HEAD + b"\r\n\r\n", 431),
    ],
)
def test_a_beginning_that_cannot_become_a_head_is_refused_at_once(data: bytes, status: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        http1.head_end(data)
    assert caught.value.status == status


def test_the_http2_preface_is_another_version() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    end = http1.head_end(preface)
    with pytest.raises(RemoteProtocolError) as caught:
        http1.parse_request(preface[:end])
    assert caught.value.status == 505


def test_a_few_empty_lines_before_a_request_are_tolerated_and_before_a_response_are_not() -> None:
    assert http1.parse_request(b"\r\n\r\n" + BROWSER).host == b"app.example.com"
    with pytest.raises(RemoteProtocolError):
        http1.parse_response(b"\r\n" + NGINX, b"GET")


def test_white_space_around_a_value_is_not_part_of_it() -> None:
    got = request(b"A: \t b c \t", b"B:d", b"C:", b"D:  ")
    assert got.fields[1:] == [(b"A", b"b c"), (b"B", b"d"), (b"C", b""), (b"D", b"")]
    assert response(b"A: \t b c \t").fields == [(b"A", b"b c")]


def test_a_message_names_the_value_escaped_and_cut() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        request(b"Content-Length: \xe9\x80" + b"9" * 1000)
    assert r"\xe9\x80" in str(caught.value)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


# The grammar of a request


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


@pytest.mark.parametrize("target", [b"/", b"//x", b"/a%zz?b=%zz", b'/"<>^`{|}\\', b"/a#b", b"/%00", b"/?*"])
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
    with pytest.raises(RemoteProtocolError):
        response(line)


def test_more_fields_than_the_limit_are_refused() -> None:
    assert len(request(*[b"A: b"] * (http1.MAX_FIELDS - 1)).fields) == http1.MAX_FIELDS
    assert refusal(*[b"A: b"] * http1.MAX_FIELDS) == 431
    with pytest.raises(RemoteProtocolError):
        response(*[b"A: b"] * (http1.MAX_FIELDS + 1))


@pytest.mark.parametrize(
    "names",
    [
        [b"Content_Length"],
        [b"transfer_encoding"],
        [b"X_Piko_Endpoint"],
        [b"x-piko_forward"],
        [b"X_Forwarded_For"],
        [b"Proxy_Authorization"],
        [b"X-User", b"X_User"],
        [b"a_b-c", b"a-b_c"],
    ],
)
def test_a_name_with_an_underscore_that_can_be_taken_for_another_is_refused(names: list[bytes]) -> None:
    assert refusal(*[name + b": 1" for name in names]) == 400


def test_other_names_with_an_underscore_pass() -> None:
    assert request(b"user_id: 7", b"user_id: 8").fields[1:] == [(b"user_id", b"7"), (b"user_id", b"8")]


def test_the_first_line_alone_has_the_limit_of_a_line() -> None:
    long = b"a" * http1.MAX_LINE
    assert request(b"A: " + long).fields[1] == (b"A", long)
    assert refusal(first=b"\r\nGET /" + long + b" HTTP/1.1") == 414
    assert refusal(first=b"GET /" + long + b"\x00 HTTP/1.1") == 414


# Where a request goes


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"a.b, c.d",
        b"a.b,c.d",
        b"a b",
        b"user@a.b",
        b"a.b/path",
        b"http://a.b",
        b"a.b?x",
        b"a.b#x",
        b"a.b:port",
        b"a.b:123456",
        b"[::1",
        b"::1",
        b"[a]b",
        b"a%zz",
        b"a\\b",
        b"\xc3\xa9.b",
    ],
)
def test_a_host_that_is_not_one_host_is_refused(host: bytes) -> None:
    assert refusal(b"Host: " + host, host=False) == 400


@pytest.mark.parametrize("host", [b"a", b"a.b:80", b"a.b:", b"1.2.3.4", b"[::1]:8000", b"my_ep.x", b"a%20b", b"a=b"])
def test_a_host_passes_as_it_was_sent(host: bytes) -> None:
    assert request(b"Host: " + host, host=False).host == host


def test_http_1_1_needs_one_host_and_http_1_0_none() -> None:
    assert refusal(host=False) == 400
    assert refusal(b"Host: a.b") == 400
    assert refusal(b"Host: a.b", first=b"GET / HTTP/1.0") == 400
    assert request(first=b"GET / HTTP/1.0", host=False).host == b""


@pytest.mark.parametrize(
    ("first", "target"),
    [
        (b"GET http://c.d:81/e?f HTTP/1.1", b"/e?f"),
        (b"GET HTTPS://c.d:81 HTTP/1.1", b"/"),
        (b"GET http://c.d:81?f HTTP/1.1", b"/?f"),
        (b"OPTIONS http://c.d:81 HTTP/1.1", b"*"),
        (b"OPTIONS http://c.d:81/ HTTP/1.1", b"/"),
    ],
)
def test_an_absolute_target_overrules_host_everywhere(first: bytes, target: bytes) -> None:
    got = request(b"A: b", first=first)
    assert (got.host, got.target) == (b"c.d:81", target)
    assert got.fields == [(b"Host", b"c.d:81"), (b"A", b"b")]


def test_an_absolute_target_gives_http_1_0_its_host_and_excuses_no_missing_one_in_http_1_1() -> None:
    assert request(first=b"GET http://c.d/ HTTP/1.0", host=False).fields == [(b"Host", b"c.d")]
    assert refusal(first=b"GET http://c.d/ HTTP/1.1", host=False) == 400


def test_options_may_ask_for_the_server_itself() -> None:
    assert request(first=b"OPTIONS * HTTP/1.1").target == b"*"


# Framing


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: ,chunked"],
        [b"Transfer-Encoding: chunked,"],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Transfer-Encoding: identity, chunked"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked;q=1"],
        [b"Transfer-Encoding: \x85chunked"],
        [b"Transfer-Encoding: \x0bchunked"],
        [b"Transfer-Encoding: chunked\xa0"],
        [b'Transfer-Encoding: "chunked"'],
        [b"Transfer-Encoding:"],
        [b"Transfer-Encoding : chunked"],
        [b"Content-Length: +5"],
        [b"Content-Length: -1"],
        [b"Content-Length: 0x10"],
        [b"Content-Length: 1_0"],
        [b"Content-Length: 5,5"],
        [b"Content-Length: 5 5"],
        [b"Content-Length: 5;"],
        [b"Content-Length: 1e3"],
        [b"Content-Length: \xb2"],
        [b"Content-Length:"],
        [b"Content-Length: " + b"1" * 20],
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: ", b"Content-Length: 5"],
    ],
)
def test_framing_in_doubt_is_refused_on_both_sides(lines: list[bytes]) -> None:
    assert refusal(*lines) == 400
    for method in b"GET", b"HEAD":
        with pytest.raises(RemoteProtocolError):
            response(*lines, method=method)


@pytest.mark.parametrize("coding", [b"identity", b"gzip", b"xchunked", b"chunke"])
def test_one_unknown_coding_is_not_implemented(coding: bytes) -> None:
    assert refusal(b"Transfer-Encoding: " + coding) == 501


def test_chunks_do_not_exist_in_http_1_0() -> None:
    assert refusal(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0") == 400
    with pytest.raises(RemoteProtocolError):
        response(b"Transfer-Encoding: chunked", first=b"HTTP/1.0 200 OK")


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (b"Content-Length: 0", 0),
        (b"Content-Length: 17", 17),
        (b"Content-Length: 017", 17),
        (b"content-length: 999999999999999999", 999999999999999999),
        (b"Transfer-Encoding: chunked", CHUNKED),
        (b"transfer-encoding:\tChunked ", CHUNKED),
    ],
)
def test_the_body_of_both_is_framed_by_length_or_chunks(line: bytes, body: int) -> None:
    assert request(line, first=b"POST / HTTP/1.1").body == body
    assert response(line).body == body


def test_a_request_without_framing_has_no_body_and_a_response_lasts_until_the_close() -> None:
    assert request(first=b"POST / HTTP/1.1").body == 0
    got = response(b"Connection: keep-alive")
    assert (got.body, got.keep_alive) == (UNTIL_CLOSE, False)


@pytest.mark.parametrize(
    ("first", "method"),
    [
        (b"HTTP/1.1 200 OK", b"HEAD"),
        (b"HTTP/1.1 204 No Content", b"GET"),
        (b"HTTP/1.1 304 Not Modified", b"GET"),
        (b"HTTP/1.1 100 Continue", b"POST"),
        (b"HTTP/1.1 103 Early Hints", b"GET"),
    ],
)
def test_some_responses_have_no_body_whatever_their_fields_say(first: bytes, method: bytes) -> None:
    for lines in [], [b"Content-Length: 7"], [b"Transfer-Encoding: chunked"]:
        got = response(*lines, first=first, method=method)
        assert (got.body, got.keep_alive) == (0, True)


def test_a_length_is_passed_on_where_it_means_something() -> None:
    length = (b"Content-Length", b"7")
    for first, method, kept in [
        (b"HTTP/1.1 200 OK", b"HEAD", [length]),
        (b"HTTP/1.1 304 Not Modified", b"GET", [length]),
        (b"HTTP/1.1 204 No Content", b"GET", []),
        (b"HTTP/1.1 103 Early Hints", b"GET", []),
    ]:
        assert http1.end_to_end(response(b"Content-Length: 7", first=first, method=method)) == kept


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
    with pytest.raises(RemoteProtocolError):
        response(first=first)


# Connections


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", None, True),
        (b"1.1", b"keep-alive", True),
        (b"1.1", b"close", False),
        (b"1.1", b"Close", False),
        (b"1.1", b"keep-alive, close", False),
        (b"1.1", b", foo ,,", True),
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"foo, keep-alive", True),
        (b"1.0", b"keep-alive, close", False),
    ],
)
def test_keep_alive_follows_version_and_connection(version: bytes, connection: bytes | None, kept: bool) -> None:
    lines = [] if connection is None else [b"Connection: " + connection]
    assert request(*lines, first=b"GET / HTTP/" + version).keep_alive is kept
    got = response(*lines, b"Content-Length: 0", first=b"HTTP/" + version + b" 200 OK")
    assert got.keep_alive is kept


@pytest.mark.parametrize("connection", [b"a b", b"a;b", b'"a"', b"a/b", b"\xe9"])
def test_a_connection_field_that_is_no_list_of_names_is_refused(connection: bytes) -> None:
    assert refusal(b"Connection: " + connection) == 400


@pytest.mark.parametrize(
    ("connection", "upgrade", "wanted"),
    [
        (b"Upgrade", b"websocket", b"websocket"),
        (b"keep-alive, upgrade", b"WebSocket", b"WebSocket"),
        (b"upgrade", b"foo/2, bar", b"foo/2, bar"),
        (b"keep-alive", b"websocket", b""),
        (None, b"websocket", b""),
        (b"upgrade", None, b""),
        (b"upgrade", b"h2c", b""),
        (b"upgrade, HTTP2-Settings", b"H2C", b""),
        (b"upgrade", b"h2c, websocket", b"websocket"),
        (b"upgrade", b"HTTP/2.0", b""),
    ],
)
def test_an_upgrade_counts_if_connection_nominates_it(
    connection: bytes | None, upgrade: bytes | None, wanted: bytes
) -> None:
    lines = [] if connection is None else [b"Connection: " + connection]
    lines += [] if upgrade is None else [b"Upgrade: " + upgrade]
    assert request(*lines).upgrade == wanted
    assert response(*lines, first=b"HTTP/1.1 101 Switching Protocols").upgrade == wanted
    assert request(*lines, first=b"GET / HTTP/1.0").upgrade == b""


def test_an_upgrade_that_names_no_protocol_is_refused() -> None:
    assert refusal(b"Connection: upgrade", b"Upgrade: web socket") == 400


def test_several_upgrade_and_connection_fields_are_one_list() -> None:
    got = request(b"Connection: close", b"Upgrade: a", b"Connection: upgrade", b"Upgrade: b")
    assert (got.keep_alive, got.upgrade) == (False, b"a, b")


def test_expect_means_100_continue_in_http_1_1_and_nothing_in_http_1_0() -> None:
    post, line = b"POST / HTTP/1.1", b"Content-Length: 5"
    assert request(b"Expect: 100-continue", line, first=post).expect_continue
    assert request(b"Expect: 100-Continue", line, first=post).expect_continue
    assert not request(b"Expect: 100-continue", first=post).expect_continue
    assert not request(b"Expect: 100-continue", line, first=b"POST / HTTP/1.0").expect_continue
    assert not request(b"Expect: miracles", line, first=b"POST / HTTP/1.0").expect_continue
    assert refusal(b"Expect: miracles", line, first=post) == 417
    assert refusal(b"Expect: miracles", first=post) == 417


# What passes on


def names(fields: Fields) -> list[bytes]:
    return [name for name, _ in fields]


def test_fields_of_this_hop_are_not_passed_on() -> None:
    got = request(
        b"Connection: keep-alive, X-Private",
        b"Keep-Alive: 300",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic x",
        b"TE: deflate",
        b"Transfer-Encoding: chunked",
        b"Upgrade: websocket",
        b"HTTP2-Settings: x",
        b"x-private: 1",
        b"X-Public: 2",
    )
    assert http1.end_to_end(got) == [(b"Host", b"a.b"), (b"X-Public", b"2")]


def test_connection_cannot_take_away_what_is_for_the_other_end() -> None:
    kept = (
        b"Host Content-Length Content-Type Authorization Cookie X-Piko-Endpoint X-Forwarded-For Forwarded"
        b" X-Real-IP Date Cache-Control Range If-None-Match Accept-Encoding Sec-WebSocket-Key"
    ).split()
    lines = [name + b": 1" for name in kept if name not in (b"Host", b"Content-Length")]
    got = request(b"Connection: upgrade, " + b", ".join(kept), b"Upgrade: x", b"Content-Length: 1", *lines)
    assert sorted(names(http1.end_to_end(got))) == sorted(kept)


def test_the_wish_for_trailers_passes_on() -> None:
    assert (b"TE", b"trailers") in http1.end_to_end(request(b"TE: trailers", b"Connection: TE"))
    assert b"TE" not in names(http1.end_to_end(request(b"TE: trailers, deflate")))


def test_the_list_of_passed_fields_is_the_callers_own() -> None:
    got = request()
    http1.end_to_end(got).append((b"A", b"b"))
    assert got.fields == [(b"Host", b"a.b")]


def test_what_is_written_reads_the_same() -> None:
    got = http1.parse_request(BROWSER)
    assert http1.encode_request(got.method, got.target, got.fields) == BROWSER
    answer = http1.parse_response(NGINX, b"GET")
    assert http1.encode_response(answer.status, answer.reason, answer.fields) == NGINX
    assert http1.encode_response(204, b"", []) == b"HTTP/1.1 204 \r\n\r\n"


@pytest.mark.parametrize("close", [True, False])
def test_an_error_response_is_pikos_json(close: bool) -> None:
    data = http1.error_response(502, 'no "upstream" \x00é', close=close)
    end = http1.head_end(data)
    got = http1.parse_response(data[:end], b"GET")
    assert (got.status, got.reason, got.body) == (502, b"Bad Gateway", len(data) - end)
    assert got.keep_alive is not close
    assert (b"X-Content-Type-Options", b"nosniff") in got.fields
    assert json.loads(data[end:]) == {"error": 'no "upstream" \x00é'}
    assert http1.error_response(499, "x", close=True).startswith(b"HTTP/1.1 499 \r\n")


# Chunked bodies


def passed(parts: list[bytes], *, decode: bool = False) -> tuple[bytes, bytes | None]:
    """What goes on when `parts` arrive one by one, and what is left behind the end (None before it)."""
    body = ChunkedBody(decode=decode)
    out = b""
    for at, part in enumerate(parts):
        out += b"".join(body.receive(memoryview(part)))
        if body.done:
            return out, bytes(body.rest) + b"".join(parts[at + 1 :])
    return out, None


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


WIKI = b"4\r\nWiki\r\n6\r\npedia \r\n0E\r\nin \r\n\r\nchunks.\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "verbatim", "decoded"),
    [
        (WIKI, WIKI, b"Wikipedia in \r\n\r\nchunks."),
        (b"0\r\n\r\n", b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b"0\r\n\r\n", b""),
        (b"1;a\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n", b"x"),
        (
            b'1 ; a = "q\\"\xe9" ;b=c\r\nx\r\n2\r\nyz\r\n0;z\r\n\r\n',
            b"1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n",
            b"xyz",
        ),
        (b"1\r\nx\r\n0\r\nA: b \r\nC:d\r\n\r\n", b"1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n", b"x"),
    ],
)
def test_a_chunked_body_passes_whole_byte_by_byte_and_with_a_tail(sent: bytes, verbatim: bytes, decoded: bytes) -> None:
    for decode, expected in (False, verbatim), (True, decoded):
        assert passed([sent], decode=decode) == (expected, b"")
        assert passed(singly(sent), decode=decode) == (expected, b"")
        assert passed([sent + b"GET /"], decode=decode) == (expected, b"GET /")


BAD_CHUNKS = [
    b"0x5\r\nhello\r\n",
    b"+5\r\nhello\r\n",
    b"-5\r\nhello\r\n",
    b"5_0\r\n",
    b" 5\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"\r\nhello\r\n",
    b"g\r\n",
    b"0" * 16 + b"5\r\nhello\r\n",
    b"f" * 17 + b"\r\n",
    b"5\nhello\r\n",
    b"5\rhello\r\n",
    b"5;a\nb\r\nhello\r\n",
    b"5;a\rb\r\nhello\r\n",
    b"5;a\x00\r\nhello\r\n",
    b"5;=a\r\nhello\r\n",
    b'5;a="b\r\nhello\r\n',
    b"5;a=b c\r\nhello\r\n",
    b"5a b\r\n",
    b"5\r\nhello!\r\n",
    b"5\r\nhello\n\r\n",
    b"5\r\nhello\rX\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"0\r\nA b: c\r\n\r\n",
    b"0\r\nA: b\n\r\n\r\n",
    b"0\r\n A: b\r\n\r\n",
    b"0\r\nA\r\n\r\n",
    b"0\r\n: b\r\n\r\n",
    b"0\r\nA: \x00\r\n\r\n",
]


@pytest.mark.parametrize("data", BAD_CHUNKS)
def test_a_chunked_body_outside_the_grammar_breaks_off(data: bytes) -> None:
    for parts in [data], singly(data), [b"1\r\nx\r\n" + data]:
        with pytest.raises(RemoteProtocolError):
            passed(parts)


def test_a_body_that_breaks_off_never_looks_complete() -> None:
    whole = b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"
    for size in range(len(whole)):
        out, rest = passed([whole[:size]])
        assert rest is None
        assert b"0\r\n" not in out


def test_a_large_chunk_passes_as_one_view_of_the_input() -> None:
    data = memoryview(b"40000\r\n" + b"x" * 0x40000 + b"\r\n5\r\nhe")
    parts = ChunkedBody().receive(data)
    assert [len(part) for part in parts] == [len(data)]
    assert isinstance(parts[0], memoryview)
    assert parts[0].obj is data.obj


def test_each_byte_passes_when_it_comes() -> None:
    body = ChunkedBody()
    for part in b"1\r\n", b"x", b"\r\n", b"1\r\ny", b"\r\n":
        assert b"".join(body.receive(memoryview(part))) == part


def test_extensions_are_bounded_in_a_line_and_in_a_message() -> None:
    flood = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
    assert passed([flood * 64])[0] == b"1\r\nx\r\n" * 64
    with pytest.raises(RemoteProtocolError):
        passed([flood * 66])
    for long_line in b"1;" + b"a" * 5000, b"1;" + b"a" * 5000 + b"\r\nx\r\n":
        with pytest.raises(RemoteProtocolError):
            passed([long_line])
        with pytest.raises(RemoteProtocolError):
            passed(singly(long_line))


def test_trailers_are_bounded() -> None:
    line = b"A: " + b"b" * 995 + b"\r\n"
    assert passed([b"0\r\n", line * 8, b"\r\n"]) == (b"0\r\n" + line * 8 + b"\r\n", b"")
    for parts in (
        [b"0\r\n" + line * 9],
        [b"0\r\n", line * 5, line * 5],
        [b"0\r\n", line * 8, line + b"\r\n"],
        [b"0\r\n" + line * 9 + b"\r\n"],
    ):
        with pytest.raises(RemoteProtocolError):
            passed(parts)
    with pytest.raises(RemoteProtocolError):
        passed([b"0\r\n" + b"A:\r\n" * (http1.MAX_FIELDS + 1) + b"\r\n"])


@pytest.mark.parametrize(
    "name",
    (
        b"Content-Length Transfer-Encoding Host Authorization Cookie Set-Cookie x_piko_forward"
        b" Connection Trailer Content-Type Content_Length X-Forwarded-For Cache-Control Proxy-Authorization"
    ).split(),
)
def test_a_trailer_that_frames_routes_or_authenticates_is_dropped(name: bytes) -> None:
    out, _ = passed([b"0\r\nA: b\r\n" + name + b": 1\r\nC: d\r\n\r\n"])
    assert out == b"0\r\nA: b\r\nC: d\r\n\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
extension = st.sampled_from([b"", b";a", b';a="b;\\"c"', b" ; x=y;z"])
places = st.lists(st.integers(0, 2000), max_size=12)


@given(chunks, extension, places, st.booleans())
def test_any_split_of_a_chunked_body_gives_the_same(
    data: list[bytes], extension: bytes, places: list[int], decode: bool
) -> None:
    sent = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in data) + b"0\r\nT: 1\r\n\r\n"
    out, rest = passed(cut(sent + b"next", places), decode=decode)
    assert rest == b"next"
    if decode:
        assert out == b"".join(data)
    else:
        assert passed([out], decode=True) == (b"".join(data), b"")
        assert out == passed([sent])[0]


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


@settings(max_examples=500)
@given(soup)
def test_whatever_comes_is_a_message_or_a_protocol_error(data: bytes) -> None:
    try:
        end = http1.head_end(data)
        if end != -1:
            got = http1.parse_request(data[:end])
            assert got.body >= CHUNKED
            again = http1.parse_request(http1.encode_request(got.method, got.target, got.fields))
            assert (again.target, again.fields, again.host) == (got.target, got.fields, got.host)
    except RemoteProtocolError as error:
        if error.status not in (400, 414, 417, 431, 501, 505) or not str(error).isprintable():
            raise
    try:
        response = http1.parse_response(data, b"GET")
        assert response.body >= UNTIL_CLOSE
    except RemoteProtocolError:
        pass


@settings(max_examples=500)
@given(soup, places)
def test_whatever_a_body_holds_it_passes_or_breaks_off_the_same_however_it_is_split(
    data: bytes, places: list[int]
) -> None:
    def outcome(parts: list[bytes]) -> tuple[bytes, bytes | None] | None:
        try:
            return passed(parts)
        except RemoteProtocolError:
            return None

    assert outcome([data]) == outcome(cut(data, places)) == outcome(singly(data))


def test_a_long_head_of_repeated_near_misses_is_refused_in_linear_time() -> None:
    # Possessive patterns cannot backtrack; if one could, this would take minutes, not milliseconds.
    near = b"A" * 30_000 + b"\x00"
    for data in head(near + b": b"), head(b"A: " + b" " * 30_000 + b"\x00"), head(b"A:" + b" \t" * 15_000):
        with pytest.raises(RemoteProtocolError):
            http1.parse_request(data + b"\x00")


# What is kept -----------------------------------------------------------------------------------------------


def test_a_head_that_comes_again_is_kept_from_then_on() -> None:
    head = b"GET /kept HTTP/1.1\r\nHost: kept.test\r\n\r\n"
    first, second, third = (http1.parse_request(head) for _ in range(3))
    assert not first.repeats
    assert second.repeats
    assert third is second


def test_heads_that_all_differ_are_not_kept() -> None:
    http1._known_responses.clear()
    for number in range(2000):
        http1.parse_response(b"HTTP/1.1 200 OK\r\nETag: %d\r\nContent-Length: 0\r\n\r\n" % number, b"GET")
    assert not http1._known_responses


def test_of_many_heads_that_repeat_only_so_many_are_kept() -> None:
    for number in range(2 * http1.KNOWN_HEADS):
        head = b"GET /%d HTTP/1.1\r\nHost: many.test\r\n\r\n" % number
        http1.parse_request(head)
        http1.parse_request(head)
    assert len(http1._known_requests) == http1.KNOWN_HEADS


def test_what_an_answer_to_head_means_is_not_taken_from_one_to_get() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Kept: head\r\nContent-Length: 7\r\n\r\n"
    assert [http1.parse_response(head, b"GET").body for _ in range(3)] == [7, 7, 7]
    assert http1.parse_response(head, b"HEAD").body == 0


@pytest.mark.parametrize(
    ("head", "goes_on"),
    [
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nProxy-Authorization: Basic eDp5\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nAccept: */* \r\n\r\n", False),
        (b"\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", False),
        (b"GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", False),
        (b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True),
        (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nETag: x\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nKeep-Alive: 5\r\nContent-Length: 5\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", False),
        (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", False),
    ],
)
def test_only_a_head_in_which_nothing_ends_here_goes_on_as_it_came(head: bytes, goes_on: bool) -> None:
    message: http1.Request | http1.Response
    message = http1.parse_response(head, b"GET") if head.startswith(b"HTTP/") else http1.parse_request(head)
    assert message.whole == (head if goes_on else b"")
