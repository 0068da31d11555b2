"""May this token do that? JSON Web Tokens (RFC 7519), verified as RFC 8725 says they must be.

A token comes as `Authorization: Bearer …`, or as `x-piko-authorization: Bearer …` where the service wants the other
field for itself; the latter wins. It may name the endpoints that it is good for, `{"piko": {"endpoints": […]}}`; a
token that names none is good for all of them. `{"piko": {"tenant": …}}` is the tenant in which it is good (ours).

PyJWT checks the signature. What it leaves open is closed by `token`, which reads a token strictly, and
by `keys`, which ties each key to its algorithms. `jku`, `x5u` and `jwk` in a header are ignored; `kid` is looked up
among the keys that are here and goes nowhere else.

A verified token is remembered until it expires, so a client that shows the same one with every request costs a
dictionary look-up. Nothing here waits or fetches; `key_set` brings key sets.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from engine.auth.keys import configured_keys, keys_of_set
from engine.auth.token import (
    Invalid,
    check_audience,
    domains_of,
    endpoints_of,
    id_of,
    principal_of,
    read_claims,
    read_signed,
    tenant_of,
    time_of,
)
from engine.errors import Unauthorized
from engine.wire import piko

if TYPE_CHECKING:
    from jwt import PyJWS

    from engine.auth.keys import Material

MAX_KNOWN: Final = 4096
MAX_KNOWN_BYTES: Final = 4096  # longer tokens are verified anew each time


class UnknownKey(Unauthorized):
    """The token names a key that is not here, and a newer key set may have it. The client reads: an invalid token."""


class Claims(NamedTuple):
    """What a token permits.

    If `endpoints` is empty, it is good for all of them. A session that it has opened is to end at `expires_at`, in Unix
    seconds; never if that is None. `principal` is whom it names; empty if it names nobody. `tenant` is the one in which
    all that holds; empty for none.
    """

    endpoints: frozenset[str]
    expires_at: float | None
    principal: str = ""
    tenant: str = ""
    token_id: str = ""
    """The token's `jti`, by which it can be revoked; empty if it has none."""
    domains: frozenset[str] = frozenset()
    """Those that an agent may claim (see routing.domains)."""

    def check(self, endpoint: str) -> None:
        """Raise Unauthorized if the token is not good for this endpoint."""
        if self.endpoints and endpoint not in self.endpoints:
            raise Unauthorized(piko.ENDPOINT_NOT_PERMITTED)


class Verifies(Protocol):
    """What a port asks about its tokens: a Verifier, or several (see by_tenant)."""

    on_revoked: Callable[[], None]

    def verify(self, own: Sequence[bytes], standard: Sequence[bytes], tenant: Sequence[bytes] = ()) -> Claims: ...

    def is_revoked(self, claims: Claims) -> bool: ...


class Verifier:
    """Verifies the tokens of one port. The keys are those given, or a JWK set brought by `replace_keys`.

    `rsa_public_key` and `ecdsa_public_key` are PEM. An empty key, audience or issuer stands for none. A token is taken
    until `leeway_seconds` after its `exp`, and from as much before its `nbf`. `now` gives Unix seconds. A token may
    name one of `tenants`, or `tenant`, which is that of a token that names none. Raises ConfigError for a text that is
    not such a key.
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
        tenants: Collection[str] = (),
        tenant: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.on_unknown_key: Callable[[], None] = _nothing
        """Called when a token names a key that is not in the set; may start to fetch a newer one."""
        self.on_revoked: Callable[[], None] = _nothing
        """Called when other tokens are revoked than before; whoever a token has let in is asked for again."""
        self._revoked: frozenset[str] = frozenset()
        self._audience = audience
        self._issuer = issuer
        self._cut_at_expiry = not disable_disconnect_on_expiry
        self._leeway = leeway_seconds
        self._tenants = frozenset((tenant, *tenants))
        self._tenant = tenant
        self._now = now
        self._known: dict[bytes, tuple[Claims, float]] = {}  # field value -> claims, and the end of them
        self._document = b""
        self._keys = configured_keys(hmac_secret_key, rsa_public_key, ecdsa_public_key)

    def replace_configured(self, hmac_secret_key: str, rsa_public_key: str, ecdsa_public_key: str) -> None:
        """Believe these keys, and no others, from now on. Raises ConfigError, and changes nothing, for what is none."""
        self._keys = configured_keys(hmac_secret_key, rsa_public_key, ecdsa_public_key)
        self._known.clear()

    def replace_keys(self, document: bytes) -> None:
        """Believe the keys of this JWK set (RFC 7517, 5), and no others, from now on.

        Keys that cannot verify signatures are passed over. Raises ValueError, and changes nothing, if the document is
        not a JWK set or holds no usable key.
        """
        if document == self._document:
            return
        keys = keys_of_set(document)
        self._keys, self._document = keys, document
        self._known.clear()  # a key that is gone must not live on in what it signed

    def replace_revoked(self, token_ids: frozenset[str]) -> None:
        """Refuse the tokens that have one of these as their `jti`, and no others, from now on."""
        if token_ids != self._revoked:
            self._revoked = token_ids
            self._known.clear()
            self.on_revoked()

    def is_revoked(self, claims: Claims) -> bool:
        """Is the token that has permitted this taken back?"""
        return claims.token_id in self._revoked

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
        value, token = _bearer(own, standard)
        named = {name.decode("utf-8", "replace") for name in tenant if name}
        if not named <= self._tenants:
            raise Unauthorized(piko.UNKNOWN_TENANT)
        known = self._known.get(value)
        claims = known[0] if known is not None and self._now() < known[1] else self._verify_anew(value, token)
        if named and named != {claims.tenant}:
            raise Unauthorized(piko.UNKNOWN_TENANT)
        return claims

    def _verify_anew(self, value: bytes, token: bytes) -> Claims:
        try:
            claims, expires_at = self._open(token)
        except Invalid as error:
            raise Unauthorized(piko.INVALID_TOKEN) from error
        end = expires_at + self._leeway
        if self._now() >= end:
            raise Unauthorized(piko.EXPIRED_TOKEN)
        if len(value) <= MAX_KNOWN_BYTES:
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[value] = claims, end
        return claims

    def check_signature(self, token: bytes) -> bytes:
        """What a token has signed (RFC 7515, 5.2), whatever that says. Raises Invalid, and UnknownKey."""
        import jwt

        header, payload = read_signed(token)
        key, algorithm = self._key_for(header)
        try:
            _signatures().decode(token, key, algorithms=[algorithm])
        except (jwt.PyJWTError, ValueError) as error:
            raise Invalid(str(error)) from error
        return payload

    def _open(self, token: bytes) -> tuple[Claims, float]:
        """The claims of a good token, and its `exp` (infinity without). Raises Invalid for any other."""
        payload = read_claims(self.check_signature(token))
        if self._audience:  # looked at only if one is configured, as in Piko
            check_audience(payload, self._audience)
        if self._issuer and payload.get("iss") != self._issuer:
            raise Invalid("of another issuer")
        # Times are compared by our clock and not rounded. `iat` is no reason to refuse (RFC 7519, 4.1.6).
        expires_at, not_before, _ = (time_of(payload, name) for name in ("exp", "nbf", "iat"))
        if not_before is not None and self._now() < not_before - self._leeway:
            raise Invalid("not valid yet")
        tenant = tenant_of(payload) or self._tenant
        if tenant not in self._tenants:
            raise Unauthorized(piko.UNKNOWN_TENANT)
        token_id = id_of(payload)
        if token_id in self._revoked:
            raise Invalid("revoked")
        ends_at = expires_at if self._cut_at_expiry else None
        principal, domains = principal_of(payload), domains_of(payload)
        claims = Claims(endpoints_of(payload), ends_at, principal, tenant, token_id, domains)
        return claims, math.inf if expires_at is None else expires_at

    def _key_for(self, header: Mapping[str, object]) -> tuple[Material, str]:
        algorithm = header.get("alg")
        if not isinstance(algorithm, str):
            raise Invalid("no alg")
        kid = header.get("kid")
        if not isinstance(kid, str | None):
            raise Invalid("kid is no text")
        # Keys from the configuration have no name, so any `kid` is theirs.
        named = [key for key in self._keys if kid is None or key.kid is None or key.kid == kid]
        if not named:
            self.on_unknown_key()
            raise UnknownKey(piko.INVALID_TOKEN)
        fitting = [key for key in named if algorithm in key.algorithms]
        if len(fitting) == 1:
            return fitting[0].material, algorithm
        # Several would fit a token that names none. A stranger cannot make us try them one after the other.
        raise Invalid(f"{len(fitting)} keys for this alg and kid")


@cache
def _signatures() -> PyJWS:
    """What checks them: to make one takes half as long as to use it."""
    import jwt

    return jwt.PyJWS()


def _bearer(own: Sequence[bytes], standard: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The value that shows a token, and the token. Raises Unauthorized."""
    values = {value for value in own if value} or {value for value in standard if value}
    if not values:
        raise Unauthorized(piko.MISSING_AUTHORIZATION)
    if len(values) > 1:  # whichever of them is believed here, the next reader might believe another
        raise Unauthorized(piko.INVALID_AUTHORIZATION)
    (value,) = values
    scheme, space, token = value.partition(b" ")
    if not space:
        raise Unauthorized(piko.INVALID_AUTHORIZATION)
    if scheme.lower() != b"bearer":  # RFC 9110, 11.1: in any case
        raise Unauthorized(piko.UNSUPPORTED_AUTH_TYPE)
    return value, token


def tenant_said(own: Sequence[bytes], standard: Sequence[bytes], tenant: Sequence[bytes]) -> str:
    """Whose keys are to verify the token of a request: the tenant that its field names, or else the token itself, which
    nobody has verified yet. The arguments are those of `Verifier.verify`. Raises Unauthorized.
    """
    _, token = _bearer(own, standard)
    named = {name.decode("utf-8", "replace") for name in tenant if name}
    if not named:
        try:
            named = {tenant_of(read_claims(read_signed(token)[1]))}
        except Invalid as error:
            raise Unauthorized(piko.UNKNOWN_TENANT) from error
    if len(named) > 1:
        raise Unauthorized(piko.UNKNOWN_TENANT)
    return named.pop()


def _nothing() -> None: ...
