"""Heads and error responses as bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

# A page stands in for an answer of a service, at any of its URLs: it is not kept for later, and may do nothing there in
# the service's name. So it brings along all that it shows.
OF_PAGES: Final = [
    (b"Cache-Control", b"no-store"),
    (b"Vary", b"Accept"),
    (
        b"Content-Security-Policy",
        b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; "
        b"form-action 'none'",
    ),
]


def encode_lines(lines: Iterable[bytes]) -> bytes:
    """A head of these lines: a request or status line, and field lines."""
    return b"\r\n".join([*lines, b"", b""])


def encode_request(method: bytes, target: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A request's head. Nothing is checked: what goes in was parsed by this package, or is our own."""
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *map(b": ".join, fields), b"", b""])


def encode_response(status: int, reason: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A response's head. Nothing is checked, as in `encode_request`."""
    return b"\r\n".join([b"HTTP/1.1 %d %b" % (status, reason), *map(b": ".join, fields), b"", b""])


def error_response(
    status: int, message: str, *, close: bool, retry_after: int = 0, challenge: bytes = b"", page: bytes = b""
) -> bytes:
    """A whole response with Piko's JSON for `message`, or the HTML of `page`. `challenge` says how a client can say who
    it is.

    It has a body, so it does not answer a HEAD on a connection that is kept alive.
    """
    body = page or json.dumps({"error": message}, separators=(",", ":")).encode() + b"\n"
    fields = [
        (b"Content-Type", b"text/html; charset=utf-8" if page else b"application/json"),
        (b"Content-Length", b"%d" % len(body)),
        (b"X-Content-Type-Options", b"nosniff"),
    ]
    if page:
        fields += OF_PAGES
    if retry_after:
        fields.append((b"Retry-After", b"%d" % retry_after))
    if challenge:
        fields.append((b"WWW-Authenticate", challenge))
    if close:
        fields.append((b"Connection", b"close"))
    try:
        reason = HTTPStatus(status).phrase.encode()
    except ValueError:
        reason = b""
    return encode_response(status, reason, fields) + body
