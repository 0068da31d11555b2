"""NTLM version 2 (MS-NLMP) by pyspnego, alone and inside Negotiate.

Three legs on one connection: our type 1 says nothing secret; the proxy's type 2 is a challenge; our type 3
proves the password. The password counts as sent with type 3 only, so a proxy that drops out before that
costs no attempt. A step takes about a millisecond of CPU, but the import takes more, so it happens on first
use.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode, b64encode
from functools import partial
from typing import Any

from proxy_adapters.auth.challenge import Challenge
from proxy_adapters.auth.login import Asked, CannotStart, Conversation
from proxy_adapters.handshake import Work


def ntlm(asked: Asked) -> Conversation:
    return _three_legs(asked, "NTLM", "ntlm")


def negotiate_ntlm(asked: Asked) -> Conversation:
    """For a proxy that offers Negotiate and means NTLM: the same legs in SPNEGO's wrapping (RFC 4178)."""
    return _three_legs(asked, "Negotiate", "negotiate")


def _three_legs(asked: Asked, word: str, protocol: str) -> Conversation:
    client = yield from _client(asked, protocol)
    token = b""
    while True:
        try:
            # Type 1 goes first, so what answers a challenge carries the proof.
            out = yield Work(partial(client.step, token or None, channel_bindings=_bindings(asked)))
        except Exception as error:
            raise CannotStart(f"the proxy's challenge makes no sense: {error}") from error
        if not out:
            return None
        asked.spent = bool(token)
        heard: Challenge = yield f"{word} {b64encode(out).decode('ascii')}"
        if not heard.token:
            return None if asked.spent else "it did not go on after our first message"
        try:
            token = b64decode(heard.token, validate=True)
        except binascii.Error as error:
            raise CannotStart(f"the proxy's token is no base64: {error}") from error


def _client(asked: Asked, protocol: str) -> Any:
    login = asked.login
    if login.nt_hash is not None:
        nt_hash = yield from asked.secret(login.nt_hash)
        password = None
    else:
        nt_hash, password = None, (yield from asked.password())
    if login.user is None:
        raise CannotStart("no user given")

    def make() -> Any:
        import spnego

        # Its own wrapping of Negotiate rather than the system's, which would do Kerberos again.
        none, own = spnego.NegotiateOptions.none, spnego.NegotiateOptions.use_negotiate
        options = own if protocol == "negotiate" else none
        credential: Any = login.user if nt_hash is None else spnego.NTLMHash(login.user or "", nt_hash=nt_hash)
        return spnego.client(
            credential, password, hostname=asked.proxy.host, service="HTTP", protocol=protocol, options=options
        )

    try:
        return (yield Work(make))
    except Exception as error:
        raise CannotStart(f"pyspnego: {error}") from error


def _bindings(asked: Asked) -> Any:
    """To a TLS proxy: the hash of its certificate (RFC 5929, tls-server-end-point), against relaying."""
    if asked.binding is None:
        return None
    from spnego.channel_bindings import GssChannelBindings

    return GssChannelBindings(application_data=b"tls-server-end-point:" + hashlib.sha256(asked.binding).digest())
