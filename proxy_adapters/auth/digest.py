"""Digest (RFC 7616): proves knowledge of the password for one method, one URI, one nonce.

The nonce is kept with its count (`nc`), so the next tunnel needs no 407. A proxy that finds it too old says
`stale=true`, which is no refusal; one that was restarted has never heard of it and may not say so, and
therefore the first answer to a kept nonce proves nothing about the password.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from proxy_adapters.auth.challenge import Challenge
from proxy_adapters.auth.login import Asked, CannotStart, Conversation

_HASHES: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "SHA-512-256": lambda data: hashlib.new("sha512_256", data).hexdigest(),
}


def algorithm_of(challenge: Challenge) -> str:
    """The hash that a Digest challenge asks for, "" if it is none of ours."""
    name = challenge.parameters.get("algorithm", "MD5").upper().removesuffix("-SESS")
    return name if name in _HASHES else ""


def is_strong(challenge: Challenge) -> bool:
    return challenge.scheme == "digest" and algorithm_of(challenge).startswith("SHA")


def is_weak(challenge: Challenge) -> bool:
    return challenge.scheme == "digest" and algorithm_of(challenge) == "MD5"


@dataclass(slots=True)
class Nonce:
    """A challenge and how often it was answered; two answers never have the same count."""

    challenge: Challenge
    count: int = 0


def digest(asked: Asked) -> Conversation:
    password = yield from asked.password()
    kept = asked.challenge is None
    nonce = Nonce(asked.challenge) if asked.challenge is not None else asked.state
    if not isinstance(nonce, Nonce):
        raise CannotStart("there is no nonce yet")
    while True:
        nonce.count += 1
        asked.state, asked.spent = nonce, True
        value = answer(
            nonce.challenge,
            user=asked.account,
            password=password,
            uri=asked.uri,
            count=nonce.count,
            client_nonce=secrets.token_hex(16),
        )
        again: Challenge = yield value
        stale = kept or again.parameters.get("stale", "").lower() == "true"
        if not stale or again.parameters.get("nonce") in (None, nonce.challenge.parameters["nonce"]):
            return None
        nonce, kept = Nonce(again), False


def answer(
    challenge: Challenge, *, user: str, password: str, uri: str, count: int, client_nonce: str, method: str = "CONNECT"
) -> str:
    """The value of Proxy-Authorization (RFC 7616, 3.4). Raises CannotStart for what we cannot do."""
    given = challenge.parameters
    name = given.get("algorithm", "MD5")
    if not algorithm_of(challenge):
        raise CannotStart(f"unknown Digest algorithm {name!r}")
    if "nonce" not in given:
        raise CannotStart("the challenge has no nonce")
    realm, nonce = given.get("realm", ""), given["nonce"]
    offered = [word.strip().lower() for word in given.get("qop", "").split(",") if word.strip()]
    qop = "auth" if "auth" in offered else "auth-int" if "auth-int" in offered else ""
    if offered and not qop:
        raise CannotStart(f"unknown Digest qop {given['qop']!r}")
    encoding = "utf-8" if given.get("charset", "").lower() == "utf-8" or not _latin1(user, password) else "latin-1"

    def h(*parts: str) -> str:
        return _HASHES[algorithm_of(challenge)](":".join(parts).encode(encoding))

    a1 = h(user, realm, password)
    if name.upper().endswith("-SESS"):
        a1 = h(a1, nonce, client_nonce)
    a2 = h(method, uri, h("")) if qop == "auth-int" else h(method, uri)
    nc = f"{count:08x}"
    response = h(a1, nonce, nc, client_nonce, qop, a2) if qop else h(a1, nonce, a2)
    hashed = given.get("userhash", "").lower() == "true"
    fields = {
        "username": _quoted(h(user, realm) if hashed else user),
        "realm": _quoted(realm),
        "nonce": _quoted(nonce),
        "uri": _quoted(uri),
        "response": _quoted(response),
    }
    if "algorithm" in given:
        fields["algorithm"] = name
    if "opaque" in given:
        fields["opaque"] = _quoted(given["opaque"])
    if qop:
        fields |= {"qop": qop, "nc": nc, "cnonce": _quoted(client_nonce)}
    elif name.upper().endswith("-SESS"):
        fields["cnonce"] = _quoted(client_nonce)
    if hashed:
        fields["userhash"] = "true"
    # The head is sent as latin-1: what is not in it travels as the bytes of its UTF-8.
    text = "Digest " + ", ".join(f"{key}={value}" for key, value in fields.items())
    return text.encode(encoding).decode("latin-1")


def _latin1(*texts: str) -> bool:
    return all(char <= "\xff" for text in texts for char in text)


def _quoted(text: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise CannotStart("control characters in what the proxy or the user name gives")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
