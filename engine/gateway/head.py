"""Heads as they go on to the next hop."""

from __future__ import annotations

from functools import lru_cache

from engine.wire import http1
from engine.wire.http1 import Request, Response


def request_head(request: Request, lines: list[bytes], base_path: bytes = b"") -> bytes:
    """`request`'s head for the next hop: `lines` are its own, as the role has amended them."""
    if base_path:
        lines = [b"%b %b%b HTTP/1.1" % (request.method, base_path, request.target), *lines[1:]]
    if request.upgrade:
        lines = [*lines, b"Connection: Upgrade", b"Upgrade: " + request.upgrade]
    return http1.encode_lines(lines)


def answer_head(response: Response, version: int, last: bool) -> bytes:
    """How an answer goes on to a client of HTTP/1.1 (`version` 11) or 1.0, the last one on its connection or not."""
    if response.intact and version == 11 and not last:
        return response.head
    return (_known_answer_head if response.repeats else _answer_head)(response, version, last)


def _answer_head(response: Response, version: int, last: bool) -> bytes:
    lines = response.lines
    if response.body < 0:  # without a length: in chunks, or (HTTP/1.0 has none) until the connection ends
        lines = [line for line in lines if line[:18].lower() != b"transfer-encoding:"]
        if version == 11:
            lines.append(b"Transfer-Encoding: chunked")
    if last:
        lines = [*lines, b"Connection: close"]
    elif version == 10:
        lines = [*lines, b"Connection: keep-alive"]
    return http1.encode_lines(lines)


_known_answer_head = lru_cache(maxsize=512)(_answer_head)
