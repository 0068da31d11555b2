"""JSON Web Tokens: as they come, signed over whatever they say, and the keys that they are verified with."""

from __future__ import annotations

import base64
import hmac
from typing import Final

from engine.auth.keys import keys_of_set
from engine.auth.token import read_claims, read_signed
from engine.auth.verifier import Claims, Verifier, tenant_said
from engine.errors import Unauthorized

NOW: Final = 1_800_000_000.0
SECRET: Final = "a secret of at least sixty-four bytes, so that HS512 is content with it too, as it wants"

_verifier = Verifier(hmac_secret_key=SECRET, tenants=("", "a"), now=lambda: NOW)
_choosy = Verifier(hmac_secret_key=SECRET, audience="node", issuer="me", tenants=("", "a"), now=lambda: NOW)


def jwt(data: bytes) -> None:
    """A token as it comes; and two that are well signed, of which `data` is the payload, or header and payload."""
    _token(data)
    _token(_signed(b'{"alg":"HS256"}', data))
    header, _, payload = data.partition(b"\n")
    _token(_signed(header, payload))


def _signed(header: bytes, payload: bytes) -> bytes:
    said = _packed(header) + b"." + _packed(payload)
    return said + b"." + _packed(hmac.digest(SECRET.encode(), said, "sha256"))


def _packed(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _token(token: bytes) -> None:
    value = b"Bearer " + token
    for verifier in (_verifier, _choosy):
        verifier._known.clear()
        claims = _claims(verifier, value)
        if claims is None:
            break  # and who asks for more does not take it either
        assert _claims(verifier, value) == claims, "remembered, it is what it was"
        # It is one that only the secret can make, in its one spelling.
        header, payload = read_signed(token)
        said, _, signature = token.rpartition(b".")
        digest = str(header["alg"]).replace("HS", "sha")
        assert signature == _packed(hmac.digest(SECRET.encode(), said, digest))
        assert said.endswith(b"." + _packed(payload))
        read = read_claims(payload)
        assert claims.expires_at == read.get("exp")
        for text in (claims.principal, claims.tenant, claims.token_id, *claims.endpoints):
            text.encode()  # it can be written into a log and sent to others
    try:
        tenant_said([value], [], []).encode()
    except Unauthorized:
        pass


def _claims(verifier: Verifier, value: bytes) -> Claims | None:
    try:
        return verifier.verify([value], [])
    except Unauthorized:
        return None


def keys(data: bytes) -> None:
    """A key set, as somebody publishes it."""
    try:
        found = keys_of_set(data)
    except ValueError:
        return
    assert found
    for key in found:
        assert key.algorithms
        assert "none" not in {algorithm.lower() for algorithm in key.algorithms}
        if isinstance(key.material, bytes):
            assert all(algorithm.startswith("HS") for algorithm in key.algorithms)
            assert len(key.material) >= 32
        else:
            assert not any(algorithm.startswith("HS") for algorithm in key.algorithms)
