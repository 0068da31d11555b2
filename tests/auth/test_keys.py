"""Which key verifies what: by its kind, its curve, and what its JWK says of it."""

from __future__ import annotations

import json
import math
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from engine.auth.verifier import Verifier
from engine.errors import ConfigError
from tests.auth.tokens import (
    SECRET,
    claims_of,
    ec_key,
    ed25519_key,
    forged,
    jwk,
    key_set,
    packed,
    pem,
    refusal,
    rsa_key,
)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256"])
def test_tokens_of_pyjwt_are_taken_by_the_key_they_belong_to_and_no_other(algorithm: str) -> None:
    everything = Verifier(hmac_secret_key=SECRET, rsa_public_key=pem(rsa_key()), ecdsa_public_key=pem(ec_key()))
    keys: dict[str, Any] = {"HS": SECRET, "RS": rsa_key(), "ES": ec_key()}
    token = jwt.encode({"piko": {"endpoints": ["e"]}}, keys[algorithm[:2]], algorithm, headers={"kid": "any"})
    assert claims_of(everything, token).endpoints == {"e"}
    for kind, other in {
        "HS": Verifier(hmac_secret_key=SECRET),
        "RS": Verifier(rsa_public_key=pem(rsa_key())),
        "ES": Verifier(ecdsa_public_key=pem(ec_key())),
    }.items():
        if kind != algorithm[:2]:
            assert refusal(other, token) == "invalid token"


@pytest.mark.parametrize(("curve", "algorithm"), [("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512")])
def test_a_curve_has_one_algorithm(curve: str, algorithm: str) -> None:
    verifier = Verifier(ecdsa_public_key=pem(ec_key(curve)))
    assert claims_of(verifier, jwt.encode({}, ec_key(curve), algorithm))
    for other in {"ES256", "ES384", "ES512"} - {algorithm}:
        said = packed({"alg": other}) + b"." + packed({})
        signature = jwt.get_algorithm_by_name(algorithm).sign(said, ec_key(curve))
        assert refusal(verifier, said + b"." + packed(signature)) == "invalid token"


def test_a_certificate_will_do_for_a_public_key() -> None:
    pair = trustme.CA().issue_cert("issuer", key_type=trustme.KeyType.RSA)
    verifier = Verifier(rsa_public_key=pair.cert_chain_pems[0].bytes().decode())
    assert claims_of(verifier, jwt.encode({}, pair.private_key_pem.bytes(), "RS256"))


@pytest.mark.parametrize("name", ["rsa_public_key", "ecdsa_public_key"])
def test_the_public_key_is_no_secret_to_sign_with(name: str) -> None:
    text = pem(rsa_key()) if name == "rsa_public_key" else pem(ec_key())
    verifier = Verifier(**{name: text})  # type: ignore[arg-type]  # one text by name
    both = Verifier(**{name: text}, hmac_secret_key=SECRET)  # type: ignore[arg-type]  # as above
    for secret in (text, text.strip(), text.replace("\n", "")):
        assert refusal(verifier, forged(secret=secret)) == "invalid token"
        assert refusal(both, forged(secret=secret)) == "invalid token"
    with pytest.raises(ConfigError, match="hmac_secret_key"):
        Verifier(hmac_secret_key=text)


@pytest.mark.parametrize(
    "extra",
    [
        {"kid": "../../../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"kid": "k" * 10_000},
        {"kid": "http://127.0.0.1:1/"},
        {"jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"},
        {"jwk": {"kty": "oct", "k": "YXR0YWNrZXI"}, "x5c": ["x"]},
    ],
)
def test_what_a_header_says_about_its_key_is_ignored(verifier: Verifier, extra: dict[str, object]) -> None:
    header = {"alg": "HS256", **extra}
    assert claims_of(verifier, forged(header=header))
    assert refusal(verifier, forged(header=header, secret="attacker")) == "invalid token"


@pytest.mark.parametrize(
    ("kid", "algorithm"),
    [("r", "RS256"), ("r", "RS512"), ("r", "PS256"), ("e", "ES384"), ("o", "EdDSA")],
)
def test_a_key_set_serves_the_tokens_of_its_keys(keyed: Verifier, kid: str, algorithm: str) -> None:
    keys: dict[str, Any] = {"r": rsa_key(), "e": ec_key("P-384"), "o": ed25519_key()}
    named = jwt.encode({"n": 1}, keys[kid], algorithm, headers={"kid": kid})
    nameless = jwt.encode({"n": 2}, keys[kid], algorithm)
    misnamed = jwt.encode({"n": 3}, keys[kid], algorithm, headers={"kid": "e" if kid != "e" else "r"})
    assert claims_of(keyed, named)
    assert claims_of(keyed, nameless)
    assert refusal(keyed, misnamed) == "invalid token"


def test_a_jwk_binds_its_algorithm() -> None:
    verifier = Verifier()
    verifier.replace_keys(key_set(jwk(SECRET, kid="h", alg="HS256")))
    assert claims_of(verifier, jwt.encode({}, SECRET, "HS256", headers={"kid": "h"}))
    assert refusal(verifier, jwt.encode({}, SECRET, "HS512", headers={"kid": "h"})) == "invalid token"


def test_a_set_has_no_secrets_beside_public_keys() -> None:
    verifier = Verifier()
    verifier.replace_keys(key_set(jwk(SECRET, kid="h")))
    for public in (rsa_key(), ec_key(), ed25519_key()):
        with pytest.raises(ValueError, match="secrets beside public keys"):
            verifier.replace_keys(key_set(jwk(public, kid="p"), jwk(SECRET, kid="h")))
    assert claims_of(verifier, forged(header={"alg": "HS256", "kid": "h"}))  # as it was


def infineons(bits: int = 2048) -> rsa.RSAPublicKey:
    """A key with the mark of CVE-2017-15361."""
    product = math.prod(p for p in range(3, 168) if all(p % q for q in range(2, p)))
    large = (3 << bits // 2 - 2) // product * product
    halves = (large + pow(65537, power, product) for power in (4711, 815))
    return rsa.RSAPublicNumbers(65537, math.prod(half if half % 2 else half + product for half in halves)).public_key()


def test_an_rsa_key_whose_private_half_can_be_found_is_refused() -> None:
    public = infineons()
    modulus = public.public_numbers().n.to_bytes(257, "big").lstrip(b"\0")
    member: dict[str, object] = {"kty": "RSA", "kid": "i", "n": packed(modulus).decode(), "e": "AQAB"}
    verifier = Verifier()
    with pytest.raises(ValueError, match="no key that verifies"):
        verifier.replace_keys(key_set(member))
    text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(ConfigError, match="CVE-2017-15361"):
        Verifier(rsa_public_key=text)
    for _ in range(3):  # others have no such mark
        Verifier(rsa_public_key=pem(rsa_key()))


def test_a_short_rsa_key_is_refused() -> None:
    short = rsa.generate_private_key(65537, 1024)
    with pytest.raises(ConfigError, match="1024 bits; expected 2048 or more"):
        Verifier(rsa_public_key=pem(short))
    with pytest.raises(ValueError, match="no key that verifies"):
        Verifier().replace_keys(key_set(jwk(short)))


def test_the_public_key_of_a_set_is_no_secret(keyed: Verifier) -> None:
    public = rsa_key().public_key()
    for secret in (
        pem(rsa_key()),
        public.public_bytes(Encoding.DER, PublicFormat.PKCS1).decode("latin-1"),
        json.dumps(jwk(rsa_key())),
    ):
        header = {"alg": "HS256", "kid": "r"}
        assert refusal(keyed, forged(header=header, secret=secret)) == "invalid token"


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"use": "SIG"},
        {"use": None},
        {"key_ops": ["encrypt"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"alg": "ES256"},
        {"alg": "RSA-OAEP"},
        {"alg": "none"},
        {"kid": 1},
        {"kty": "RSA "},
        {"kty": "EC"},
        {"kty": "oct"},
        {"n": "AA"},
        {"n": None},
        {"e": 3},
    ],
)
def test_a_key_that_is_not_for_this_is_passed_over(members: dict[str, object]) -> None:
    verifier = Verifier()
    token = jwt.encode({}, rsa_key(), "RS256", headers={"kid": "r"})
    good = jwk(rsa_key(), kid="r")
    with pytest.raises(ValueError, match="no key that verifies"):
        verifier.replace_keys(key_set(good | members))
    verifier.replace_keys(key_set(good | members | {"kid": "other"}, jwk(ec_key(), kid="e")))
    assert refusal(verifier, token) == "invalid token"


def test_a_private_key_in_a_set_serves_as_its_public_half() -> None:
    private = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(rsa_key()))
    del private["key_ops"]
    verifier = Verifier()
    verifier.replace_keys(key_set(private))
    assert isinstance(verifier._keys[0].material, rsa.RSAPublicKey)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["RSA", "EC", "oct", "OKP", "AQAB"]),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(), some, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["kty", "use", "key_ops", "alg", "kid", "k", "n", "e", "crv", "x", "y", "d"]), anything
    )
)
def test_any_member_of_a_set_is_a_key_or_passed_over(member: dict[str, object]) -> None:
    Verifier().replace_keys(key_set(member, jwk(ec_key())))


@pytest.mark.parametrize("text", ["x", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"])
@pytest.mark.parametrize("name", ["rsa_public_key", "ecdsa_public_key"])
def test_a_public_key_that_is_none_is_an_error_of_the_configuration(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected a public key"):
        Verifier(**{name: text})  # type: ignore[arg-type]  # one text by name


def test_a_public_key_of_another_kind_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="expected an RSA key"):
        Verifier(rsa_public_key=pem(ec_key()))
    with pytest.raises(ConfigError, match="expected an EC key"):
        Verifier(ecdsa_public_key=pem(rsa_key()))


def test_a_signature_by_another_rsa_scheme_is_refused() -> None:
    said = packed({"alg": "RS256"}) + b"." + packed({})
    signature = rsa_key().sign(said, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
    verifier = Verifier(rsa_public_key=pem(rsa_key()))
    assert refusal(verifier, said + b"." + packed(signature)) == "invalid token"
