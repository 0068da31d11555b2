"""A verifier with a secret, one with a set of keys, and their clock."""

from __future__ import annotations

import pytest

from engine.auth.verifier import Verifier
from tests.auth.tokens import SECRET, Clock, ec_key, ed25519_key, jwk, key_set, rsa_key


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(clock: Clock) -> Verifier:
    return Verifier(hmac_secret_key=SECRET, now=clock)


@pytest.fixture
def keyed(clock: Clock) -> Verifier:
    """Keys: r (RSA), e (EC), o (Ed25519)."""
    verifier = Verifier(now=clock)
    verifier.replace_keys(
        key_set(
            jwk(rsa_key(), kid="r", use="sig"),
            jwk(ec_key("P-384"), kid="e", key_ops=["verify"]),
            jwk(ed25519_key(), kid="o"),
        )
    )
    return verifier


@pytest.fixture
def shared(clock: Clock) -> Verifier:
    """Of a set with one secret, h."""
    verifier = Verifier(now=clock)
    verifier.replace_keys(key_set(jwk(SECRET, kid="h", alg="HS256")))
    return verifier
