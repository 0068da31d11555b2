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


def is_last_for_go(request: Request) -> bool:
    """Whether no request may follow `request` on its stream to a Piko agent: a Go HTTP server in front of a Go client.

    One with a body is the last, as Piko's own node has it. Before Go's server writes the head of an answer it reads
    what it can of the request's body, and closes the body, so that another request can follow. But the client sends
    that body to the service at the same time, and looks for its end: if the service is quick, then the client finds
    the body closed, takes that for an error, and ends its connection to the service, and the answer breaks off. Where
    the request says that none will follow, the server leaves the body alone.
    """
    return request.body != 0 and not request.upgrade


def head_for_go(request: Request, head: bytes) -> bytes:
    """`head`, as which `request` goes on, for an agent that may be Piko's."""
    return head[:-2] + b"Connection: close\r\n\r\n" if is_last_for_go(request) else head


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
