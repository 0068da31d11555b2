"""The words of Piko's protocol: its paths, its header fields, its error texts, each written once.

An agent registers an endpoint by a WebSocket at a node's upstream port, a TCP client reaches one by a WebSocket at the
proxy port. An HTTP client names an endpoint by a field or by the first label of its Host. An endpoint id is any text.
In a path it is one segment, percent-encoded.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import quote, unquote_to_bytes

# Header fields, in lower case ---------------------------------------------------------------------------------

PREFIX: Final = b"x-piko-"
ENDPOINT: Final = b"x-piko-endpoint"
AUTHORIZATION: Final = b"x-piko-authorization"  # for a token where the service wants Authorization for itself
TENANT_ID: Final = b"x-piko-tenant-id"
FORWARD: Final = b"x-piko-forward"  # from node to node: the request is to go no further

CREDENTIALS: Final = (AUTHORIZATION, b"authorization", TENANT_ID)
"""The fields that say who asks, in the order of the arguments of `Verifier.verify`."""


def credentials(token: str, tenant_id: str) -> list[tuple[bytes, bytes]]:
    """The fields by which an agent or a forward shows its token and its tenant; an empty one is not shown."""
    fields = []
    if token:
        fields.append((b"Authorization", b"Bearer " + token.encode()))
    if tenant_id:
        fields.append((TENANT_ID, tenant_id.encode()))
    return fields


# Paths --------------------------------------------------------------------------------------------------------

_UPSTREAM_PATH: Final = "/piko/v1/upstream/"
_TCP_PATH: Final = "/_piko/v1/tcp/"


def upstream_path(endpoint: str) -> str:
    """Where an agent registers `endpoint`, on the upstream port."""
    return _UPSTREAM_PATH + quote(endpoint, safe="")


def tcp_path(endpoint: str) -> str:
    """Where a TCP client reaches `endpoint`, on the proxy port."""
    return _TCP_PATH + quote(endpoint, safe="")


def endpoint_of_upstream_path(target: bytes) -> str | None:
    """The endpoint that a registration with this target is for; None for any other target."""
    return _endpoint(target, _UPSTREAM_PATH.encode())


def endpoint_of_tcp_path(target: bytes) -> str | None:
    """The endpoint that a TCP client with this target asks for; None for any other target."""
    return _endpoint(target, _TCP_PATH.encode())


def _endpoint(target: bytes, path: bytes) -> str | None:
    if not target.startswith(path):
        return None
    segment = target[len(path) :].partition(b"?")[0]
    if not segment or b"/" in segment:
        return None
    return endpoint_of_segment(segment)


def endpoint_of_segment(segment: bytes) -> str:
    """The endpoint that a segment of a path names."""
    return unquote_to_bytes(segment).decode("utf-8", "replace")


def endpoint_of_host(host: bytes) -> str:
    """The first label of a host name that has a dot and is no IP address; "" for all others. A port may follow."""
    if host.startswith(b"["):
        return ""
    name = host.partition(b":")[0].decode("utf-8", "replace")
    label, dot, _ = name.partition(".")
    if not dot:
        return ""
    if label.isdigit():
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            return label
        return ""
    return label


# Error texts: {"error": …} ------------------------------------------------------------------------------------

MISSING_ENDPOINT_ID: Final = "missing endpoint id"  # 400

MISSING_AUTHORIZATION: Final = "missing authorization"  # 401, as the next six
INVALID_AUTHORIZATION: Final = "invalid authorization"
UNSUPPORTED_AUTH_TYPE: Final = "unsupported auth type"
INVALID_TOKEN: Final = "invalid token"
EXPIRED_TOKEN: Final = "expired token"
UNKNOWN_TENANT: Final = "unknown tenant"
ENDPOINT_NOT_PERMITTED: Final = "endpoint not permitted"

NO_AVAILABLE_UPSTREAMS: Final = "no available upstreams"  # 502
UPSTREAM_UNREACHABLE: Final = "upstream unreachable"  # 502
UPSTREAM_TIMEOUT: Final = "upstream timeout"  # 504


def wrong_port(path: str, status: int, said: str) -> tuple[str, str] | None:
    """What an answer to a request for `path` says about the port that was asked, and which to ask instead; None if it
    says nothing about that. `said` is the body.
    """
    upstream = "an agent needs its upstream port (8001, if nobody changed it)"
    if path.startswith(_UPSTREAM_PATH):
        if MISSING_ENDPOINT_ID in said or NO_AVAILABLE_UPSTREAMS in said:
            return "that is a node's proxy port, for clients", upstream
        if status == 404:
            return "that is no upstream port of a node", upstream
    elif path.startswith(_TCP_PATH) and status == 404:
        return "that is no proxy port of a node", "a forward needs its proxy port (8000, if nobody changed it)"
    return None


# What is ours and not Piko's ----------------------------------------------------------------------------------

SUMMARIES: Final = b"x-trioduct-summaries"
"""In a registration: the agent understands summaries in front of heads (engine.wire.http1.summary)."""

HALF_CLOSE: Final = b"x-trioduct-half-close"
"""In the opening handshake of a TCP client and in its answer: an empty message is the end of one direction."""

PUBLIC_URL: Final = b"x-trioduct-public-url"
"""In the answer to a registration: where clients reach the node (engine.wire.public_url)."""
