"""How requests go on to the service, and its answers to clients, where they do not go on as they came: what is
rewritten, and for whom they are.

What is set, added and removed never is a field that frames a message or ends at a hop (see config.rewrite), so a head
that was read strictly is still one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from engine.agent.service import Service
from engine.config import RewriteConfig
from engine.gateway.exchange import Amend
from engine.gateway.head import request_head
from engine.wire import clients
from engine.wire.clients import Client
from engine.wire.http1 import Request, Response
from engine.wire.http1.message import with_lines

FORWARDED_PREFIX: Final = b"X-Forwarded-Prefix: "
_absolute: Final = re.compile(rb"((?:(https?):)?//([^/?#]*))([^\x00]*)", re.IGNORECASE).fullmatch


class Rules(NamedTuple):
    """The fields, by names in lower case, that are taken out, and the lines that come behind the others."""

    dropped: frozenset[bytes]
    lines: Sequence[bytes]

    def follow(self, lines: list[bytes]) -> list[bytes]:
        if self.dropped:
            lines = [line for line in lines if line.partition(b":")[0].lower() not in self.dropped]
        return [*lines, *self.lines]


class Rewriting(NamedTuple):
    """The `host` that the service is asked for, and the `prefix` of paths that it does not see: empty for none."""

    host: bytes
    prefix: bytes
    request: Rules
    answer: Rules

    @classmethod
    def of(cls, config: RewriteConfig) -> Rewriting | None:
        """None if nothing is rewritten."""
        if config == RewriteConfig():
            return None
        request, answer = config.request_headers, config.response_headers
        return cls(
            config.host.encode(),
            config.strip_prefix.encode(),
            Rules(request.dropped, request.lines),
            Rules(answer.dropped, answer.lines),
        )


class Sent(NamedTuple):
    """A request as it goes on, and whose it is, if its head names a client."""

    head: bytes
    client: Client | None


class Onward:
    """What becomes of the heads of a listener; those that come again are looked up. `told`: requests name clients."""

    def __init__(self, service: Service, rewriting: Rewriting | None, *, told: bool) -> None:
        self.amend: Amend | None = None if rewriting is None else self._amended
        self._base_path = service.path.rstrip("/").encode()
        self._scheme = b"http" if service.tls is None else b"https"
        self._rewriting = rewriting
        self._told = told
        self._known = lru_cache(maxsize=512)(self._send)
        self._known_answer = lru_cache(maxsize=512)(self._amend)

    # -- requests

    def sent(self, request: Request) -> Sent:
        return (self._known if request.repeats else self._send)(request)

    def _send(self, request: Request) -> Sent:
        client, lines = clients.take(request.lines) if self._told else (None, request.lines)
        rewriting = self._rewriting
        if rewriting is None:
            return Sent(request_head(request, lines, self._base_path), client)
        target = request.target
        first, *fields = lines
        if rewriting.host:
            fields = [line for line in fields if line[:5].lower() != b"host:"]
            fields.insert(0, b"Host: " + rewriting.host)
        if (stripped := self._stripped(target)) is not None:
            target = stripped
            fields.append(FORWARDED_PREFIX + rewriting.prefix)
        if target[:1] == b"/":
            first = b"%b %b%b HTTP/1.1" % (request.method, self._base_path, target)
        return Sent(request_head(request, [first, *rewriting.request.follow(fields)]), client)

    def _stripped(self, target: bytes) -> bytes | None:
        """`target` without the prefix; None if it does not have it."""
        prefix = self._rewriting.prefix if self._rewriting is not None else b""
        return _without(prefix, target)

    # -- answers

    def _amended(self, request: Request, response: Response) -> Response:
        known = request.repeats and response.repeats
        return (self._known_answer if known else self._amend)(request, response)

    def _amend(self, request: Request, response: Response) -> Response:
        rewriting = self._rewriting
        assert rewriting is not None
        first, *fields = response.lines
        for index, line in enumerate(fields):
            if line[:9].lower() == b"location:":
                fields[index] = b"Location: " + self._location(line[9:].strip(), request)
        lines = [first, *rewriting.answer.follow(fields)]
        amended = with_lines(response, lines)
        amended.repeats = request.repeats and response.repeats
        return amended

    def _location(self, said: bytes, request: Request) -> bytes:
        """Where the client finds what the service means: a URL of its own, as far as it names the service."""
        rewriting = self._rewriting
        assert rewriting is not None
        origin, path = b"", said
        if (parts := _absolute(said)) is not None:
            origin, scheme, host, path = parts.groups()
            if rewriting.host and host.lower() == rewriting.host.lower() and scheme in (None, self._scheme):
                origin = b""  # which the client does not know; it knows its own
            elif host.lower() != request.host.lower():
                return said
            path = b"/" + path.lstrip(b"/") if path[:1] in (b"", b"/") else b"/" + path
        elif path[:1] != b"/":  # from where the client is
            return said
        path = _without(self._base_path, path) or path
        if self._stripped(request.target) is not None and _without(rewriting.prefix, path) is None:
            path = rewriting.prefix + path
        return origin + path


def _without(prefix: bytes, path: bytes) -> bytes | None:
    """`path` without `prefix`, which is whole segments of it; None if it does not begin with that, or that is empty."""
    size = len(prefix)
    if not size or not path.startswith(prefix) or path[size : size + 1] not in (b"", b"/", b"?", b"#"):
        return None
    return b"/" + path[size:].lstrip(b"/")  # two slashes would begin with a host
