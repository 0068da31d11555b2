"""Tokens that are signed here are taken by the verifier, and no key signs that is too weak or of another kind."""

from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from engine.auth.keys import SECRET_BYTES
from engine.auth.signing import ALGORITHMS, Misfit, SigningKey
from engine.auth.verifier import Verifier
from engine.errors import ConfigError
from tests.auth.tokens import NOW, SECRET, Clock, claims_of, ec_key, ed25519_key, pem, refusal, rsa_key

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def private(key: PrivateKey, format: PrivateFormat = PrivateFormat.PKCS8, passphrase: bytes | None = None) -> str:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, format, encryption).decode()


def refused(text: str, algorithm: str = "") -> str:
    """Why this is no key to sign with; no part of it is told."""
    with pytest.raises(ConfigError) as raised:
        SigningKey(text, algorithm)
    said = str(raised.value)
    assert not any(line in said for line in text.splitlines() if len(line) > 8)
    return said


@pytest.mark.parametrize(
    ("text", "verifier", "algorithms"),
    [
        (SECRET, Verifier(hmac_secret_key=SECRET), ["HS256", "HS384", "HS512"]),
        (private(rsa_key()), Verifier(rsa_public_key=pem(rsa_key())), ["RS256", "RS384", "RS512"]),
        *(
            (private(ec_key(curve)), Verifier(ecdsa_public_key=pem(ec_key(curve))), [algorithm])
            for curve, algorithm in (("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512"))
        ),
    ],
    ids=["secret", "RSA", "P-256", "P-384", "P-521"],
)
def test_what_is_signed_is_verified_with_the_same_key(text: str, verifier: Verifier, algorithms: list[str]) -> None:
    assert SigningKey(text).algorithm == algorithms[0]
    for algorithm in algorithms:
        token = SigningKey(text, algorithm).sign(endpoints=["shop", "ü/api"])
        assert jwt.get_unverified_header(token)["alg"] == algorithm
        assert claims_of(verifier, token).endpoints == {"shop", "ü/api"}
    for algorithm in set(ALGORITHMS) - set(algorithms):
        with pytest.raises(Misfit, match=f"; expected {' or '.join(algorithms)}$"):
            SigningKey(text, algorithm)


@pytest.mark.parametrize("format", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_private_keys_come_in_either_form_of_openssl(format: PrivateFormat) -> None:
    verifier = Verifier(rsa_public_key=pem(rsa_key()), ecdsa_public_key=pem(ec_key()))
    assert claims_of(verifier, SigningKey(private(rsa_key(), format)).sign())
    assert claims_of(verifier, SigningKey(private(ec_key(), format)).sign())


def test_a_token_says_what_it_was_told_to_and_nothing_else() -> None:
    key = SigningKey(SECRET)
    assert jwt.decode(key.sign(), options={"verify_signature": False}) == {}
    token = key.sign(endpoints=["a"], expires_at=17, audience="agents", issuer="me")
    said = jwt.decode(token, options={"verify_signature": False})
    assert said == {"piko": {"endpoints": ["a"]}, "exp": 17, "aud": "agents", "iss": "me"}


def test_a_token_expires_and_is_for_its_audience(clock: Clock) -> None:
    verifier = Verifier(hmac_secret_key=SECRET, audience="agents", issuer="me", now=clock)
    key = SigningKey(SECRET)
    token = key.sign(expires_at=int(NOW) + 60, audience="agents", issuer="me")
    assert claims_of(verifier, token).expires_at == NOW + 60
    clock.time += 60
    assert refusal(verifier, token) == "expired token"
    assert refusal(verifier, key.sign(audience="clients", issuer="me")) == "invalid token"
    assert refusal(verifier, key.sign(audience="agents", issuer="you")) == "invalid token"


@pytest.mark.parametrize(("algorithm", "least"), SECRET_BYTES.items())
def test_a_secret_has_the_bytes_of_its_hash(algorithm: str, least: int) -> None:
    assert SigningKey("é" * (least // 2), algorithm).sign()
    wants = f"a secret of {least - 1} bytes; {algorithm} requires {least} or more (RFC 7518, 3.2)"
    assert refused("5" * (least - 1), algorithm) == wants


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (pem(rsa_key()), "a public key or a certificate; expected the private key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ", "a key of another kind; expected a secret, or a private key in PEM"),
        (private(rsa_key(), passphrase=b"pass"), "an encrypted key; expected one without a passphrase"),
        (private(rsa_key())[:200], "not a readable PEM private key"),
        (private(rsa_key()).replace("M", "N"), "not a readable PEM private key"),
        (private(rsa.generate_private_key(65537, 1024)), "an RSA key of 1024 bits; expected 2048 or more"),
        (private(ec.generate_private_key(ec.SECP256K1())), "a key of another kind; expected an RSA key, or an EC key"),
        (private(ed25519_key()), "a key of another kind; expected an RSA key, or an EC key on P-256, P-384 or P-521"),
    ],
    ids=["public", "ssh", "passphrase", "cut", "broken", "short RSA", "another curve", "Ed25519"],
)
def test_what_is_no_key_to_sign_with_is_told_without_any_of_it(text: str, said: str) -> None:
    assert refused(text).startswith(said)


def test_a_token_is_no_longer_than_a_node_takes() -> None:
    with pytest.raises(ConfigError, match=r"^the token would have \d+ bytes; a node accepts 16384$"):
        SigningKey(SECRET).sign(endpoints=["e" * 255] * 60)
