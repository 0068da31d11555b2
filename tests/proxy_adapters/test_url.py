"""Proxy URLs as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_adapters.url import ProxyURL, authority, normal_host


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "user", "password", "tls"),
    [
        ("http://proxy.test:3128", "http", "proxy.test", 3128, None, None, False),
        ("proxy.test:3128/", "http", "proxy.test", 3128, None, None, False),
        ("HTTPS://Proxy.test:443", "https", "Proxy.test", 443, None, None, True),
        ("socks://10.0.0.1:1080", "socks5h", "10.0.0.1", 1080, None, None, False),
        ("socks4a://[::1]:1080", "socks4a", "::1", 1080, None, None, False),
        ("socks5h+tls://p:1", "socks5h", "p", 1, None, None, True),
        ("http://CORP%5Calice:p%40ss%25@p:1", "http", "p", 1, "CORP\\alice", "p@ss%", False),
        ("http://CORP\\alice:p@ss:w/ord@p:1", "http", "p", 1, "CORP\\alice", "p@ss:w/ord", False),
        ("http://alice:100%@p:1", "http", "p", 1, "alice", "100%", False),
        ("http://alice:@p:1", "http", "p", 1, "alice", "", False),
        ("http://alice@p:1", "http", "p", 1, "alice", None, False),
        ("http://m%C3%BCller:%e4@p:1", "http", "p", 1, "müller", "ä", False),
    ],
)
def test_a_url_is_read_as_it_was_meant(
    text: str, scheme: str, host: str, port: int, user: str | None, password: str | None, tls: bool
) -> None:
    url = ProxyURL.parse(text)
    assert (url.scheme, url.host, url.port, url.user, url.password, url.tls) == (
        scheme,
        host,
        port,
        user,
        password,
        tls,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://proxy.test", "name the port"),
        ("http://proxy.test:0", "port 0 of the proxy: it must be from 1 to 65535"),
        ("http://proxy.test:70000", "port 70000 of the proxy: it must be from 1 to 65535"),
        ("ftp://proxy.test:21", "must be one of"),
        ("http+tls://p:1", "must be one of"),
        ("http://s3cret:s3cret@proxy.test", "name the port"),
        ("http://a b:s3cret@p:1", "no blanks"),
        ("http://a\x00:s3cret@p:1", "control"),
        ("http://a:s3cret%0d%0a@p:1", "control"),
        ("http://a:s3cret@p:1/path", "expected scheme"),
        ("http://a:s3cret@:1", "expected scheme"),
        ("http://a:s3cret@[::1:1", "expected scheme"),
    ],
)
def test_what_cannot_work_is_refused_in_words_that_hold_no_secret(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        ProxyURL.parse(text)
    assert "s3cret" not in str(caught.value)


def test_neither_str_nor_repr_nor_format_shows_the_userinfo() -> None:
    url = ProxyURL.parse("http://alice:s3cret@proxy.test:3128")
    shown = f"{url} {url!r} {[url]} {url!s}"
    assert "alice" not in shown
    assert "s3cret" not in shown
    assert "http://proxy.test:3128" in shown


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("Example.TEST.", "example.test"),
        ("[::0001]", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("bücher.test", "xn--bcher-kva.test"),
        ("BÜCHER.test", "xn--bcher-kva.test"),
        ("under_score", "under_score"),
    ],
)
def test_a_host_has_one_form(host: str, normal: str) -> None:
    assert normal_host(host) == normal


@pytest.mark.parametrize("host", ["", ".", "a b", "a\r\nX: y", "a/b", "a@b", "a:b", "ü" * 300, "x" * 256])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="host"):
        normal_host(host)


def test_authority_form_has_the_port_and_brackets() -> None:
    assert authority("Example.test", 443) == "example.test:443"
    assert authority("::1", 80) == "[::1]:80"


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    try:
        url = ProxyURL.parse(text)
    except ValueError:
        return
    assert 1 <= url.port <= 65535


_PRINTABLE = st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"))


@given(_PRINTABLE, _PRINTABLE)
def test_what_is_percent_encoded_comes_back(user: str, password: str) -> None:
    def encoded(text: str) -> str:
        return "".join(f"%{byte:02x}" for byte in text.encode())

    url = ProxyURL.parse(f"http://{encoded(user)}:{encoded(password)}@p:1")
    assert (url.user, url.password) == (user, password)
