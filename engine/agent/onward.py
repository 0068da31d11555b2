"""How requests go on to the service where they do not go on as they came: for whom they are."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from engine.gateway.head import request_head
from engine.wire import clients
from engine.wire.clients import Client
from engine.wire.http1 import Request


class Sent(NamedTuple):
    """A request as it goes on, and whose it is, if its head names a client."""

    head: bytes
    client: Client | None


class Onward:
    """What becomes of the heads of a listener. Those that come again are looked up."""

    def __init__(self, base_path: bytes) -> None:
        self._base_path = base_path
        self._known = lru_cache(maxsize=512)(self._send)

    def sent(self, request: Request) -> Sent:
        return (self._known if request.repeats else self._send)(request)

    def _send(self, request: Request) -> Sent:
        client, lines = clients.take(request.lines)
        return Sent(request_head(request, lines, self._base_path), client)
