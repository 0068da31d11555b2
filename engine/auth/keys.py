"""Keys that verify tokens: configured as PEM or as a secret, or members of a JWK set (RFC 7517).

An algorithm belongs to a key and never comes from the token: HS* to a secret that is long enough for it, RS* to an RSA
key, and of ES* only that of the key's curve. The `alg`, `use` and `key_ops` of a JWK bind it further (RFC 7517,
4.2-4.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.auth.token import Invalid, json_object
from engine.errors import ConfigError

if TYPE_CHECKING:  # PyJWT and cryptography take 120 ms to import, and most deployments have no tokens
    from jwt.algorithms import AllowedPublicKeys

    Material = AllowedPublicKeys | bytes

MAX_KEYS: Final = 256

HMAC: Final = ("HS256", "HS384", "HS512")
SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The shortest secret of each algorithm (RFC 7518, 3.2)."""
RSA_BITS: Final = 2048
"""The shortest RSA key (RFC 7518, 3.3)."""
PUBLISHED: Final = frozenset({"change-me-to-thirty-two-bytes-or-more"})
"""Secrets that once stood in an example of ours: everybody has them."""
RSA: Final = ("RS256", "RS384", "RS512")
RSA_PSS: Final = ("PS256", "PS384", "PS512")
CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}


class Key(NamedTuple):
    """A key, and the algorithms that it may verify with. `kid` is its name in its set; None for a configured key."""

    kid: str | None
    algorithms: Sequence[str]
    material: Material


def configured_keys(secret: str, rsa_pem: str, ecdsa_pem: str) -> list[Key]:
    """The keys that are given; an empty text gives none. Raises ConfigError for a text that is not such a key."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt.algorithms import HMACAlgorithm
    from jwt.exceptions import InvalidKeyError

    keys = []
    if secret:
        try:
            material = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
        except InvalidKeyError as error:
            # The public key as a secret is how HS256 tokens are forged (CVE-2022-29217).
            raise ConfigError("hmac_secret_key: a key of another kind; expected a secret") from error
        if secret in PUBLISHED:
            raise ConfigError("hmac_secret_key: a secret that was published as an example; expected one of your own")
        keys.append(Key(None, _hmac_of("hmac_secret_key", material), material))
    if rsa_pem:
        key = _public_key("rsa_public_key", rsa_pem)
        if not isinstance(key, RSAPublicKey):
            raise ConfigError("rsa_public_key: expected an RSA key")
        if weakness := _weakness(key.public_numbers().n):
            raise ConfigError(f"rsa_public_key: {weakness}")
        keys.append(Key(None, RSA, key))
    if ecdsa_pem:
        key = _public_key("ecdsa_public_key", ecdsa_pem)
        if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
            raise ConfigError("ecdsa_public_key: expected an EC key on P-256, P-384 or P-521")
        keys.append(Key(None, CURVES[key.curve.name], key))
    return keys


def _hmac_of(name: str, secret: bytes) -> Sequence[str]:
    """The algorithms that a secret is long enough for. Raises ConfigError if there is none."""
    if fitting := hmac_algorithms(secret):
        return fitting
    raise ConfigError(
        f"{name}: a secret of {len(secret)} bytes; expected {SECRET_BYTES['HS256']} or more (RFC 7518, 3.2), such as "
        "`openssl rand -hex 32` prints"
    )


def hmac_algorithms(secret: bytes) -> Sequence[str]:
    """The algorithms that a secret is long enough for."""
    return tuple(algorithm for algorithm in HMAC if len(secret) >= SECRET_BYTES[algorithm])


def _weakness(modulus: int) -> str:
    """Why an RSA key is not to be believed; empty if nothing is known against it."""
    if modulus.bit_length() < RSA_BITS:
        return f"an RSA key of {modulus.bit_length()} bits; expected {RSA_BITS} or more (RFC 7518, 3.3)"
    if _is_infineons(modulus):
        return "an RSA key whose private half can be found (CVE-2017-15361); expected a new one"
    return ""


def _is_infineons(modulus: int) -> bool:
    """Was it made by a library of Infineon's? The primes of such a key are powers of 65537 modulo many small primes
    (Nemec and others, The Return of Coppersmith's Attack, 2017); by chance that is so for one key in 2^27.
    """
    for prime in range(3, 168, 2):
        if all(prime % factor for factor in range(3, 13, 2) if factor < prime):
            power, remainder = 1, modulus % prime
            while power != remainder:
                power = power * 65537 % prime
                if power == 1:
                    return False
    return True


def _public_key(name: str, pem: str) -> object:
    # Go's jwt takes a certificate in place of the key, too.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    data = pem.encode()
    try:
        if b"BEGIN CERTIFICATE" in data:
            return load_pem_x509_certificate(data).public_key()
        return load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{name}: expected a public key in PEM") from error


def keys_of_set(document: bytes) -> list[Key]:
    """The keys of a JWK set (RFC 7517, 5) that verify signatures. Raises ValueError if there is none."""
    try:
        members = json_object(document).get("keys")
    except Invalid as error:
        raise ValueError(f"the key set is not a JSON object: {error}") from error
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise ValueError(f"a key set has a list of at most {MAX_KEYS} keys")
    keys = [key for member in members if (key := _key_of_jwk(member)) is not None]
    if not keys:
        raise ValueError("the key set has no key that verifies signatures")
    if len({isinstance(key.material, bytes) for key in keys}) > 1:
        # A set with public keys is published, and then its secrets are, too.
        raise ValueError("the key set has secrets beside public keys")
    return keys


def _key_of_jwk(jwk: object) -> Key | None:
    """None for a key that is not meant to verify signatures, or cannot be used here (RFC 7517, 5: pass over it)."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    usual = {"oct": "HS256", "RSA": "RS256", "EC": None, "OKP": "EdDSA"}
    kind, kid = jwk.get("kty"), jwk.get("kid")
    if not isinstance(kind, str) or kind not in usual or not isinstance(kid, str | None):
        return None
    public = {name: value for name, value in jwk.items() if name in ("kty", "k", "n", "e", "crv", "x", "y")}
    try:
        material = jwt.PyJWK(public, usual[kind]).key
    except (jwt.PyJWTError, ValueError, TypeError, LookupError):  # as it comes, from a member that is missing
        return None
    possible: Sequence[str]
    if isinstance(material, RSAPublicKey) and _weakness(material.public_numbers().n):
        return None
    if isinstance(material, EllipticCurvePublicKey):
        possible = CURVES.get(material.curve.name, ())
    elif isinstance(material, bytes):
        possible = hmac_algorithms(material)
    else:
        possible = {"RSA": RSA + RSA_PSS, "OKP": ("EdDSA",)}[kind]
    bound = [algorithm for algorithm in possible if jwk.get("alg", algorithm) == algorithm]
    return Key(kid, bound, material) if bound else None
