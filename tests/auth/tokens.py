"""Tokens to verify, good ones and forged ones, and the keys they belong to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from engine.auth.verifier import Claims, Verifier
from engine.errors import Unauthorized
from tests.canary import CANARY

SECRET = f"{CANARY}, a secret of at least sixty-four bytes, so that HS512 is content with it"
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key(curve: str = "P-256") -> ec.EllipticCurvePrivateKey:
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    return ec.generate_private_key(curves[curve])


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def bearer(token: str | bytes) -> list[bytes]:
    return [b"Bearer " + (token if isinstance(token, bytes) else token.encode())]


def claims_of(verifier: Verifier, token: str | bytes) -> Claims:
    return verifier.verify([], bearer(token))


def refusal(verifier: Verifier, token: str | bytes) -> str:
    """Why the verifier does not take this token. That it is refused twice shows that no refusal is remembered."""
    with pytest.raises(Unauthorized) as first:
        claims_of(verifier, token)
    with pytest.raises(Unauthorized) as second:
        claims_of(verifier, token)
    assert str(first.value) == str(second.value)
    return str(first.value)


def packed(data: bytes | str | Mapping[str, object]) -> bytes:
    if isinstance(data, Mapping):
        data = json.dumps(data)
    if isinstance(data, str):
        data = data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def forged(
    header: bytes | str | Mapping[str, object] = '{"alg":"HS256","typ":"JWT"}',
    payload: bytes | str | Mapping[str, object] = "{}",
    secret: str = SECRET,
) -> bytes:
    """A token with a good signature (HS256) over whatever it is."""
    said = packed(header) + b"." + packed(payload)
    return said + b"." + packed(hmac.digest(secret.encode(), said, hashlib.sha256))


TOKEN = forged()


def jwk(key: Any, **members: object) -> dict[str, object]:
    if isinstance(key, str):
        return {"kty": "oct", "k": packed(key).decode(), **members}
    kinds = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256", ed25519.Ed25519PrivateKey: "EdDSA"}
    algorithm = next(jwt.get_algorithm_by_name(name) for kind, name in kinds.items() if isinstance(key, kind))
    made: dict[str, object] = json.loads(algorithm.to_jwk(key.public_key()))
    # to_jwk writes key_ops, which many sets do without.
    return {name: value for name, value in made.items() if name != "key_ops"} | members


def key_set(*keys: dict[str, object]) -> bytes:
    return json.dumps({"keys": keys}).encode()


@cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()
