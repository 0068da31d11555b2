"""An agent's session for one endpoint, as the node uses it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import trio

from engine.cluster.messages import Session as Told
from engine.limits import Counts
from engine.loop.reactor import Reactor
from engine.node.way import Way
from engine.session.session import NoStream, Session
from engine.session.stream import Stream
from engine.wire.agents import UNKNOWN, About

_numbers = itertools.count(1)


class Crowd:
    """The registrations of one `party`, and the streams that these may have open together, by `counts`.

    The streams are counted when as many have been opened as there was room for; until then, none that has ended is
    missed. Where several processes share the limit, each takes a part of the room, and gives back what it did not need
    when it settles.
    """

    def __init__(self, party: str, counts: Counts) -> None:
        self.members: set[Registration] = set()
        self._party = party
        self._counts = counts
        self._room = 0

    @property
    def limit(self) -> int:
        return self._counts.limit

    def may_open(self) -> bool:
        """Is there room for one more? It is taken then."""
        if not self.limit:
            return True
        if not self._room:
            self._take_room()
            if not self._room:
                self._counts.refused += 1
                return False
        self._room -= 1
        return True

    def settle(self) -> None:
        """Tell the others what is open here, and no more."""
        if self.limit:
            self._room = 0
            self._counts.put(self._party, self._count())

    def _take_room(self) -> None:
        open_ = self._count()
        room = self._counts.left(self._party, open_)
        if room <= 0:  # those that wait for a request are the first to go
            for one in self.members:
                one.close_idle(math.inf)
            closed = open_ - self._count()
            room, open_ = room + closed, open_ - closed
        if self._counts.processes > 1:
            room = min(room, max(1, room // (2 * self._counts.processes)))
        self._room = max(room, 0)
        self._counts.put(self._party, open_ + self._room)

    def _count(self) -> int:
        return sum(len(one.session.mux.streams) for one in self.members)


class Registration(Way):
    """One agent's session for one endpoint, which `endpoint` is the key of. `principal` is whom its token names (empty:
    nobody), `client` the address that it came from, `about` what its agent has said of itself. It is one of a `crowd`,
    if it is named. `number` is its own in this process.
    """

    def __init__(self, session: Session, endpoint: str, reactor: Reactor, *, summaries: bool = False) -> None:
        super().__init__(endpoint, reactor, summaries=summaries)
        self.session = session
        self.principal = ""
        self.client = ""
        self.about: About = UNKNOWN
        self.domains: Sequence[str] = ()  # that it has claimed
        self.number: int = next(_numbers)
        self.crowd: Crowd | None = None
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
        if self.crowd is not None and not self.crowd.may_open():
            raise NoStream(f"{self.crowd.limit} streams are open in the sessions of {self.principal}")
        return self.session.open()

    def told(self) -> Told:
        """As the node's status has it."""
        return Told(
            self.endpoint,
            self.principal,
            self.client,
            self.session.reactor.now - self.since,
            self.session.carrier.kind,
            self.session.suspended,
            self.about.version,
            self.about.way,
            self.weight,
            [*self.domains],
        )

    def break_off(self, error: Exception) -> None:
        self.session.lose(error)
