"""Public URLs: what may be one, how an endpoint is reached by it, and what a stranger tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire import piko
from engine.wire.public_url import MAX_BYTES, PublicURL, Reach, told


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("https://tunnel.example.com", "https://tunnel.example.com"),
        ("https://*.example.com", "https://*.example.com"),
        ("HTTP://*.Example.com:8000/", "http://*.example.com:8000"),
        ("https://example.com:443", "https://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[0:0::1]:80", "http://[::1]"),
        ("http://localhost", "http://localhost"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_a_public_url_is_read_and_written_in_one_way(text: str, plain: str) -> None:
    assert str(PublicURL.parse(text)) == plain
    assert str(PublicURL.parse(plain)) == plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "//example.com",
        "ftp://example.com",
        "https://",
        "https://*",
        "https://*.",
        "https://*.[::1]",
        "https://a.*.example.com",
        "https://-a.example.com",
        "https://a..example.com",
        "https://example.com.",
        "https://example.com:0",
        "https://example.com:65536",
        "https://example.com:٣",
        "https://[::g]",
        "https://[::1",
        "https://user@example.com",
        "https://example.com/path",
        "https://example.com/?q",
        "https://example.com/#f",
        "https://example.com ",
        "https://example.com\n",
        "https://ex\u202eample.com",
        "https://b\u00fccher.example",
        "https://\u212aelvin.example",  # lower() makes a plain k of it
        f"https://{'a' * 64}.com",
        f"https://{'a.' * 150}com",
    ],
)
def test_what_is_no_public_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        PublicURL.parse(text)


@pytest.mark.parametrize(
    ("url", "endpoint", "reach"),
    [
        ("https://*.example.com", "shop", Reach("https://shop.example.com", False)),
        ("http://*.localhost:8000", "shop-2", Reach("http://shop-2.localhost:8000", False)),
        ("https://*.example.com", "Shop", Reach("https://tunnel.example.com", True)),
        ("https://*.example.com", "a.b", Reach("https://tunnel.example.com", True)),
        ("https://*.example.com", "a b/ü", Reach("https://tunnel.example.com", True)),
        ("https://*.example.com", "a" * 64, Reach("https://tunnel.example.com", True)),
        ("https://example.com", "shop", Reach("https://example.com", True)),
    ],
)
def test_an_endpoint_is_reached_by_its_label_or_by_the_field(url: str, endpoint: str, reach: Reach) -> None:
    assert PublicURL.parse(url).reach(endpoint) == reach


@pytest.mark.parametrize(
    ("url", "elsewhere"),
    [
        ("https://example.com", "https://*.acme.test"),
        ("http://*.localhost:8000", "http://*.acme.test:8000"),
        ("http://[::1]:8000", "http://*.acme.test:8000"),
        ("http://[::1]", "http://*.acme.test"),
    ],
)
def test_other_hosts_have_the_same_scheme_and_port(url: str, elsewhere: str) -> None:
    assert str(PublicURL.parse(url).at("*.acme.test")) == elsewhere


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True))
def test_the_node_takes_the_label_for_the_endpoint(endpoint: str) -> None:
    url = PublicURL.parse("http://*.example.com:8000").reach(endpoint).url
    assert piko.endpoint_of_host(url.removeprefix("http://").encode()) == endpoint


def test_a_node_tells_it_once_or_not_at_all() -> None:
    field = (b"X-Trioduct-Public-URL", b"https://*.example.com")
    assert told([(b"Upgrade", b"websocket"), field]) == PublicURL("https", True, "example.com")
    assert told([field, field]) is None
    assert told([]) is None
    assert told([(piko.PUBLIC_URL, b"https://\xff")]) is None


@given(st.binary(max_size=MAX_BYTES + 10) | st.binary(max_size=40).map(b"https://".__add__))
def test_whatever_a_node_tells_is_a_plain_url_or_nothing(value: bytes) -> None:
    url = told([(piko.PUBLIC_URL, value)])
    assert url is None or (str(url).isascii() and str(url).isprintable() and " " not in str(url))
