"""An agent's session for one endpoint, as the node uses it, and the idle streams in it that wait for a request.

Opening a stream costs a round trip's worth of frames and an allocation on both sides, so a stream that has carried
a whole exchange is kept for the next one (last in, first out: the warmest first).
"""

from __future__ import annotations

import math
from typing import Final

from engine.gateway.outbound import Outbound
from engine.loop.reactor import Reactor
from engine.session.session import Session
from engine.wire.http1 import PEER_HEAD

IDLE_SECONDS: Final = 60.0
MAX_IDLE: Final = 256


class StreamOutbound(Outbound):
    """A stream that carries HTTP requests to the agent, one after the other."""

    __slots__ = ("idle_since", "registration")

    def __init__(self, registration: Registration) -> None:
        super().__init__(registration.session.open(), PEER_HEAD)
        self.registration = registration
        self.idle_since = 0.0

    def released(self) -> None:
        self.registration.put_back(self)

    def gone(self) -> None:
        self.registration.idle.pop(self, None)


class Registration:
    """One agent's session for one endpoint. Closes streams that have idled for long.

    `summaries`: the agent understands summaries in front of heads. `principal` is whom its token names (empty: nobody),
    `client` the address that it came from. `back_by`: when a session that has lost its carrier is given up, in the
    reactor's seconds.
    """

    def __init__(self, session: Session, endpoint: str, reactor: Reactor, *, summaries: bool = False) -> None:
        self.session = session
        self.summaries = summaries
        self.endpoint = endpoint
        self.principal = ""
        self.client = ""
        self.since = reactor.now
        self.back_by = math.inf
        self.idle: dict[StreamOutbound, None] = {}
        self.deadline = reactor.now + IDLE_SECONDS
        self._reactor = reactor

    def __repr__(self) -> str:
        return f"<Registration {self.endpoint} {self.session!r}>"

    def take(self, *, fresh: bool = False) -> StreamOutbound:
        """A way for one request: an idle stream, or (always if `fresh`) a new one. Raises NoStream."""
        if self.idle and not fresh:
            return self.idle.popitem()[0]
        return StreamOutbound(self)

    def put_back(self, outbound: StreamOutbound) -> None:
        session = self.session
        if session.away or not session.alive or len(self.idle) >= MAX_IDLE:
            outbound.outlet.close()
        else:
            outbound.idle_since = self._reactor.now
            self.idle[outbound] = None

    def close_idle(self, before: float) -> None:
        """Close the streams that have been idle since `before` or longer."""
        for outbound in [outbound for outbound in self.idle if outbound.idle_since <= before]:
            del self.idle[outbound]
            outbound.outlet.close()

    def expired(self) -> None:
        self.close_idle(self._reactor.now - IDLE_SECONDS)
        self.deadline = self._reactor.now + IDLE_SECONDS / 2

    def break_off(self, error: Exception) -> None:
        self.session.lose(error)
