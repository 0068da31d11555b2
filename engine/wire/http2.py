"""HTTP/2 messages (RFC 9113) as HTTP/1.1, and back: heads, bodies and trailers.

A stream of HTTP/2 carries one request and its answer. What comes is written as HTTP/1.1, so that everything behind it
reads, limits and forwards it like any other; what is sent was HTTP/1.1, and is read once more. Nothing that would be
another message there gets through: a name or a value is let in only as far as the grammar of HTTP/1.1 has it, and the
length of a body is either its Content-Length, which `h2` has checked against the frames, or is told by chunks.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from engine.errors import HTTPError
from engine.wire.http1 import Request, Response
from engine.wire.http1.grammar import is_token, is_value, split_lines

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PREFACE_HEAD: Final = PREFACE[:18]
"""What of the preface is the head of a message to a reader of HTTP/1.1."""

Field = tuple[bytes, bytes]

_OF_THIS_HOP: Final = frozenset(b"connection transfer-encoding keep-alive proxy-connection upgrade".split())
_BODILESS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE", b"CONNECT"))  # unless they say so
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


def request_head(fields: Iterable[Field], *, ended: bool) -> tuple[bytes, bool]:
    """A request's head, and whether its body goes on in chunks. `ended`: there is no body.

    `fields` are what `h2` has let pass. Raises HTTPError for what HTTP/1.1 has no way to say.
    """
    method = target = authority = host = b""
    lines: list[bytes] = []
    has_length = False
    for name, value in fields:
        if name[:1] == b":":
            if name == b":method":
                method = value
            elif name == b":path":
                target = value
            elif name == b":authority":
                authority = value
        elif name == b"host":
            host = value
        else:
            has_length = has_length or name == b"content-length"
            lines.append(_line(name, value))
    if method == b"CONNECT":
        target = authority  # refused by whoever reads it
    elif is_token(method) is None or b" " in target or not (target.startswith(b"/") or target == b"*"):
        raise HTTPError(400, "expected a method, and a path that begins with /")
    lines[:0] = [b"%b %b HTTP/1.1" % (method, target), b"Host: " + (authority or host)]
    chunks = False
    if not has_length:
        if not ended:
            chunks = True
            lines.append(b"Transfer-Encoding: chunked")
        elif method not in _BODILESS:
            lines.append(b"Content-Length: 0")
    return _head(lines), chunks


def response_head(fields: Iterable[Field], method: bytes, *, ended: bool) -> tuple[bytes, bool]:
    """The head of the answer to a request with `method`, as for requests."""
    status = 0
    lines: list[bytes] = [b""]
    has_length = False
    for name, value in fields:
        if name == b":status":
            status = int(value)
        elif name[:1] != b":":
            has_length = has_length or name == b"content-length"
            lines.append(_line(name, value))
    lines[0] = b"HTTP/1.1 %d %b" % (status, _REASONS.get(status, b""))
    chunks = False
    if not has_length and status >= 200 and status not in (204, 304) and method != b"HEAD":
        if ended:
            lines.append(b"Content-Length: 0")
        else:
            chunks = True
            lines.append(b"Transfer-Encoding: chunked")
    return _head(lines), chunks


def last_chunk(trailers: Iterable[Field]) -> bytes:
    """The end of a body that has gone in chunks. Raises HTTPError."""
    return b"0\r\n" + _head([_line(name, value) for name, value in trailers if name[:1] != b":"])


def response_fields(response: Response) -> list[Field]:
    """An answer's head in fields of HTTP/2."""
    return (_known_response_fields if response.repeats else _response_fields)(response)


def _response_fields(response: Response) -> list[Field]:
    return [(b":status", b"%d" % response.status), *_fields_of(response.lines[1:])]


_known_response_fields = lru_cache(maxsize=512)(_response_fields)


def request_fields(request: Request, scheme: bytes) -> list[Field]:
    """A request's head in fields of HTTP/2."""
    fields: list[Field] = [
        (b":method", request.method),
        (b":scheme", scheme),
        (b":authority", request.host),
        (b":path", request.target),
    ]
    fields += [field for field in _fields_of(request.lines[1:]) if field[0] != b"host"]
    return fields


def trailer_fields(block: bytes) -> list[Field]:
    """The trailers of a body, from the section behind its last chunk."""
    return [(name.lower(), value) for name, value in split_lines(block)]


def _fields_of(lines: Iterable[bytes]) -> list[Field]:
    fields = []
    for line in lines:
        name, _, value = line.partition(b": ")
        name = name.lower()
        if name not in _OF_THIS_HOP:
            fields.append((name, value))
    return fields


def _line(name: bytes, value: bytes) -> bytes:
    if is_token(name) is None or is_value(value) is None:
        raise HTTPError(400, "expected a field of HTTP/1.1")
    return b"%b: %b" % (name, value)


def _head(lines: list[bytes]) -> bytes:
    return b"\r\n".join([*lines, b"", b""])
