"""SOCKS 4, 4a and 5: byte for byte, split anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_adapters.errors import AuthenticationFailed, HopUnreachable, NotAProxy, TunnelError, TunnelRefused
from proxy_adapters.handshake import Script
from proxy_adapters.socks4 import socks4
from proxy_adapters.socks5 import socks5
from tests.proxy_adapters.playing import play, single_bytes

GRANTED4 = b"\x00\x5a\x00\x00\x00\x00\x00\x00"
GRANTED5 = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


def test_socks4_sends_an_address_and_4a_a_name() -> None:
    assert play(socks4("10.1.2.3", 80), [GRANTED4]).said == [b"\x04\x01\x00\x50\x0a\x01\x02\x03\x00"]
    assert play(socks4("a.test", 443, user="al"), [GRANTED4]).said == [
        b"\x04\x01\x01\xbb\x00\x00\x00\x01al\x00a.test\x00"
    ]


@pytest.mark.parametrize(("code", "retryable"), [(91, True), (92, False), (93, False), (7, False)])
def test_socks4_refusals(code: int, retryable: bool) -> None:
    with pytest.raises(TunnelRefused) as caught:
        play(socks4("a.test", 80), [bytes([0, code]) + bytes(6)])
    assert (caught.value.status, caught.value.retryable) == (code, retryable)


def test_socks4_cannot_carry_ipv6_and_says_what_can() -> None:
    with pytest.raises(TunnelRefused, match="use socks5h://"):
        play(socks4("::1", 80), [])
    with pytest.raises(TunnelRefused, match="255 bytes"):
        play(socks4("1.2.3.4", 80, user="x" * 256), [])


def test_socks4_answers_that_are_none() -> None:
    with pytest.raises(NotAProxy, match="got 72"):
        play(socks4("a.test", 80), [b"HTTP/1.1 400 Bad"])
    with pytest.raises(HopUnreachable, match="closed"):
        play(socks4("a.test", 80), [GRANTED4[:5]])


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("1.2.3.4", b"\x01\x01\x02\x03\x04"),
        ("[::1]", b"\x04" + bytes(15) + b"\x01"),
        ("Bücher.test", b"\x03\x12xn--bcher-kva.test"),
    ],
)
def test_socks5_says_names_as_names_and_addresses_as_addresses(host: str, address: bytes) -> None:
    played = play(socks5(host, 258), [b"\x05\x00", GRANTED5])
    assert played.said == [b"\x05\x01\x00", b"\x05\x01\x00" + address + b"\x01\x02"]


def test_socks5_logs_in_with_bytes_of_utf_8_and_never_ahead_of_an_answer() -> None:
    played = play(socks5("a.test", 1, user="ü", password="p@ß"), [b"\x05\x02", b"\x01\x00", GRANTED5])
    assert played.said[0] == b"\x05\x02\x02\x00"
    assert played.said[1] == b"\x01\x02\xc3\xbc\x04p@\xc3\x9f"
    assert len(played.said) == 3
    assert play(socks5("a.test", 1, user="u", anonymous=False), [b"\x05\x02", b"\x01\x00", GRANTED5]).said[:2] == [
        b"\x05\x01\x02",
        b"\x01\x01u\x00",
    ]


@pytest.mark.parametrize("bound", [b"\x01" + bytes(4), b"\x04" + bytes(16), b"\x03\x05hello", b"\x03\x00"])
def test_socks5_takes_any_bound_address_and_keeps_what_comes_behind(bound: bytes) -> None:
    stream = b"\x05\x00\x05\x00\x00" + bound + b"\x01\x02"
    assert play(socks5("a.test", 1), [stream + b"tunnel"]).leftover == b"tunnel"
    assert play(socks5("a.test", 1), single_bytes(stream)).leftover == b""


@pytest.mark.parametrize(
    ("code", "words", "retryable"),
    [
        (1, "general failure", True),
        (2, "do not allow", False),
        (3, "network unreachable", True),
        (4, "host unreachable", True),
        (5, "refused the connection", True),
        (6, "TTL", True),
        (7, "does not support CONNECT", False),
        (8, "kind of address", False),
        (0x5B, "unknown SOCKS5 code 0x5b", False),
    ],
)
def test_socks5_refusals_in_words(code: int, words: str, retryable: bool) -> None:
    with pytest.raises(TunnelRefused, match=words) as caught:
        play(socks5("a.test", 80), [b"\x05\x00", bytes([5, code, 0, 1]) + bytes(6)])
    assert (caught.value.status, caught.value.retryable) == (code, retryable)


def test_socks5_method_refusals() -> None:
    with pytest.raises(AuthenticationFailed, match="give a user"):
        play(socks5("a.test", 80), [b"\x05\xff"])
    with pytest.raises(AuthenticationFailed, match=r"'alice' or the password was refused \(status 2\)") as caught:
        play(socks5("a.test", 80, user="alice", password="s3cret"), [b"\x05\x02", b"\x01\x02"])
    assert "s3cret" not in caught.value.report()
    with pytest.raises(NotAProxy, match="was not offered"):
        play(socks5("a.test", 80, user="alice", anonymous=False), [b"\x05\x00"])
    for user, password in (("", "p"), ("u" * 256, "p"), ("u", "ü" * 128)):
        with pytest.raises(TunnelRefused, match="1 to 255 bytes"):
            play(socks5("a.test", 80, user=user, password=password), [])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP server"),
        (b"<html>", "HTTP server"),
        (b"\x15\x03\x01", "TLS"),
        (b"\x00\x5b", "SOCKS4"),
        (b"S", "expected SOCKS version 5, got 83"),
    ],
)
def test_what_is_no_socks5_server_is_named(answer: bytes, words: str) -> None:
    with pytest.raises(NotAProxy, match=words):
        play(socks5("a.test", 80), [answer])


def test_an_end_in_place_of_the_answer_is_a_refusal_as_ssh_says_it() -> None:
    with pytest.raises(TunnelRefused, match="ssh -D") as caught:
        play(socks5("a.test", 80), [b"\x05\x00"])
    assert caught.value.retryable
    with pytest.raises(HopUnreachable):
        play(socks5("a.test", 80), [])


@pytest.mark.parametrize("script", [lambda: socks4("a.test", 80), lambda: socks5("a.test", 80, user="u", password="p")])
@given(data=st.lists(st.binary(min_size=1, max_size=20), max_size=6))
def test_any_bytes_are_an_answer_or_a_tunnel_error(script: Callable[[], Script[None]], data: list[bytes]) -> None:
    with contextlib.suppress(TunnelError, AssertionError):
        play(script(), data)


def test_who_hangs_up_on_a_password_may_mean_the_password() -> None:
    with pytest.raises(HopUnreachable, match="are user and password right") as caught:
        play(socks5("t", 1, user="alice", password="wrong"), [b"\x05\x02"])
    assert caught.value.retryable  # or it has crashed just then
    with pytest.raises(HopUnreachable) as silent:
        play(socks5("t", 1, user="alice", password="wrong"), [])
    assert not silent.value.advice
