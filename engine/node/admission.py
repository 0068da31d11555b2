"""Who asks for a carrier, and what he may: the same on both ports, however it is asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from engine.auth.key_set import Tokens
from engine.auth.verifier import Claims, Verifies, tenant_said
from engine.auth.visitors import Guard, Users, parse_users
from engine.errors import HTTPError, Unauthorized
from engine.routing import tenants
from engine.routing.tenants import HostPattern
from engine.wire import piko
from engine.wire.http1 import Fields, Request
from engine.wire.origin import may_open
from engine.wire.visitors import visitors_in


def admit(
    fields: Fields, verifier: Verifies | None, endpoint: str | None, *, tenant_by_host: Sequence[bytes] = ()
) -> Claims | None:
    """What the token in these fields permits, which `endpoint` is part of (None: whatever it is), and the tenant that
    they or the Host name; None if there is nothing to verify it with.

    Raises Unauthorized, and HTTPError for a page of a browser.
    """
    if not may_open(fields, ()):
        raise HTTPError(403, "browsers have no business here")
    if verifier is None:
        return None
    own, standard, tenant = _credentials(fields)
    claims = verifier.verify(own, standard, [*tenant, *tenant_by_host])
    if endpoint is not None:
        claims.check(endpoint)
    return claims


def tokens_of(fields: Fields, by_tenant: Mapping[str, Tokens]) -> Tokens:
    """What verifies the token in these fields: its tenant's keys. Raises Unauthorized."""
    found = by_tenant.get(tenant_said(*_credentials(fields)))
    if found is None:
        raise Unauthorized(piko.UNKNOWN_TENANT)
    return found


def key_of(request: Request, claims: Claims | None, endpoint: str, hosts: HostPattern | None) -> str:
    """The key of the endpoint that a request on the proxy port asks for: it is of the token's tenant, and where there
    are no tokens, of the one that a field or the Host names. `hosts` is None where there are no tenants.

    Raises HTTPError.
    """
    if claims is not None or hosts is None:
        return tenants.key(endpoint, claims.tenant if claims is not None else "")
    try:
        tenant = tenants.the_one([*_credentials(request.fields)[2], *by_host(request, hosts)])
    except ValueError as error:
        raise HTTPError(400, str(error)) from error
    return tenants.key(endpoint, tenant)


def guard_in(fields: Fields) -> Guard | None:
    """Whom an agent whose registration has these fields lets in, if not anybody. Raises HTTPError."""
    said = visitors_in(fields)
    if said is None:
        return None
    try:
        lines = [f"{name}:{hash_}" for name, hash_ in said.users.items()]
        users = Users(parse_users("\n".join(lines).encode("latin-1"))) if lines else None
        return Guard(said.allow, said.deny, users)
    except ValueError as error:
        raise HTTPError(400, f"x-trioduct-visitors: {error}") from None


def by_host(request: Request, hosts: HostPattern | None) -> list[bytes]:
    """The tenant that a request's Host names, if it names one."""
    found = hosts.parse(request.host) if hosts is not None else None
    return [found[1].encode()] if found is not None else []


def _credentials(fields: Fields) -> list[list[bytes]]:
    """The values that say who asks, as `Verifier.verify` takes them."""
    named = [(name.lower(), value) for name, value in fields]
    return [[value for name, value in named if name == wanted] for wanted in piko.CREDENTIALS]


def tenant_in(fields: Fields) -> bytes:
    """The tenant that these fields name; empty for none."""
    return b",".join(value for name, value in fields if name.lower() == piko.TENANT_ID)


def logged(key: str) -> dict[str, str]:
    """An endpoint's key, as a line of the log names it."""
    endpoint, tenant = tenants.split(key)
    return {"endpoint_id": endpoint, "tenant_id": tenant} if tenant else {"endpoint_id": endpoint}


def party_of(claims: Claims | None) -> str:
    """Whom limits count for: a principal of a tenant, apart from one of the same name in another; empty for nobody."""
    return tenants.key(claims.principal, claims.tenant) if claims is not None and claims.principal else ""


def seconds_left(claims: Claims | None) -> float:
    """How long these permit what they permit, from now on."""
    return math.inf if claims is None or claims.expires_at is None else claims.expires_at - time.time()
