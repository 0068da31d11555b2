"""An endpoint's key has its tenant in it, and no name makes it another's; a Host may name both."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.routing.owners import MAX_BYTES as MAX_ENDPOINT
from engine.routing.owners import defect_of_name, likeness
from engine.routing.tenants import MAX_BYTES, HostPattern, key, split, the_one
from engine.wire.peers import opening

anything = st.text(st.sampled_from("ab\0/.@é"), max_size=5)


def test_without_a_tenant_the_key_is_the_name() -> None:
    assert key("shop") == "shop"
    assert split("shop") == ("shop", "")


@given(anything, anything.filter(lambda tenant: "\0" not in tenant))
def test_a_key_is_of_one_endpoint_in_one_tenant(endpoint: str, tenant: str) -> None:
    assert split(key(endpoint, tenant)) == (endpoint, tenant)


@given(anything, anything)
def test_whoever_has_a_registered_endpoints_key_has_said_its_name_and_tenant(endpoint: str, tenant: str) -> None:
    registered = [(name, whose) for name in ("a", "b", "a/b") for whose in ("", "a", "b", "a/b")]
    assert all(not defect_of_name(name) for name, _ in registered)
    assert {one for one in registered if key(*one) == key(endpoint, tenant)} <= {(endpoint, tenant)}


def test_a_peer_takes_the_longest_key() -> None:
    assert opening(key("x" * MAX_ENDPOINT, "y" * MAX_BYTES))


def test_names_are_alike_within_a_tenant_only() -> None:
    assert likeness(key("Shop", "acme")) == likeness(key("shop", "acme"))
    assert len({likeness(key("shop", tenant)) for tenant in ("", "acme", "Acme", "beta")}) == 4


@pytest.mark.parametrize(
    ("host", "found"),
    [
        (b"shop.acme.example.com", ("shop", "acme")),
        (b"shop.acme.EXAMPLE.com.:8000", ("shop", "acme")),
        (b"Shop.Acme.example.com", ("Shop", "Acme")),
        (b"h\xc3\xa4user.acme.example.com", ("häuser", "acme")),
        (b"acme.example.com", None),
        (b"a.shop.acme.example.com", None),
        (b".acme.example.com", None),
        (b"shop.acme.examplexcom", None),
        (b"shop.acme.example.com.evil.test", None),
        (b"[::1]", None),
        (b"", None),
    ],
)
def test_a_host_names_an_endpoint_and_a_tenant(host: bytes, found: tuple[str, str] | None) -> None:
    assert HostPattern("{endpoint}.{tenant}.example.com").parse(host) == found


def test_the_places_may_stand_anywhere() -> None:
    assert HostPattern("{tenant}.x.{endpoint}.test").parse(b"acme.x.shop.test") == ("shop", "acme")


def test_the_hosts_of_a_tenant_are_below_one_name_if_the_endpoint_is_their_first_label() -> None:
    assert HostPattern("{endpoint}.{tenant}.example.com").wildcard("acme") == "*.acme.example.com"
    assert HostPattern("{tenant}.{endpoint}.example.com").wildcard("acme") == ""
    assert HostPattern().wildcard("acme") == ""


def test_an_empty_pattern_fits_no_host() -> None:
    assert HostPattern().parse(b"") is HostPattern().parse(b"a.b") is None


@pytest.mark.parametrize(
    "text",
    ["example.com", "{endpoint}.example.com", "{tenant}.{tenant}.{endpoint}", "{endpoint}-{tenant}.com", "{endpoint}."
     "{tenant}.*", "{endpoint}.{tenant}..com", "{endpoint}.{tenant}.{other}"],
)  # fmt: skip
def test_a_pattern_has_both_places_once(text: str) -> None:
    with pytest.raises(ValueError, match="once"):
        HostPattern(text)


def test_a_request_names_one_tenant_however_often() -> None:
    assert the_one([]) == the_one([b""]) == ""
    assert the_one([b"a", b"", b"a"]) == "a"
    with pytest.raises(ValueError, match="two tenants"):
        the_one([b"a", b"b"])
