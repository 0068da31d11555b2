"""Reading heads: where one ends, what its fields decide, and what is refused with which status."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from engine.errors import HTTPError
from engine.wire import http1
from engine.wire.http1 import CHUNKED, UNTIL_CLOSE
from engine.wire.http1.known import MAX_KNOWN_HEAD
from tests.wire.http1.heads import BROWSER, NGINX, head, passed_on, refusal, request, response, soup


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
    with pytest.raises(HTTPError) as caught:
        http1.head_end(data)
    assert caught.value.status == status


def test_a_smaller_limit_for_a_head_is_kept_and_a_larger_one_is_not_given() -> None:
    for whole in BROWSER, b"\r\n" + BROWSER:
        size = len(whole)
        assert http1.head_end(b"tail" + whole + b"body", 4, size) == 4 + size
        for data in whole + b"body", whole[:-1]:
            with pytest.raises(HTTPError) as caught:
                http1.head_end(data, 0, size - 1)
            assert caught.value.status == 431
        assert http1.head_end(whole[:-2], 0, size - 1) == -1
    with pytest.raises(HTTPError) as caught:
        http1.head_end(b"GET / HTTP/1.1\r\nA: " + b"a" * http1.PEER_HEAD, 0, 2 * http1.PEER_HEAD)
    assert caught.value.status == 431


def test_a_smaller_limit_holds_for_every_head_that_is_too_long_to_be_known() -> None:
    line = b"A: " + b"a" * MAX_KNOWN_HEAD
    asked, answered = head(line), head(line, first=b"HTTP/1.1 200 OK", host=False)
    for _ in range(3):
        http1.parse_request(asked, len(asked))
        with pytest.raises(HTTPError) as caught:
            http1.parse_request(asked, len(asked) - 1)
        assert caught.value.status == 431
        for method in b"GET", b"HEAD":
            http1.parse_response(answered, method, len(answered))
            with pytest.raises(HTTPError):
                http1.parse_response(answered, method, len(answered) - 1)


def test_the_http2_preface_is_another_version() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    end = http1.head_end(preface)
    with pytest.raises(HTTPError) as caught:
        http1.parse_request(preface[:end])
    assert caught.value.status == 505


def test_a_few_empty_lines_before_a_request_are_tolerated_and_before_a_response_are_not() -> None:
    assert http1.parse_request(b"\r\n\r\n" + BROWSER).host == b"app.example.com"
    with pytest.raises(HTTPError):
        http1.parse_response(b"\r\n" + NGINX, b"GET")


def test_white_space_around_a_value_is_not_part_of_it() -> None:
    got = request(b"A: \t b c \t", b"B:d", b"C:", b"D:  ")
    assert got.fields[1:] == [(b"A", b"b c"), (b"B", b"d"), (b"C", b""), (b"D", b"")]
    assert response(b"A: \t b c \t").fields == [(b"A", b"b c")]


@pytest.mark.parametrize(
    "names",
    [
        [b"Content_Length"],
        [b"transfer_encoding"],
        [b"X_Piko_Endpoint"],
        [b"x-piko_forward"],
        [b"X_Forwarded_For"],
        [b"X_Real_IP"],
        [b"True_Client_IP"],
        [b"x-original_url"],
        [b"Proxy_Authorization"],
        [b"X-User", b"X_User"],
        [b"a_b-c", b"a-b_c"],
    ],
)
def test_a_name_with_an_underscore_that_can_be_taken_for_another_is_refused(names: list[bytes]) -> None:
    assert refusal(*[name + b": 1" for name in names]) == 400


def test_other_names_with_an_underscore_pass() -> None:
    assert request(b"user_id: 7", b"user_id: 8").fields[1:] == [(b"user_id", b"7"), (b"user_id", b"8")]


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
        with pytest.raises(HTTPError):
            response(*lines, method=method)


@pytest.mark.parametrize("coding", [b"identity", b"gzip", b"xchunked", b"chunke"])
def test_one_unknown_coding_is_not_implemented(coding: bytes) -> None:
    assert refusal(b"Transfer-Encoding: " + coding) == 501


def test_chunks_do_not_exist_in_http_1_0() -> None:
    assert refusal(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0") == 400
    with pytest.raises(HTTPError):
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
        assert passed_on(response(b"Content-Length: 7", first=first, method=method)) == kept


def test_expect_means_100_continue_in_http_1_1_and_nothing_in_http_1_0() -> None:
    post, line = b"POST / HTTP/1.1", b"Content-Length: 5"
    assert request(b"Expect: 100-continue", line, first=post).expect_continue
    assert request(b"Expect: 100-Continue", line, first=post).expect_continue
    assert not request(b"Expect: 100-continue", first=post).expect_continue
    assert not request(b"Expect: 100-continue", line, first=b"POST / HTTP/1.0").expect_continue
    assert not request(b"Expect: miracles", line, first=b"POST / HTTP/1.0").expect_continue
    for expect in b"Expect: 100-continue", b"Expect: miracles":  # in HTTP/1.1, as which it goes on, it would count
        assert passed_on(request(expect, line, first=b"POST / HTTP/1.0")) == [
            (b"Host", b"a.b"),
            (b"Content-Length", b"5"),
        ]
    assert refusal(b"Expect: miracles", line, first=post) == 417
    assert refusal(b"Expect: miracles", first=post) == 417


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
    except HTTPError as error:
        if error.status not in (400, 414, 417, 431, 501, 505) or not str(error).isprintable():
            raise
    try:
        response = http1.parse_response(data, b"GET")
        assert response.body >= UNTIL_CLOSE
    except HTTPError:
        pass
