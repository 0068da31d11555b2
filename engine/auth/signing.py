"""Tokens that a node takes: the key that signs them, and what they say.

The other side of `verifier`, and as strict: a key has the algorithms that its verifier would take, and a key that is
weaker than RFC 7518 asks for signs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from engine.auth.keys import CURVES, HMAC, RSA, RSA_BITS, SECRET_BYTES
from engine.auth.token import MAX_TOKEN_BYTES
from engine.errors import ConfigError

if TYPE_CHECKING:  # PyJWT and cryptography take 120 ms to import
    from jwt.algorithms import AllowedPrivateKeys

    Material = AllowedPrivateKeys | bytes

ALGORITHMS: Final = (*HMAC, *RSA, *(algorithm for fitting in CURVES.values() for algorithm in fitting))


class Misfit(ConfigError):
    """The algorithm that is wanted is none of the key's."""


class SigningKey:
    """A key, and the algorithm that it signs with.

    `text` is a private key in PEM, or a secret. `algorithm` is one of `ALGORITHMS`; empty: HS256 for a secret, RS256
    for an RSA key, that of the curve for an EC key. Raises Misfit for an algorithm that is not the key's, and
    ConfigError for a text that is no key to sign with. Neither has a part of the key in its text.
    """

    __slots__ = ("_material", "algorithm")

    def __init__(self, text: str, algorithm: str = "") -> None:
        kind, self._material, fitting = _private_key(text) if "-----BEGIN " in text else _secret(text)
        self.algorithm = algorithm or fitting[0]
        if self.algorithm not in fitting:
            raise Misfit(f"is not possible with {kind}; expected {' or '.join(fitting)}")
        if isinstance(self._material, bytes) and len(self._material) < (least := SECRET_BYTES[self.algorithm]):
            raise ConfigError(
                f"a secret of {len(self._material)} bytes; {self.algorithm} requires {least} or more (RFC 7518, 3.2)"
            )

    def sign(
        self,
        *,
        endpoints: Sequence[str] = (),
        domains: Sequence[str] = (),
        tenant: str = "",
        expires_at: int | None = None,
        subject: str = "",
        token_id: str = "",
        audience: str = "",
        issuer: str = "",
    ) -> str:
        """A token that is good for `endpoints` (none: for all of them) until `expires_at`, in Unix seconds (None: for
        ever). An empty tenant, subject, id, audience or issuer is not named.

        Raises ConfigError if it becomes longer than a node takes.
        """
        import jwt

        claims: dict[str, object] = {}
        said = (("endpoints", list(endpoints)), ("tenant", tenant), ("domains", list(domains)))
        scope = {name: value for name, value in said if value}
        if scope:
            claims["piko"] = scope
        for name, value in (
            ("exp", expires_at),
            ("sub", subject),
            ("jti", token_id),
            ("aud", audience),
            ("iss", issuer),
        ):
            if value not in (None, ""):
                claims[name] = value
        token = jwt.encode(claims, self._material, self.algorithm)
        if len(token) > MAX_TOKEN_BYTES:
            raise ConfigError(f"the token would have {len(token)} bytes; a node accepts {MAX_TOKEN_BYTES}")
        return token


def _secret(text: str) -> tuple[str, Material, Sequence[str]]:
    from jwt.algorithms import HMACAlgorithm
    from jwt.exceptions import InvalidKeyError

    try:
        return "a secret", HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(text), HMAC
    except InvalidKeyError:  # what a verifier does not take for a secret either
        raise ConfigError("a key of another kind; expected a secret, or a private key in PEM") from None


def _private_key(text: str) -> tuple[str, Material, Sequence[str]]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if "PRIVATE KEY-----" not in text:
        raise ConfigError("a public key or a certificate; expected the private key")
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise ConfigError("an encrypted key; expected one without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError("not a readable PEM private key; expected an RSA or EC key") from None
    if isinstance(key, RSAPrivateKey):
        if key.key_size < RSA_BITS:
            raise ConfigError(f"an RSA key of {key.key_size} bits; expected {RSA_BITS} or more (RFC 7518, 3.3)")
        return "an RSA key", key, RSA
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return f"a key on {key.curve.name}", key, CURVES[key.curve.name]
    raise ConfigError("a key of another kind; expected an RSA key, or an EC key on P-256, P-384 or P-521")
