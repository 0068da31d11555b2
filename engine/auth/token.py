"""A JSON Web Token (RFC 7519) read strictly: one spelling for each token, one meaning for each member.

PyJWT, which verifies the signature, leaves some of this open: it takes some of Wycheproof's bad tokens. So a token is
read here first:

- Base64url in its one canonical form, and strict JSON: no member twice (RFC 8725, 2.4: parsers differ in which of the
  two they believe), no NaN, times are numbers.
- `crit` and `b64` are refused, because no extension is known here.
- Go, and so Piko, reads the names of members in any case. `"Piko"` would restrict a token there and not here, so such
  a token is refused.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

MAX_TOKEN_BYTES: Final = 16 * 1024
LAST_SECOND: Final = 2**53  # times from here on (1e308) are in no calendar


class Invalid(Exception):
    """Why a token is not taken. The client is not told."""


_TOKEN = re.compile(rb"([\w-]+)\.([\w-]+)\.([\w-]+)", re.ASCII)


def read_signed(token: bytes) -> tuple[dict[str, object], bytes]:
    """The header and the payload of a token, whose signature was not looked at. Raises Invalid."""
    match = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN_BYTES else None
    if match is None:
        raise Invalid("not three parts of base64url")
    header, payload = json_object(_unpacked(match[1])), _unpacked(match[2])
    _unpacked(match[3])
    if "crit" in header or "b64" in header:
        raise Invalid("an extension that is not known here (RFC 7515, 4.1.11)")
    return header, payload


def read_claims(payload: bytes) -> dict[str, object]:
    """The members of a payload. Raises Invalid."""
    claims = json_object(payload)
    _refuse_twins(claims, ("piko", "iss", "sub", "aud", "exp", "nbf", "iat", "jti"))
    return claims


def _unpacked(part: bytes) -> bytes:
    try:
        data = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError as error:
        raise Invalid("base64url") from error
    # The last character has bits to spare. If they could be anything, a token would have several spellings (RFC 4648,
    # 3.5).
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part:
        raise Invalid("base64url that is not canonical")
    return data


def json_object(data: bytes) -> dict[str, object]:
    """A JSON object, read strictly. Raises Invalid."""
    try:
        # From text, because from bytes json.loads would guess UTF-16 and 32 as well.
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        if b"\\u" in data:
            # Half of a surrogate pair is no text: it cannot be written anywhere (RFC 8259, 8.2).
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Invalid("JSON") from error
    if not isinstance(value, dict):
        raise Invalid("not a JSON object")
    return value


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member comes twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _refuse_twins(members: Mapping[str, object], names: Sequence[str]) -> None:
    for name in members:
        if name not in names and name.lower() in names:
            raise Invalid(f"{name!r} means something to Piko and nothing here")


def id_of(payload: Mapping[str, object]) -> str:
    """The name of the token itself, its `jti`; empty if it has none. Raises Invalid."""
    name = payload.get("jti", "")
    if not isinstance(name, str):
        raise Invalid("jti is no text")
    return name


def check_audience(payload: Mapping[str, object], audience: str) -> None:
    """Raise Invalid if `aud`, a text or a list of texts, does not name `audience` (RFC 7519, 4.1.3)."""
    named = payload.get("aud")
    if isinstance(named, str):
        named = [named]
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named) or audience not in named:
        raise Invalid("for another audience")


def time_of(payload: Mapping[str, object], name: str) -> float | None:
    """The time that a claim names, in Unix seconds; None if there is no such claim. Raises Invalid."""
    if name not in payload:
        return None
    value = payload[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LAST_SECOND:
        raise Invalid(f"{name} is no time")
    return float(value)


def principal_of(payload: Mapping[str, object]) -> str:
    """Whom a payload names: its `sub`, behind whose word that is (`iss`); empty if it names nobody. Raises Invalid.

    `iss` is written so that it has no `#` in it: no two pairs give the same text.
    """
    subject, issuer = payload.get("sub", ""), payload.get("iss", "")
    if not isinstance(subject, str) or not isinstance(issuer, str):
        raise Invalid("sub or iss is no text")
    if not subject:
        return ""
    return f"{quote(issuer, safe=':/')}#{subject}" if issuer or "#" in subject else subject


def endpoints_of(payload: Mapping[str, object]) -> frozenset[str]:
    """The endpoints that a payload names; empty if it names none. Raises Invalid."""
    piko = payload.get("piko")
    if piko is None:
        return frozenset()
    if not isinstance(piko, dict):
        raise Invalid("piko is no object")
    _refuse_twins(piko, ("endpoints", "tenant", "domains"))
    return _texts(piko, "endpoints")


def domains_of(payload: Mapping[str, object]) -> frozenset[str]:
    """The domains that a payload permits an agent to claim, in lower case. Raises Invalid."""
    piko = payload.get("piko")
    return frozenset(map(str.lower, _texts(piko, "domains"))) if isinstance(piko, dict) else frozenset()


def _texts(piko: Mapping[str, object], name: str) -> frozenset[str]:
    texts = piko.get(name)
    if texts is None:
        return frozenset()
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Invalid(f"{name} is no list of texts")
    return frozenset(texts)


def tenant_of(payload: Mapping[str, object]) -> str:
    """The tenant that a payload names; empty if it names none. Raises Invalid."""
    piko = payload.get("piko")
    tenant = piko.get("tenant") if isinstance(piko, dict) else None
    if not isinstance(tenant, str | None):
        raise Invalid("tenant is no text")
    return tenant or ""
