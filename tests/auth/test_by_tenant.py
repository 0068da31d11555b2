"""Tenants with keys of their own on one port: whose keys a token is verified by."""

from __future__ import annotations

import jwt
import pytest

from engine.auth import by_tenant
from engine.auth.by_tenant import ByTenant
from engine.auth.verifier import Claims, Verifier
from engine.errors import Unauthorized

KEYS = {name: f"the key of {name}, which has more than thirty-two bytes" for name in ("acme", "beta", "all")}


def token(key: str, tenant: str = "", **claims: object) -> bytes:
    payload = claims | ({"piko": {"tenant": tenant}} if tenant else {})
    return b"Bearer " + jwt.encode(payload, KEYS[key], "HS256").encode()


@pytest.fixture
def port() -> ByTenant:
    """acme has a key of its own, beta's tokens are verified by the port's."""
    acme = Verifier(hmac_secret_key=KEYS["acme"], tenant="acme")
    return ByTenant({"acme": acme}, Verifier(hmac_secret_key=KEYS["all"], tenants=["beta"]))


def verified(port: ByTenant, value: bytes, named: bytes = b"") -> Claims | str:
    try:
        return port.verify([], [value], [named] if named else [])
    except Unauthorized as error:
        return str(error)


@pytest.mark.parametrize("named", [b"", b"acme"])
def test_a_tenants_token_is_verified_by_its_keys_alone(port: ByTenant, named: bytes) -> None:
    for _ in range(2):  # the second is known
        found = verified(port, token("acme", "acme"), named)
        assert isinstance(found, Claims)
        assert found.tenant == "acme"
        assert verified(port, token("all", "acme"), named) == "invalid token"
        assert verified(port, token("beta", "acme"), named) == "invalid token"


def test_the_tenant_may_be_in_the_field_alone(port: ByTenant) -> None:
    found = verified(port, token("acme"), b"acme")
    assert isinstance(found, Claims)
    assert found.tenant == "acme"
    assert verified(port, token("acme")) == "invalid token"  # it names nobody whose key it could be


def test_others_are_verified_by_the_ports_keys(port: ByTenant) -> None:
    found = verified(port, token("all", "beta"), b"beta")
    assert isinstance(found, Claims)
    assert found.tenant == "beta"
    assert verified(port, token("acme", "beta")) == "invalid token"
    assert verified(port, token("all", "gamma")) == "unknown tenant"
    alone = verified(port, token("all"))
    assert isinstance(alone, Claims)
    assert alone.tenant == ""


@pytest.mark.parametrize("key", ["acme", "all"])
def test_a_token_and_a_field_that_differ_are_refused(port: ByTenant, key: str) -> None:
    assert isinstance(verified(port, token("acme", "acme")), Claims)
    assert verified(port, token(key, "acme"), b"beta") != verified(port, token("acme", "acme"))
    assert verified(port, token(key, "beta"), b"acme") in ("unknown tenant", "invalid token")


def test_without_keys_for_others_nobody_else_is_let_in() -> None:
    port = ByTenant({"acme": Verifier(hmac_secret_key=KEYS["acme"], tenant="acme")}, None)
    assert isinstance(verified(port, token("acme", "acme")), Claims)
    assert verified(port, token("all", "beta")) == "unknown tenant"
    assert verified(port, token("all")) == "unknown tenant"


def test_a_name_is_revoked_in_one_tenant(port: ByTenant) -> None:
    told: list[str] = []
    port.on_revoked = lambda: told.append("revoked")
    acme, beta = verified(port, token("acme", "acme", jti="one")), verified(port, token("all", "beta", jti="one"))
    assert isinstance(acme, Claims)
    assert isinstance(beta, Claims)
    port._of["acme"].replace_revoked(frozenset(["one"]))
    assert told == ["revoked"]
    assert port.is_revoked(acme)
    assert not port.is_revoked(beta)
    assert verified(port, token("acme", "acme", jti="one")) == "invalid token"


def test_what_is_remembered_is_bounded(port: ByTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_tenant, "MAX_KNOWN", 3)
    for number in range(10):
        assert isinstance(verified(port, token("acme", "acme", n=number)), Claims)
    assert len(port._known) <= 3
    for number in range(10):  # what is refused is not remembered
        verified(port, token("beta", "acme", n=number))
    assert len(port._known) <= 3
