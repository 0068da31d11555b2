"""May this token do that? JSON Web Tokens (RFC 7519), read as RFC 8725 says they must be.

A token comes as `Authorization: Bearer …`, or as `x-piko-authorization: Bearer …` where the service wants the
other field for itself; the latter wins. It may name the endpoints it is good for, `{"piko": {"endpoints":
[…]}}`; a token that names none is good for all of them.

What is verified by whom: PyJWT checks the signature, `aud` and `iss`. Around it we close what it leaves open
(of Wycheproof's 355 bad tokens PyJWT 2.15 takes six) or what is ours to decide:

- An algorithm belongs to a key and never comes from the token: HS* to the secret, RS* to the RSA key, and of
ES*
  only that of the key's curve. A JWK's `alg`, `use` and `key_ops` bind further (RFC 7517, 4.2-4.4).
- Base64url in its one canonical form and strict JSON: no member twice (RFC 8725, 2.4; parsers differ in which one
  they believe), no NaN, times are numbers. `crit` and `b64` are refused, `jku`, `x5u` and `jwk` ignored;
  `kid` is looked up among the keys we have and goes nowhere else.
- Go, and so Piko, reads member names in any case. `"Piko"` would restrict a token there and not here:
refused.

A verified token is remembered until it expires, so a client that shows the same one with every request costs
a dictionary look-up. Nothing here waits or fetches; `transport.jwks` brings key sets.
"""

from __future__ import annotations

import base64
import json
import math
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from engine.errors import ConfigError, Unauthorized

if TYPE_CHECKING:  # PyJWT and cryptography cost 120 ms, and most deployments have no tokens
    from jwt.algorithms import AllowedPublicKeys

    Material = AllowedPublicKeys | bytes

MAX_TOKEN_BYTES: Final = 16 * 1024
MAX_KEYS: Final = 256
LAST_SECOND: Final = 2**53  # times from here on (1e308) are in no calendar
MAX_KNOWN: Final = 4096
MAX_KNOWN_BYTES: Final = 4096  # longer tokens are verified anew each time

HMAC: Final = ("HS256", "HS384", "HS512")
RSA: Final = ("RS256", "RS384", "RS512")
RSA_PSS: Final = ("PS256", "PS384", "PS512")
CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}


class UnknownKey(Unauthorized):
    """The token names a key that we have not; a fresh key set may have it. To the client: an invalid token."""


class Claims(NamedTuple):
    """What a token permits. `endpoints` empty: all. `expires_at`: when a session that it opened is to end,
    in Unix seconds; None: never.
    """

    endpoints: frozenset[str]
    expires_at: float | None

    def check(self, endpoint: str) -> None:
        """Raise Unauthorized if the token is not good for this endpoint."""
        if self.endpoints and endpoint not in self.endpoints:
            raise Unauthorized("endpoint not permitted")


class Verifier:
    """Verifies the tokens of one port. The keys are those given, or a JWK set brought by `replace_keys`.

    `rsa_public_key` and `ecdsa_public_key` are PEM; an empty key, audience or issuer is none. A token is
    taken until `leeway_seconds` after its `exp`, and from as much before its `nbf`. `now` gives Unix seconds.
    Raises ConfigError for a key that is none.
    """

    def __init__(
        self,
        *,
        hmac_secret_key: str = "",
        rsa_public_key: str = "",
        ecdsa_public_key: str = "",
        audience: str = "",
        issuer: str = "",
        disable_disconnect_on_expiry: bool = False,
        leeway_seconds: float = 0.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        import jwt

        # Said for each verification, by PyJWT. Whoever configured a short secret cannot read it from here.
        warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)
        self.on_unknown_key: Callable[[], None] = _nothing
        """Called when a token names a key that is not in the set; may start to fetch a newer one."""
        self._audience = audience
        self._issuer = issuer
        self._cut_at_expiry = not disable_disconnect_on_expiry
        self._leeway = leeway_seconds
        self._now = now
        self._known: dict[bytes, tuple[Claims, float]] = {}  # field value -> claims, and the end of them
        self._document = b""
        self._keys = _configured_keys(hmac_secret_key, rsa_public_key, ecdsa_public_key)

    def replace_keys(self, document: bytes) -> None:
        """Believe the keys of this JWK set (RFC 7517, 5), and no others, from now on.

        Keys that cannot verify signatures are passed over. Raises ValueError, and changes nothing, if the
        document is none or holds no usable key.
        """
        if document == self._document:
            return
        keys = _keys_of_set(document)
        self._keys, self._document = keys, document
        self._known.clear()  # a key that is gone must not live on in what it signed

    def verify(self, own: Sequence[bytes], standard: Sequence[bytes], tenant: Sequence[bytes] = ()) -> Claims:
        """What the token of a request permits.

        The arguments are the values of its `x-piko-authorization`, `Authorization` and `x-piko-tenant-id`
        fields. Raises Unauthorized with Piko's text, UnknownKey if a newer key set could change the answer.
        """
        values = own or standard
        if len(values) == 1 and not tenant:
            known = self._known.get(values[0])
            if known is not None and self._now() < known[1]:
                return known[0]
        return self._verify(own, standard, tenant)

    def _verify(self, own: Sequence[bytes], standard: Sequence[bytes], tenant: Sequence[bytes]) -> Claims:
        values = {value for value in own if value} or {value for value in standard if value}
        if not values:
            raise Unauthorized("missing authorization")
        if len(values) > 1:  # whichever of them we believed, the next reader might believe another
            raise Unauthorized("invalid authorization")
        (value,) = values
        scheme, space, token = value.partition(b" ")
        if not space:
            raise Unauthorized("invalid authorization")
        if scheme.lower() != b"bearer":  # RFC 9110, 11.1: in any case
            raise Unauthorized("unsupported auth type")
        if any(tenant):
            raise Unauthorized("unknown tenant")
        try:
            claims, expires_at = self._open(token)
        except _Invalid as error:
            raise Unauthorized("invalid token") from error
        end = expires_at + self._leeway
        if self._now() >= end:
            raise Unauthorized("expired token")
        if len(value) <= MAX_KNOWN_BYTES:
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[value] = claims, end
        return claims

    def _open(self, token: bytes) -> tuple[Claims, float]:
        """The claims of a good token, and its `exp` (infinity without). Raises _Invalid for any other."""
        import jwt

        header, payload = _parts(token)
        key, algorithm = self._key_for(header)
        try:
            jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience or None,
                issuer=self._issuer or None,
                # Times are compared below, by our clock and not rounded; `iat` is no reason to refuse (RFC
                # 7519, 4.1.6). An audience that nobody asked about is not looked at, as in Piko.
                options={
                    "verify_aud": bool(self._audience),
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise _Invalid(str(error)) from error
        expires_at, not_before, _ = (_time(payload, name) for name in ("exp", "nbf", "iat"))
        if not_before is not None and self._now() < not_before - self._leeway:
            raise _Invalid("not valid yet")
        claims = Claims(_endpoints(payload), expires_at if self._cut_at_expiry else None)
        return claims, math.inf if expires_at is None else expires_at

    def _key_for(self, header: Mapping[str, object]) -> tuple[Material, str]:
        algorithm = header.get("alg")
        if not isinstance(algorithm, str):
            raise _Invalid("no alg")
        kid = header.get("kid")
        if not isinstance(kid, str | None):
            raise _Invalid("kid is no text")
        # Keys from the configuration have no name; what a token calls them does not matter.
        named = [key for key in self._keys if kid is None or key.kid is None or key.kid == kid]
        if not named:
            self.on_unknown_key()
            raise UnknownKey("invalid token")
        fitting = [key for key in named if algorithm in key.algorithms]
        if len(fitting) == 1:
            return fitting[0].material, algorithm
        # Several would fit a token that names none: we do not try one after the other at a stranger's wish.
        raise _Invalid(f"{len(fitting)} keys for this alg and kid")


class _Invalid(Exception):
    """Why a token is not taken; the client is not told."""


def _nothing() -> None: ...


# Tokens -----------------------------------------------------------------------------------------------------

_TOKEN = re.compile(rb"([\w-]+)\.([\w-]+)\.([\w-]+)", re.ASCII)


def _parts(token: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    match = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN_BYTES else None
    if match is None:
        raise _Invalid("not three parts of base64url")
    header, payload = _object(_unpacked(match[1])), _object(_unpacked(match[2]))
    _unpacked(match[3])
    if "crit" in header or "b64" in header:
        raise _Invalid("an extension that we do not have (RFC 7515, 4.1.11)")
    _refuse_twins(payload, ("piko", "iss", "sub", "aud", "exp", "nbf", "iat", "jti"))
    return header, payload


def _unpacked(part: bytes) -> bytes:
    try:
        data = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError as error:
        raise _Invalid("base64url") from error
    # A last sign has bits to spare; with other ones the same token would have several spellings (RFC 4648,
    # 3.5).
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part:
        raise _Invalid("base64url that is not canonical")
    return data


def _object(data: bytes) -> dict[str, Any]:
    try:
        # From text, because from bytes json.loads would guess UTF-16 and 32 as well.
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _Invalid("JSON") from error
    if not isinstance(value, dict):
        raise _Invalid("not a JSON object")
    return value


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member comes twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _refuse_twins(members: Mapping[str, object], names: Sequence[str]) -> None:
    for name in members:
        if name not in names and name.lower() in names:
            raise _Invalid(f"{name!r} is another member to us than to Piko")


def _time(payload: Mapping[str, object], name: str) -> float | None:
    if name not in payload:
        return None
    value = payload[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LAST_SECOND:
        raise _Invalid(f"{name} is no time")
    return float(value)


def _endpoints(payload: Mapping[str, object]) -> frozenset[str]:
    piko = payload.get("piko")
    if piko is None:
        return frozenset()
    if not isinstance(piko, dict):
        raise _Invalid("piko is no object")
    _refuse_twins(piko, ("endpoints",))
    endpoints = piko.get("endpoints")
    if endpoints is None:
        return frozenset()
    if not isinstance(endpoints, list) or not all(isinstance(endpoint, str) for endpoint in endpoints):
        raise _Invalid("endpoints is no list of texts")
    return frozenset(endpoints)


# Keys -------------------------------------------------------------------------------------------------------


class _Key(NamedTuple):
    kid: str | None
    algorithms: Sequence[str]
    material: Material


def _configured_keys(secret: str, rsa_pem: str, ecdsa_pem: str) -> list[_Key]:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt.algorithms import HMACAlgorithm
    from jwt.exceptions import InvalidKeyError

    keys = []
    if secret:
        try:
            keys.append(_Key(None, HMAC, HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)))
        except InvalidKeyError as error:
            # The public key as a secret is how HS256 tokens are forged (CVE-2022-29217).
            raise ConfigError("hmac_secret_key: a key of another kind; expected a secret") from error
    if rsa_pem:
        key = _public_key("rsa_public_key", rsa_pem)
        if not isinstance(key, RSAPublicKey):
            raise ConfigError("rsa_public_key: expected an RSA key")
        keys.append(_Key(None, RSA, key))
    if ecdsa_pem:
        key = _public_key("ecdsa_public_key", ecdsa_pem)
        if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
            raise ConfigError("ecdsa_public_key: expected an EC key on P-256, P-384 or P-521")
        keys.append(_Key(None, CURVES[key.curve.name], key))
    return keys


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


def _keys_of_set(document: bytes) -> list[_Key]:
    try:
        members = _object(document).get("keys")
    except _Invalid as error:
        raise ValueError(f"the key set is not a JSON object: {error}") from error
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise ValueError(f"a key set has a list of at most {MAX_KEYS} keys")
    keys = [key for member in members if (key := _key_of_jwk(member)) is not None]
    if not keys:
        raise ValueError("the key set has no key that verifies signatures")
    return keys


def _key_of_jwk(jwk: object) -> _Key | None:
    """None for a key that is not meant to verify signatures, or not one we can (RFC 7517, 5: pass over it)."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

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
    if isinstance(material, EllipticCurvePublicKey):
        possible: Sequence[str] = CURVES.get(material.curve.name, ())
    else:
        possible = {"oct": HMAC, "RSA": RSA + RSA_PSS, "OKP": ("EdDSA",)}[kind]
    bound = [algorithm for algorithm in possible if jwk.get("alg", algorithm) == algorithm]
    return _Key(kid, bound, material) if bound else None
