"""One span, and what it says of an HTTP exchange: OpenTelemetry's semantic conventions for HTTP, as far as they say
nothing that may be a secret. No queries, no header fields, and of a path nothing that looks like a credential.

What they have no name for is ours, `trioduct.…`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from time import perf_counter, time_ns
from typing import Final

from engine.gateway.exchange import Exchange
from engine.secret import without_secrets
from engine.wire.http1 import Request

Value = str | int

# RFC 9110 and 5789: what the conventions know. Others are `_OTHER`, for strangers can make up any number of them.
METHODS: Final = frozenset(b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH".split())
TEXT_CHARACTERS: Final = 512  # of what a stranger has written
ABORTED: Final = 499  # the client has gone before there was an answer


class Kind(Enum):
    SERVER = "server"
    CLIENT = "client"


class Span:
    """A span that is under way or over. Ids are in hexadecimal, `parent` is empty for the first of a trace, `began` and
    `ended` are seconds of `time.perf_counter`, `first_byte` is when an answer began (0: it did not). `error` is one of
    a few words, or empty.

    `offset_ns` is what makes Unix time of them, as of the moment at which the span was over.
    """

    __slots__ = (
        "attributes",
        "began",
        "ended",
        "error",
        "first_byte",
        "flags",
        "id",
        "kind",
        "name",
        "offset_ns",
        "parent",
        "trace",
    )

    def __init__(self, kind: Kind, name: str, trace: bytes, id: bytes, parent: bytes, flags: int, began: float) -> None:
        self.kind = kind
        self.name = name
        self.trace = trace
        self.id = id
        self.parent = parent
        self.flags = flags
        self.began = self.ended = began
        self.first_byte = 0.0
        self.error = ""
        self.attributes: dict[str, Value] = {}
        self.offset_ns = 0

    def end(self, exchange: Exchange | None, error: str = "") -> None:
        """It is over now: with `exchange`, whose figures it tells, or before it, by an `error`."""
        self.ended = perf_counter()
        self.offset_ns = time_ns() - int(self.ended * 1e9)
        self.error = error
        if exchange is None:
            self.attributes["error.type"] = error
            return
        status, attributes = exchange.status, self.attributes
        answered = self.kind is Kind.SERVER or exchange.response is not None or status == 101
        if status == ABORTED:
            self.error = "client_gone"
        elif not answered:  # the status is what is said in place of an answer
            self.error = "timeout" if status == 504 else "no_answer"
        else:
            attributes["http.response.status_code"] = status
            if status >= (500 if self.kind is Kind.SERVER else 400):  # whose fault it is: see the conventions
                self.error = str(status)
        if self.error:
            attributes["error.type"] = self.error
        attributes["http.request.body.size"] = exchange.bytes_in
        attributes["http.response.body.size"] = exchange.bytes_out
        self.first_byte = exchange.first_byte_at


def name_of(request: Request) -> str:
    """The name of a span. No path: it would be another name each time."""
    return request.method.decode() if request.method in METHODS else "HTTP"


def described(request: Request, scheme: str, *, by_http2: bool = False) -> dict[str, Value]:
    """What a span says of a request, which came to a node by `scheme`."""
    attributes = _of_method(request)
    attributes["url.scheme"] = scheme
    attributes["url.path"] = path_of(request)
    attributes.update(server_of(request))
    attributes["network.protocol.version"] = "2" if by_http2 else "1.1" if request.version == 11 else "1.0"
    return attributes


def described_towards(
    request: Request, base: str, server: Mapping[str, Value], version: str = "1.1"
) -> dict[str, Value]:
    """What a span says of a request that is sent by this `version` of HTTP to a server, whose URL is `base` and of
    which `server` tells.
    """
    attributes = _of_method(request)
    path = path_of(request)
    attributes["url.full"] = base + path if path.startswith("/") else base
    attributes.update(server)
    attributes["network.protocol.version"] = version
    return attributes


def host_of(request: Request) -> str:
    """Where a request wants to go, as its client has written it."""
    return request.host.decode("ascii", "backslashreplace")[:TEXT_CHARACTERS]


def server_of(request: Request) -> dict[str, Value]:
    """Host and port that the client has named."""
    host, colon, port = host_of(request).rpartition(":")
    if not colon or not port.isdecimal() or len(port) > 5:
        host, port = host_of(request), ""
    found: dict[str, Value] = {"server.address": host.strip("[]")} if host else {}
    if port:
        found["server.port"] = int(port)
    return found


def path_of(request: Request) -> str:
    """A request's path, without its query and without secrets."""
    path = request.target.partition(b"?")[0].decode("ascii", "backslashreplace")
    return without_secrets(path)[:TEXT_CHARACTERS]


def _of_method(request: Request) -> dict[str, Value]:
    if request.method in METHODS:
        return {"http.request.method": request.method.decode()}
    original = request.method.decode("ascii", "backslashreplace")[:TEXT_CHARACTERS]
    return {"http.request.method": "_OTHER", "http.request.method_original": original}
