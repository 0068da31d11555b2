"""Pages of the operator's that browsers are shown in place of errors of ours, which are JSON."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from engine.wire.http1 import Request
from engine.wire.http1.accept import prefers_html


class Pages:
    """HTML documents by the status that they are for: `502`, or `5xx` for all that have none of their own."""

    def __init__(self, documents: Mapping[str, bytes] = MappingProxyType({})) -> None:
        self.documents = documents

    def of(self, request: Request | None, status: int) -> bytes:
        """What `request` is answered with; empty if that is no page."""
        if request is None or not self.documents or not prefers_html(request.fields):
            return b""
        return self.documents.get(f"{status}") or self.documents.get(f"{status // 100}xx", b"")
