"""CONNECT: what is said, what is heard, and the words for a no."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_adapters.auth.login import Login, Memory
from proxy_adapters.errors import (
    AuthenticationFailed,
    HopUnreachable,
    NotAProxy,
    TunnelError,
    TunnelRefused,
)
from proxy_adapters.handshake import Script
from proxy_adapters.http_connect import http_connect, page_words, parse_answer
from proxy_adapters.secret import Secret
from proxy_adapters.url import ProxyURL
from tests.proxy_adapters.playing import Played, play, single_bytes

PROXY = ProxyURL.parse("http://proxy.test:3128")
ALICE = ProxyURL.parse("http://alice:s3cret@proxy.test:3128")
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
WANTED = b'HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'


def connect(proxy: ProxyURL = PROXY, host: str = "target.test", port: int = 443) -> Script[None]:
    return http_connect(host, port, proxy=proxy)


def failure(answers: list[bytes], proxy: ProxyURL = PROXY) -> TunnelError:
    with pytest.raises(TunnelError) as caught:
        play(connect(proxy), answers)
    return caught.value


def test_the_request_is_authority_form_with_host_and_proxy_connection() -> None:
    (said,) = play(connect(), [OK]).said
    assert said == (
        b"CONNECT target.test:443 HTTP/1.1\r\nHost: target.test:443\r\nUser-Agent: trioduct\r\n"
        b"Proxy-Connection: Keep-Alive\r\n\r\n"
    )


def test_an_ipv6_target_is_in_brackets_and_a_name_is_an_a_label() -> None:
    assert play(connect(host="::1"), [OK]).said[0].startswith(b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n")
    assert play(connect(host="Bücher.test."), [OK]).said[0].startswith(b"CONNECT xn--bcher-kva.test:443 ")


def test_own_headers_are_sent_and_may_not_end_a_line() -> None:
    script = http_connect("t", 1, proxy=PROXY, headers=[("X-Team", "tunnels")])
    assert b"\r\nX-Team: tunnels\r\n" in play(script, [OK]).said[0]
    for bad in (("X-A", "b\r\nX-C: d"), ("X-A", "b\0"), ("X A", "b"), ("", "b"), ("X", "☃")):
        with pytest.raises(ValueError, match=r"X|header"):
            play(http_connect("t", 1, proxy=PROXY, headers=[bad]), [OK])


def test_the_first_bytes_of_the_tunnel_are_kept() -> None:
    assert play(connect(), [OK + b"\x16\x03\x01hello"]).leftover == b"\x16\x03\x01hello"


@given(st.lists(st.integers(0, 200), max_size=12))
def test_any_split_of_the_answer_gives_the_same_tunnel(cuts: list[int]) -> None:
    stream = b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nVia: 1.1 x\r\n\r\n"
    points = sorted({min(cut, len(stream)) for cut in cuts} - {0, len(stream)})
    parts = [stream[a:b] for a, b in zip([0, *points], [*points, len(stream)], strict=True)]
    parts[-1] += b"tunnel"
    assert play(connect(), parts).leftover == b"tunnel"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 Connection established\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.1 299 Fine\r\n\r\n",
        b"HTTP/1.1 200 OK\nServer: x\n\n",
        b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Cache : y\r\nno colon here\r\n[odd]: z\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 \xe4\xf6\xfc\r\nX: \xff\r\n\r\n",
        b"HTTP/1.1 103 Early\r\n\r\n" * 10 + OK,
    ],
)
def test_sloppy_and_old_answers_are_understood(answer: bytes) -> None:
    assert play(connect(), [answer]).leftover == b""
    assert play(connect(), single_bytes(answer)).leftover == b""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS"),
        (b"\x05\xff", "SOCKS"),
        (b"\x00\x5b\x00\x00\x00\x00\x00\x00", "SOCKS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH server"),
        (b"<html><body>hello</body></html>", "web page"),
        (b"220 mail.test ESMTP\r\n", "mail or FTP"),
        (b"ICY 200 OK\r\n\r\n", "speaks no HTTP"),
        (b"\x80\x81\x82\x83", "speaks no HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "no status line"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "101"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404"),
        (b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n", "405"),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "401"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 11, "interim"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000, "more than 65536"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n", "more than 256 lines"),
    ],
)
def test_what_is_no_proxy_is_named(answer: bytes, words: str) -> None:
    error = failure([answer])
    assert isinstance(error, NotAProxy)
    assert words in str(error)
    assert not error.retryable


def test_an_end_in_place_of_an_answer_may_mean_the_target_and_is_worth_a_retry() -> None:
    error = failure([])
    assert isinstance(error, TunnelRefused)
    assert error.retryable
    assert "closed" in error.fact


def test_an_end_in_the_middle_of_an_answer_shows_what_came() -> None:
    error = failure([b"HTTP/1.1 200 O"])
    assert isinstance(error, HopUnreachable)
    assert error.heard == "HTTP/1.1 200 O"
    assert error.said.startswith("CONNECT target.test:443")


@pytest.mark.parametrize(
    ("status", "retryable", "words"),
    [
        (400, False, "written"),
        (403, False, "allowed"),
        (408, True, "overloaded"),
        (429, True, "overloaded"),
        (500, True, "could not reach"),
        (502, True, "could not reach"),
        (503, True, "could not reach"),
        (504, True, "could not reach"),
        (302, True, "captive portal"),
        (418, False, "418"),
    ],
)
def test_each_refusal_says_whether_to_retry_and_what_to_do(status: int, retryable: bool, words: str) -> None:
    error = failure([f"HTTP/1.1 {status} Reason\r\nContent-Length: 0\r\n\r\n".encode()])
    assert isinstance(error, TunnelRefused)
    assert (error.status, error.retryable) == (status, retryable)
    assert words in str(error)


def test_a_refusal_shows_the_title_of_its_page_and_the_ids_in_its_head() -> None:
    page = b"<html><head><title>ERROR: The requested URL\n could not be retrieved</title></head>"
    head = b"HTTP/1.1 503 Service Unavailable\r\nServer: squid/5.7\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n"
    error = failure([head + b"Retry-After: 7\r\nContent-Length: %d\r\n\r\n" % len(page), page])
    assert "ERROR: The requested URL could not be retrieved" in str(error)
    assert "ERR_CONNECT_FAIL 111" in str(error)
    assert error.retry_after_seconds == 7


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_DNS_FAIL 0\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nProxy-Status: corp; error=dns_error; rcode=NXDOMAIN\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 No such domain\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["squid", "RFC 9209", "privoxy"],
)
def test_a_name_without_an_address_is_to_be_checked(answer: bytes) -> None:
    error = failure([answer])
    assert isinstance(error, TunnelRefused)
    assert error.fact.startswith("it cannot resolve target.test: ")
    assert error.advice.startswith("check the name")
    assert error.retryable


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (
            b"Transfer-Encoding: chunked\r\n",
            [b"6\r\n<p>no;\r\n", b"5;x=y\r\n not \r\n", b"4\r\nhere\r\n0\r\n\r\n"],
        ),
        (b"Connection: close\r\n", [b"<p>no; not ", b"here"]),
        (b"Content-Length: 14\r\n", [b"<p>no; not ", b"h", b"er"]),
        (b"Content-Length: 99999999999999\r\n", [b"<p>no; not here"]),
        (b"Transfer-Encoding: chunked\r\n", [b"zz\r\n<p>no; not here"]),
    ],
)
def test_however_the_page_is_framed_its_words_are_shown(framing: bytes, body: list[bytes]) -> None:
    error = failure([b"HTTP/1.1 403 Forbidden\r\n" + framing + b"\r\n", *body])
    assert "no; not her" in str(error)


def test_no_words_of_a_proxy_reach_a_terminal_or_a_log_raw() -> None:
    evil = b"\x1b[31m\x07\x9b"
    head = b"HTTP/1.1 503 Oops" + evil + b"\r\nServer: x" + evil + b"\r\nLocation: " + evil + b"\r\n"
    for status in (b"503", b"302", b"404", b"407"):
        error = failure([head.replace(b"503", status) + b"Content-Length: 20\r\n\r\n", (evil * 5)[:20]])
        assert error.report().replace("\n", "").isprintable()


def test_page_words_are_one_bounded_line() -> None:
    assert page_words(b"<style>x{}</style><h1>No &amp;\n never</h1><script>alert(1)") == "No & never"
    assert len(page_words(b"word " * 1000)) <= 160
    assert "\x1b" not in page_words(b"\x1b[31mred")


# -- Authentication, as far as one scheme goes ------------------------------------------


def test_basic_is_sent_only_when_asked_and_on_the_same_connection_if_that_lives() -> None:
    played = play(connect(ALICE), [WANTED, OK])
    assert b"Proxy-Authorization" not in played.said[0]
    assert b"\r\nProxy-Authorization: Basic YWxpY2U6czNjcmV0\r\n" in played.said[1]
    assert played.redials == []


@pytest.mark.parametrize(
    "wanted",
    [
        WANTED.replace(b"Content-Length", b"Connection: close\r\nContent-Length"),
        WANTED.replace(b"HTTP/1.1", b"HTTP/1.0"),
        WANTED.replace(b"Content-Length: 0\r\n", b"Connection: close\r\n") + b"page",
    ],
)
def test_a_closed_connection_is_dialled_again(wanted: bytes) -> None:
    assert play(connect(ALICE), [wanted, b"", OK] if b"page" in wanted else [wanted, OK]).redials == [1]


def test_a_second_request_that_is_not_liked_on_a_connection_is_sent_on_a_fresh_one() -> None:
    not_twice = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    played = play(connect(ALICE), [WANTED, not_twice, OK])
    assert played.redials == [2]
    assert played.said[1] == played.said[2]
    assert failure([WANTED, not_twice, not_twice], ALICE).status == 400


def test_http_1_0_with_keep_alive_keeps_its_connection() -> None:
    for name in (b"Connection", b"Proxy-Connection"):
        wanted = WANTED.replace(b"HTTP/1.1", b"HTTP/1.0").replace(
            b"Content-Length", name + b": Keep-Alive\r\nContent-Length"
        )
        assert play(connect(ALICE), [wanted, OK]).redials == []


def test_what_worked_once_is_sent_unasked_the_next_time() -> None:
    memory = Memory()
    play(http_connect("t", 1, proxy=ALICE, memory=memory), [WANTED, OK])
    assert len(play(http_connect("t", 1, proxy=ALICE, memory=memory), [OK]).said) == 1


@pytest.mark.parametrize("status", [b"407", b"401"])
def test_a_refused_password_is_never_sent_again_until_it_changes(status: bytes) -> None:
    memory, password = Memory(), ["wrong"]
    login = Login(user="alice", password=Secret(lambda: password[0], "a test"))

    def attempt(answers: list[bytes]) -> Played:
        played = Played()
        play(http_connect("t", 1, proxy=PROXY, login=login, memory=memory), answers, played=played)
        return played

    refused = WANTED.replace(b"407", status)
    with pytest.raises(AuthenticationFailed, match="basic: refused for alice"):
        attempt([WANTED, refused])
    with pytest.raises(AuthenticationFailed, match="basic: refused before for alice; not sent again"):
        attempt([WANTED])
    password[0] = "right"
    assert len(attempt([WANTED, OK]).said) == 2


def test_a_407_without_challenges_gets_nothing() -> None:
    error = failure([b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"], ALICE)
    assert isinstance(error, AuthenticationFailed)
    assert "names no scheme" in str(error)


def test_a_scheme_that_is_forbidden_is_not_used_and_named() -> None:
    login = Login(user="alice", password=Secret.literal("s3cret"), schemes=("negotiate",))
    with pytest.raises(AuthenticationFailed, match="allow one of: basic"):
        play(http_connect("t", 1, proxy=PROXY, login=login), [WANTED])


def test_no_error_shows_the_password_or_what_carries_it() -> None:
    error = failure([WANTED, WANTED], ALICE)
    shown = f"{error} {error!r} {error.report()} {error.said} {error.heard}"
    assert "s3cret" not in shown
    assert "YWxpY2U6czNjcmV0" not in shown
    assert error.said.endswith("Proxy-Authorization by basic, 22 characters")


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_a_tunnel_error(data: bytes) -> None:
    for answers in ([data], [b"HTTP/1.1 407 x\r\n" + data + b"\r\n\r\n"], [b"HTTP/1.1 200 x\r\n" + data]):
        # AssertionError: the script had heard enough before the last part.
        with contextlib.suppress(TunnelError, AssertionError):
            play(connect(ALICE), [part for part in answers if part])


def test_a_folded_challenge_is_one_field() -> None:
    answer = parse_answer(b'HTTP/1.1 407 x\r\nProxy-Authenticate: Digest\r\n\trealm="a",\r\n nonce="b"\r\n\r\n')
    assert answer.all("proxy-authenticate") == ['Digest realm="a", nonce="b"']
