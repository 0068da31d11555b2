"""A request sent to its service again. It goes the way of those from a node, so it is recorded, counted and logged as
one, and the same clocks hold; only its client is nobody, who takes the answer and throws it away.
"""

from __future__ import annotations

from typing import Final

from engine.errors import HTTPError
from engine.gateway.exchange import Exchange
from engine.gateway.inbound import Inbound
from engine.gateway.outbound import Outbound
from engine.gateway.role import Decision, Waiting
from engine.inspector.record import Record
from engine.inspector.recorder import Recorder
from engine.loop.duplex import MOST_READ, NOBODY, Bytes, Receiver
from engine.loop.memory import Account
from engine.loop.reactor import Reactor
from engine.wire import http1

MOST_REPLAYS: Final = 8  # at a time
REPLAY_SECONDS: Final = 60.0  # an answer may have no end


class CannotReplay(Exception):
    """The text says why, to the person who wants to."""


class Replays:
    """Those under way."""

    def __init__(self, recorder: Recorder, reactor: Reactor) -> None:
        self.under_way: set[_Client] = set()
        self._recorder = recorder
        self._reactor = reactor

    def send(self, record: Record, head: bytes, body: bytes) -> Record:
        """Send a request as a replay of `record`. Raises CannotReplay.

        Returns at once, with the record of the new exchange, which goes on by itself.
        """
        if len(self.under_way) >= MOST_REPLAYS:
            raise CannotReplay(f"{MOST_REPLAYS} replays are under way; wait for one to end")
        try:
            request = http1.parse_request(head, http1.PEER_HEAD)
        except HTTPError as error:
            raise CannotReplay(f"this is no request: {error}") from None
        if request.upgrade:
            protocol = request.upgrade.decode("latin-1")
            raise CannotReplay(f"a request that switches to another protocol ({protocol}) cannot be replayed")
        role = _Replaying(record, self._recorder)
        client = _Client(self, self._reactor, head + body)
        inbound = Inbound(client, role, self._reactor)
        inbound.last = True  # no other follows
        self.under_way.add(client)
        self._reactor.call("replay", inbound, client.turn)
        if role.record is None:
            raise CannotReplay("the agent has refused this request; its log says why")
        return role.record


class _Replaying:
    """The role of the listener, but for what is recorded."""

    def __init__(self, record: Record, recorder: Recorder) -> None:
        self.record: Record | None = None
        self._recorder = recorder
        self._original = record
        self._role = record.source.role
        self.timeouts, self.retries, self.pages = self._role.timeouts, self._role.retries, self._role.pages
        self.next_request = self._role.next_request
        self.has_another, self.finished = self._role.has_another, self._role.finished

    def begin(self, inbound: Waiting, exchange: Exchange, lost: Outbound | None) -> Decision:
        if self.record is None:
            self.record = self._recorder.begin(self._original.source, exchange, self._original.number)
            exchange.watch = self.record
        return self._role.begin(inbound, exchange, lost)


class _Client:
    """A duplex whose other end says one request, and hears whatever it is told."""

    backlog = 0
    room = MOST_READ

    def __init__(self, replays: Replays, reactor: Reactor, data: bytes) -> None:
        self.receiver: Receiver = NOBODY
        self.account = Account(reactor.memory, self)
        self.queued = False  # the reactor's
        self.deadline = reactor.now + REPLAY_SECONDS
        self._replays = replays
        self._reactor = reactor
        self._left = memoryview(data)
        self._paused = False
        reactor.clock(self)

    def __repr__(self) -> str:
        return "<replay>"

    def ready(self, events: int) -> None:
        """There is no socket."""

    def turn(self) -> None:
        while self._left and not self._paused and self in self._replays.under_way:
            taken = self.receiver.received(self._left)
            self._left = self._left[taken:]
            if self._left and not self._paused:
                self._reactor.again(self)
                return

    # -- the duplex

    def put(self, *parts: Bytes) -> bool:
        return True

    def end(self) -> None:
        self._over()

    def close(self) -> None:
        self._over()

    def abort(self) -> None:
        self._over()

    def read_at_most(self, size: int) -> None: ...

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._left:
            self._reactor.again(self)

    # -- its end

    def _over(self) -> None:
        self._replays.under_way.discard(self)
        self._reactor.unclock(self)
        self.account.end()
        self.receiver = NOBODY

    def expired(self) -> None:
        self._lose(TimeoutError(f"a replay ends after {REPLAY_SECONDS:g} s"))

    def overdrawn(self) -> None:
        self._lose(MemoryError("memory was needed for others"))

    def break_off(self, error: Exception) -> None:
        self._lose(error)

    def _lose(self, error: Exception) -> None:
        receiver = self.receiver
        self._over()
        receiver.lost(error)
