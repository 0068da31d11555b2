"""Clients that come back to the agent which has served them: by a cookie, or by their address.

By address, the agent is the best of a rendezvous: each agent and client together give a number, and the greatest wins,
for a share of the clients by the agent's weight. An agent that comes or goes changes nothing for clients of the others,
nor does another weight but for those who come to it or leave it. All of that is among the sessions of this node.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from math import log
from typing import Final

from engine.auth.visitors import entry_for
from engine.wire.http1 import Request, Response
from engine.wire.http1.message import with_lines

COOKIE: Final = b"trioduct-agent"
MAX_KNOWN: Final = 1024  # names of endpoints


class Sticky:
    """By names of endpoints, or patterns of them, or of TENANT/ENDPOINT: `cookie`, or `client` for its address."""

    def __init__(self, rules: Mapping[str, str]) -> None:
        self._rules = rules
        self.of = lru_cache(MAX_KNOWN)(self._of)

    def _of(self, endpoint: str, tenant: str) -> str | None:
        return entry_for(f"{tenant}/{endpoint}" if tenant else endpoint, self._rules)


def rank(client: str, agent: bytes, weight: int = 1) -> float:
    """How good an agent is for a client: the greatest is the best; 0: a standby."""
    drawn = int.from_bytes(blake2b(client.encode() + b"\0" + agent, digest_size=6).digest())
    return -weight / log((drawn + 0.5) / 2**48)  # Schindelhauer and Schomaker, Weighted Distributed Hash Tables


def agent_in(request: Request) -> bytes:
    """The agent that a request's cookie names; empty for none."""
    for name, value in request.fields:
        if name.lower() == b"cookie":
            for pair in value.split(b";"):
                key, _, agent = pair.strip().partition(b"=")
                if key == COOKIE:
                    return agent
    return b""


def with_cookie(agent: bytes, secure: bool, request: Request, response: Response) -> Response:
    """`response` with the cookie that names `agent`, for as long as the browser is open."""
    line = b"Set-Cookie: %b=%b; Path=/; HttpOnly; SameSite=Lax%b" % (COOKIE, agent, b"; Secure" * secure)
    lines = [*response.lines, line]
    return with_lines(response, lines)
