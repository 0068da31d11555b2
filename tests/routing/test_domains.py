"""Which endpoint a domain is."""

from __future__ import annotations

import pytest

from engine.routing.domains import Domains, Taken, permits

FIXED = {"shop.example.com": "shop", "*.example.com": "any", "a.b.example.com": "deep\0acme"}


@pytest.mark.parametrize(
    ("host", "key"),
    [
        (b"shop.example.com", "shop"),
        (b"SHOP.Example.com.:8000", "shop"),
        (b"other.example.com", "any"),
        (b"a.b.example.com", "deep\0acme"),
        (b"b.b.example.com", None),
        (b"example.com", None),
        (b"*.example.com", "any"),
        (b"", None),
        (b"[::1]:80", None),
        (b"shop", None),
        (b"\xff.example.com", "any"),
    ],
)
def test_a_host_is_found_with_any_port_and_in_any_case(host: bytes, key: str | None) -> None:
    assert Domains(FIXED).find(host) == key


def test_a_claim_lasts_as_long_as_its_last_session() -> None:
    domains = Domains(FIXED)
    with domains.claim(["new.test", "shop.example.com"], "shop"):
        with domains.claim(["new.test"], "shop"):
            assert domains.find(b"new.test") == "shop"
        assert domains.find(b"new.test") == "shop"
        changes = domains.changes
    assert domains.changes > changes
    assert domains.find(b"new.test") is None
    assert domains.find(b"shop.example.com") == "shop"  # which is the configuration's


def test_what_is_anothers_is_not_given_away() -> None:
    domains = Domains(FIXED)
    with domains.claim(["new.test"], "shop"):
        for name in ("new.test", "shop.example.com"):
            with (
                pytest.raises(Taken, match=rf"the domain {name} is another endpoint's"),
                domains.claim([name], "other"),
            ):
                raise AssertionError
        assert domains.find(b"new.test") == "shop"
    with domains.claim(["new.test"], "other"):
        assert domains.find(b"new.test") == "other"


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("shop.example.com", True),
        ("own.test", True),
        ("*.example.com", True),
        ("a.b.example.com", False),
        ("*.b.example.com", False),
        ("example.com", False),
        ("a.own.test", False),
        ("*.own.test", False),
    ],
)
def test_a_permit_is_for_a_domain_or_for_one_label_below_it(name: str, may: bool) -> None:
    assert permits({"*.example.com", "own.test"}, name) is may
