"""The domains that a registration claims."""

from __future__ import annotations

import pytest

from engine.errors import HTTPError
from engine.wire.domains import MAX_BYTES, are_kept, domains_in, encode, is_domain


def test_what_is_said_is_heard() -> None:
    names = ["shop.example.com", "*.xn--bcher-kva.example"]
    assert domains_in([(b"X-Trioduct-Domains", encode([*names, names[0]]))]) == names
    assert domains_in([(b"x-trioduct-visitors", b"{}")]) == []
    assert are_kept([(b"X-Trioduct-Domains", b"kept")])
    assert not are_kept([(b"X-Trioduct-Domains", b"shop.example.com")])


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b"Shop.example.com"],
        [b"a.test,b.test"],
        [b"shop"],
        [b"*."],
        [b"*.*.test"],
        [b"10.0.0.1"],
        [b"a.test\xff"],
        [b"a.test"] * 2,
        [b", ".join([b"a.test"] * MAX_BYTES)],
    ],
    ids=lambda values: repr(values)[:30],
)
def test_what_is_no_domain_is_refused(values: list[bytes]) -> None:
    with pytest.raises(HTTPError, match=r".*") as caught:
        domains_in([(b"x-trioduct-domains", value) for value in values])
    assert caught.value.status == 400
    assert not is_domain(values[0].decode("latin-1")) or len(values) > 1
