"""An agent's session for one endpoint, as the node uses it."""

from __future__ import annotations

import trio

from engine.loop.reactor import Reactor
from engine.node.way import Way
from engine.session.session import Session
from engine.session.stream import Stream


class Registration(Way):
    """One agent's session for one endpoint, which `endpoint` is the key of. `principal` is whom its token names (empty:
    nobody), `client` the address that it came from.
    """

    def __init__(self, session: Session, endpoint: str, reactor: Reactor, *, summaries: bool = False) -> None:
        super().__init__(endpoint, reactor, summaries=summaries)
        self.session = session
        self.principal = ""
        self.client = ""
        self.since = reactor.now
        self.moved = trio.Event()  # its agent has gone elsewhere, or the session has ended
        self.shed = False  # its agent was asked to dial again

    def __repr__(self) -> str:
        return f"<Registration {self.endpoint} {self.session!r}>"

    @property
    def suspended(self) -> bool:
        return self.session.suspended

    @property
    def usable(self) -> bool:
        return self.session.alive and not self.session.away

    def open(self) -> Stream:
        return self.session.open()

    def break_off(self, error: Exception) -> None:
        self.session.lose(error)
