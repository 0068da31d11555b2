"""A registered agent connection, as the node uses it: a link, and the idle streams that wait for a request.

Opening a stream costs a round trip's worth of frames and an allocation on both sides, so a stream that has carried
a whole exchange is kept for the next one (last in, first out: the warmest first).
"""

from __future__ import annotations

from typing import Final

from engine.transport.exchange import Back
from engine.transport.link import Link
from engine.transport.pulse import Pulse

IDLE_SECONDS: Final = 60.0
MAX_IDLE: Final = 256


class StreamBack(Back):
    """A stream that carries HTTP requests to the agent, one after the other."""

    __slots__ = ("_session", "idle_since")

    def __init__(self, session: Session) -> None:
        super().__init__(session.link.open())
        self._session = session
        self.idle_since = 0.0

    def released(self) -> None:
        self._session.put_back(self)

    def gone(self) -> None:
        self._session.idle.pop(self, None)


class Session:
    """One agent's connection for one endpoint. Watched: closes streams that have idled for long."""

    def __init__(self, link: Link, endpoint: str, pulse: Pulse) -> None:
        self.link = link
        self.endpoint = endpoint
        self.idle: dict[StreamBack, None] = {}
        self._pulse = pulse
        self.deadline = pulse.now + IDLE_SECONDS

    def __repr__(self) -> str:
        return f"<Session {self.endpoint} {self.link.connection.peer[0]}>"

    def take(self, *, fresh: bool = False) -> StreamBack:
        """A back for one request: an idle one, or (always if `fresh`) a new one."""
        if self.idle and not fresh:
            return self.idle.popitem()[0]
        return StreamBack(self)

    def put_back(self, back: StreamBack) -> None:
        if self.link.away or not self.link.alive or len(self.idle) >= MAX_IDLE:
            back.outlet.close()
        else:
            back.idle_since = self._pulse.now
            self.idle[back] = None

    def close_idle(self, before: float) -> None:
        """Close the streams that have been idle since `before` or longer."""
        for back in [back for back in self.idle if back.idle_since <= before]:
            del self.idle[back]
            back.outlet.close()

    def expired(self) -> None:
        self.close_idle(self._pulse.now - IDLE_SECONDS)
        self.deadline = self._pulse.now + IDLE_SECONDS / 2
