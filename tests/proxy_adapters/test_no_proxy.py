"""NO_PROXY: the table in which no two programs agree, and what we do.

The column `curl` is what curl 7.88 does (D = direct, P = through the proxy), kept here because people
compare.
"""

from __future__ import annotations

import pytest

from proxy_adapters.no_proxy import match_no_proxy

TABLE = [
    # target, port, entry, curl, ours
    ("foo.example.test", 80, "example.test", "D", "D"),
    ("foo.example.test", 80, ".example.test", "D", "D"),
    ("foo.example.test", 80, "*.example.test", "P", "D"),
    ("foo.example.test", 80, "example.test.", "D", "D"),
    ("foo.example.test", 80, "foo.example.test:80", "P", "D"),
    ("foo.example.test", 80, "foo.example.test:81", "P", "P"),
    ("foo.example.test", 80, "other example.test", "D", "D"),
    ("foo.example.test", 80, "a,*", "P", "D"),
    ("foo.example.test", 80, "ample.test", "P", "P"),
    ("example.test", 80, ".example.test", "D", "D"),
    ("127.1.2.3", 80, "127.0.0.0/8", "D", "D"),
    ("127.1.2.3", 80, "127.1.2.3:80", "P", "D"),
    ("127.1.2.3", 80, "127.*", "P", "D"),
    ("127.1.2.3", 80, "0.0.0.0/0", "P", "D"),
    ("128.1.2.3", 80, "127.0.0.0/8", "P", "P"),
    ("::1", 80, "::1", "D", "D"),
    ("::1", 80, "[::1]", "P", "D"),
    ("::1", 80, "::/64", "P", "D"),
    ("::1", 80, "[::]/64", "P", "D"),
    ("::1", 80, "::/0", "P", "D"),
    ("::ffff:127.0.0.1", 80, "127.0.0.0/8", "P", "D"),
    ("bücher.test", 80, "xn--bcher-kva.test", "P", "D"),
    ("intranet", 80, "<local>", "P", "D"),
]


@pytest.mark.parametrize(("host", "port", "entry", "curl", "ours"), TABLE)
def test_the_table(host: str, port: int, entry: str, curl: str, ours: str) -> None:
    assert (match_no_proxy(host, port, entry) is not None) == (ours == "D")


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        ("xn--bcher-kva.test", "BÜCHER.test"),
        ("Foo.Example.Test.", "EXAMPLE.test"),
        ("[::1]", "[::1]:80"),
        ("10.0.0.1", "::ffff:10.0.0.0/104"),
        ("a.b.example.test", "*.example.test"),
    ],
)
def test_also_direct(host: str, entry: str) -> None:
    assert match_no_proxy(host, 80, entry) == entry


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        ("foo.example.test", ""),
        ("foo.example.test", " , ,"),
        ("foo.example.test", "10.0.0.0/8"),
        ("foo.example.test", "<local>"),
        ("foo.example.test", "::1,[,],:,*:81"),
        ("10.0.0.1", "<local>"),
        ("10.0.0.1", "0.0.0.1"),
        ("10.0.0.1", "10.0.0.0/33"),
        ("::1", "10.0.0.0/0"),
        ("::1", "[::1]:81"),
        ("exampletest", "example.test"),
        ("foo.example.test", "example.test:8²,example.test:" + "8" * 5000),
        ("foo.example.test", "example.test:0"),
    ],
)
def test_not_direct(host: str, entry: str) -> None:
    assert match_no_proxy(host, 80, entry) is None
