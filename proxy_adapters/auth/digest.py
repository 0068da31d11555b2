"""Digest (RFC 7616): proves knowledge of the password for one method, one URI, one nonce.

The nonce is kept with its count (`nc`), so the next tunnel needs no 407. A proxy that finds it too old says
`stale=true`, which is no refusal; one that was restarted has never heard of it and may not say so, and
therefore the first answer to a kept nonce proves nothing about the password.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

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
    """A challenge and how often it was answered; two answers never have the same count.

    Our own nonce stays the same as long as the proxy's: `-sess` makes its key of the first ones (RFC 7616, 3.4.2).
    """

    challenge: Challenge
    count: int = 0
    client: str = field(default_factory=lambda: secrets.token_hex(16))


def digest(asked: Asked) -> Conversation:
    password = yield from asked.password()
    kept = asked.challenge is None
    nonce = Nonce(asked.challenge) if asked.challenge is not None else asked.state
    if not isinstance(nonce, Nonce):
        raise CannotStart("there is no nonce yet")
    while True:
        nonce.count += 1
        asked.state, asked.spent = nonce, True
        proof = Proof(nonce.challenge, asked.account, password, nonce.count, nonce.client)
        again: Challenge = yield proof.header("CONNECT", asked.uri)
        if again.final:
            return proof.doubt(again, asked.uri)
        # Two of these say that the nonce was refused and not the password. (A squid that is restarted within a second
        # calls the nonce stale that it has just made, for it makes them of the time.)
        stale = again.parameters.get("stale", "").lower() == "true"
        other = again.parameters.get("nonce") not in (None, nonce.challenge.parameters["nonce"])
        if kept + stale + other < 2:
            return None
        nonce, kept = Nonce(again), False


class Proof:
    """That we know the password, made for one challenge (RFC 7616, 3.4). Raises CannotStart for what we cannot do."""

    def __init__(self, challenge: Challenge, user: str, password: str, count: int, client_nonce: str) -> None:
        given = self._given = challenge.parameters
        self._name = given.get("algorithm", "MD5")
        if not algorithm_of(challenge):
            raise CannotStart(f"unknown Digest algorithm {self._name!r}")
        if "nonce" not in given:
            raise CannotStart("the challenge has no nonce")
        offered = [word.strip().lower() for word in given.get("qop", "").split(",") if word.strip()]
        self._qop = "auth" if "auth" in offered else "auth-int" if "auth-int" in offered else ""
        if offered and not self._qop:
            raise CannotStart(f"unknown Digest qop {given['qop']!r}")
        self._hash = _HASHES[algorithm_of(challenge)]
        unicode = given.get("charset", "").lower() == "utf-8" or not _latin1(user, password)
        self._encoding = "utf-8" if unicode else "latin-1"
        self._session = self._name.upper().endswith("-SESS")
        self._user, self._realm, self._nonce = user, given.get("realm", ""), given["nonce"]
        self._count, self._client_nonce = f"{count:08x}", client_nonce
        self._a1 = self._h(user, self._realm, password)
        if self._session:
            self._a1 = self._h(self._a1, self._nonce, client_nonce)

    def header(self, method: str, uri: str) -> str:
        """The value of Proxy-Authorization."""
        hashed = self._given.get("userhash", "").lower() == "true"
        fields = {
            "username": _quoted(self._h(self._user, self._realm) if hashed else self._user),
            "realm": _quoted(self._realm),
            "nonce": _quoted(self._nonce),
            "uri": _quoted(uri),
            "response": _quoted(self._response(method, uri)),
        }
        if "algorithm" in self._given:
            fields["algorithm"] = self._name
        if "opaque" in self._given:
            fields["opaque"] = _quoted(self._given["opaque"])
        if self._qop:
            fields |= {"qop": self._qop, "nc": self._count, "cnonce": _quoted(self._client_nonce)}
        elif self._session:
            fields["cnonce"] = _quoted(self._client_nonce)
        if hashed:
            fields["userhash"] = "true"
        # The head is sent as latin-1: what is not in it travels as the bytes of its UTF-8.
        text = "Digest " + ", ".join(f"{key}={value}" for key, value in fields.items())
        return text.encode(self._encoding).decode("latin-1")

    def doubt(self, info: Challenge, uri: str) -> str | None:
        """Why Proxy-Authentication-Info (3.5) does not show that the proxy knows the password too; None if it does."""
        said = info.parameters
        if "rspauth" not in said:
            return "there is no rspauth in its Proxy-Authentication-Info"
        if (said.get("cnonce", self._client_nonce), said.get("nc", self._count)) != (self._client_nonce, self._count):
            return "its rspauth belongs to another request"
        right = hmac.compare_digest(said["rspauth"].lower().encode(), self._response("", uri).encode())
        return None if right else "its rspauth is wrong"

    def _response(self, method: str, uri: str) -> str:
        a2 = self._h(method, uri, self._h("")) if self._qop == "auth-int" else self._h(method, uri)
        if not self._qop:
            return self._h(self._a1, self._nonce, a2)
        return self._h(self._a1, self._nonce, self._count, self._client_nonce, self._qop, a2)

    def _h(self, *parts: str) -> str:
        return self._hash(":".join(parts).encode(self._encoding))


def _latin1(*texts: str) -> bool:
    return all(char <= "\xff" for text in texts for char in text)


def _quoted(text: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise CannotStart("control characters in what the proxy or the user name gives")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
