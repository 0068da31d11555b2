"""Two ways to show something ready-made: a Bearer token, and a command that prints the whole header value."""

from __future__ import annotations

import re

from proxy_adapters.auth.login import Asked, CannotStart, Conversation
from proxy_adapters.secret import Hidden


def bearer(asked: Asked) -> Conversation:
    if asked.login.token is None:
        raise CannotStart("no token given")
    token = Hidden((yield from asked.secret(asked.login.token)).strip())
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise CannotStart("the token has blanks or control characters")
    asked.spent = True
    yield Hidden(f"Bearer {token}")
    return "the token was refused"


def command(asked: Asked) -> Conversation:
    if asked.login.command is None:
        raise CannotStart("no command given")
    value = yield from asked.secret(asked.login.command)
    if re.search(r"[\x00-\x1f\x7f]|[^\x00-\xff]", value):
        raise CannotStart("the command printed control characters")
    asked.spent = True
    yield value
    return "what the command printed was refused"
