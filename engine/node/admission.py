"""Who asks for a carrier, and what he may: the same on both ports, however it is asked for."""

from __future__ import annotations

import math
import time

from engine.auth.verifier import Claims, Verifier
from engine.errors import HTTPError
from engine.wire import piko
from engine.wire.http1 import Fields
from engine.wire.origin import may_open


def admit(fields: Fields, verifier: Verifier | None, endpoint: str) -> Claims | None:
    """What the token in these fields permits, which `endpoint` is part of; None if there is nothing to verify it with.

    Raises Unauthorized, and HTTPError for a page of a browser.
    """
    if not may_open(fields, ()):
        raise HTTPError(403, "browsers have no business here")
    if verifier is None:
        return None
    named = [(name.lower(), value) for name, value in fields]
    credentials = ([value for name, value in named if name == wanted] for wanted in piko.CREDENTIALS)
    claims = verifier.verify(*credentials)
    claims.check(endpoint)
    return claims


def tenant_in(fields: Fields) -> bytes:
    """The tenant that these fields name; empty for none."""
    return b",".join(value for name, value in fields if name.lower() == piko.TENANT_ID)


def seconds_left(claims: Claims | None) -> float:
    """How long these permit what they permit, from now on."""
    return math.inf if claims is None or claims.expires_at is None else claims.expires_at - time.time()
