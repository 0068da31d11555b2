"""Which records somebody wants to see."""

from __future__ import annotations

from typing import NamedTuple

from engine.inspector import show
from engine.inspector.record import Record


class Filter(NamedTuple):
    """Empty texts ask for nothing. `status` is a class ("5xx"), a status ("404"), "failed" or "open"; `kind` is
    "websocket" or "replay"; `text` stands in the heads, in the bodies as far as they are kept, or in a message.
    """

    text: str = ""
    method: str = ""
    status: str = ""
    endpoint: str = ""
    kind: str = ""

    def matches(self, record: Record) -> bool:
        if self.method and record.request.method.decode("latin-1") != self.method:
            return False
        if self.endpoint and record.source.endpoint != self.endpoint:
            return False
        if self.kind and not (record.is_websocket if self.kind == "websocket" else record.replay_of):
            return False
        return self._has_status(record) and (not self.text or self._has_text(record))

    def _has_status(self, record: Record) -> bool:
        wanted = self.status
        if not wanted:
            return True
        if wanted == "open":
            return not record.done
        if wanted == "failed":
            return bool(record.failures) or record.status >= 400
        status = str(record.status)
        return status == wanted or (wanted[1:] == "xx" and status[0] == wanted[0] and record.status > 0)

    def _has_text(self, record: Record) -> bool:
        wanted = self.text.encode().lower()
        request, response = record.request, record.response
        if wanted in request.head.lower() or (response is not None and wanted in response.head.lower()):
            return True
        if record.messages is not None:
            return any(wanted in message.data.lower() for message in record.messages.latest)
        bodies = [show.content(record.body_in, request.body, request.fields)]
        if response is not None:
            bodies.append(show.content(record.body_out, response.body, response.fields))
        return any(wanted in found.data.lower() for found in bodies)
