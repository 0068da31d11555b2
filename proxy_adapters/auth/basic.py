"""Basic (RFC 7617): user and password in every request, which is why it comes last."""

from __future__ import annotations

from base64 import b64encode

from proxy_adapters.auth.login import Asked, CannotStart, Conversation
from proxy_adapters.secret import Hidden


def basic(asked: Asked) -> Conversation:
    password = yield from asked.password()
    if ":" in asked.account:
        raise CannotStart("Basic cannot carry a user name with a ':'")
    asked.spent = True
    yield Hidden("Basic " + b64encode(f"{asked.account}:{password}".encode()).decode("ascii"))
    return None
