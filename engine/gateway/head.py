"""Heads as they go on to the next hop."""

from __future__ import annotations

from functools import lru_cache

from engine.wire import http1
from engine.wire.http1 import CHUNKED, Fields, Request, Response


def request_head(request: Request, fields: Fields, base_path: bytes = b"") -> bytes:
    """`request`'s head for the next hop: `fields` (end-to-end, amended by the role) and this hop's framing."""
    if request.body == CHUNKED:
        fields.append((b"Transfer-Encoding", b"chunked"))
    if request.upgrade:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", request.upgrade)]
    return http1.encode_request(request.method, base_path + request.target, fields)


def answer_head(response: Response, version: int, last: bool) -> bytes:
    """How an answer goes on to a client of HTTP/1.1 (`version` 11) or 1.0, the last one on its connection or not."""
    return (_known_answer_head if response.repeats else _answer_head)(response, version, last)


def _answer_head(response: Response, version: int, last: bool) -> bytes:
    if response.whole and version == 11 and not last:
        return response.whole
    fields = http1.end_to_end(response)
    if response.body < 0 and version == 11:
        fields.append((b"Transfer-Encoding", b"chunked"))
    if last:
        fields.append((b"Connection", b"close"))
    elif version == 10:
        fields.append((b"Connection", b"keep-alive"))
    return http1.encode_response(response.status, response.reason, fields)


_known_answer_head = lru_cache(maxsize=512)(_answer_head)
