"""How requests and TCP connections for an endpoint go on: by an agent's session, or by a peer that has one.

Opening a stream costs a round trip's worth of frames and an allocation on both sides, so a stream that has carried
a whole exchange is kept for the next one (last in, first out: the warmest first).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from engine.auth.visitors import Guard, Verdict
from engine.gateway.exchange import Exchange
from engine.gateway.head import is_last_for_go
from engine.gateway.outbound import Outbound
from engine.loop.duplex import Duplex
from engine.loop.reactor import Reactor
from engine.session.session import NoStream
from engine.session.stream import Stream
from engine.tunnel.relay import Relay
from engine.wire import proxy_protocol
from engine.wire.http1 import PEER_HEAD

IDLE_SECONDS: Final = 60.0
MAX_IDLE: Final = 256
ELSEWHERE: Final = Guard()
"""The guard of a way to a peer whose agent admits certain visitors only: that is decided there."""


NOT_LET_IN: Final = "the agent does not let this client in"


class NotLetIn(NoStream):
    """The agent's guard says so."""


class StreamOutbound(Outbound):
    """A stream that carries HTTP requests to the agent, one after the other."""

    __slots__ = ("idle_since", "way")

    def __init__(self, way: Way) -> None:
        super().__init__(way.open(), PEER_HEAD)
        self.way = way
        self.idle_since = 0.0

    def released(self, exchange: Exchange) -> None:
        request = exchange.request
        if request is not None and not self.way.summaries and is_last_for_go(request):
            self.outlet.close()
        else:
            self.way.put_back(self)

    def gone(self) -> None:
        self.way.idle.pop(self, None)


class Way:
    """Opens streams for `endpoint`, and keeps those that wait for a request. The subclass says in what.

    `summaries`: the agent understands summaries in front of heads. `guard`: whom the agent lets in, if not anybody.
    `tells_clients`: the agent is told who they are (see wire.clients).
    """

    def __init__(self, endpoint: str, reactor: Reactor, *, summaries: bool = False) -> None:
        self.endpoint = endpoint
        self.summaries = summaries
        self.guard: Guard | None = None
        self.tells_clients = False
        self.agent = b""  # whose session it is, by the name that it has given itself; empty if that is not known
        self.weight = 1  # of that agent
        self.back_by = math.inf  # when one that is suspended is given up, in the reactor's seconds
        self.idle: dict[StreamOutbound, None] = {}
        self.deadline = reactor.now + IDLE_SECONDS
        self._reactor = reactor

    @property
    def suspended(self) -> bool:
        """What it rides on is cut off, and may not come back."""
        return False

    @property
    def usable(self) -> bool:
        """A stream may be opened, or used again."""
        raise NotImplementedError

    def open(self) -> Stream:
        """A new stream to the agent. Raises NoStream."""
        raise NotImplementedError

    def open_for(self, client: str, port: int = 0) -> Stream:
        """`open_bytes`, for a client that shows no password. Raises NoStream."""
        if self.guard is not None and self.guard.judge(client, ()) is not Verdict.WELCOME:
            raise NotLetIn(NOT_LET_IN)
        return self.open_bytes(client, port)

    def open_bytes(self, client: str, port: int) -> Stream:
        """`open`, for bytes of a client that comes from there; 0: its port is not known. Raises NoStream."""
        stream = self.open()
        if self.tells_clients:
            stream.put(proxy_protocol.encode(2, (client, port) if client else None, ("0.0.0.0", 0)))
        return stream

    def break_off(self, error: Exception) -> None:
        """What it rides on has a defect."""
        raise NotImplementedError

    def take(self, *, fresh: bool = False) -> StreamOutbound:
        """For one request: an idle stream, or (always if `fresh`) a new one. Raises NoStream."""
        if self.idle and not fresh:
            return self.idle.popitem()[0]
        return StreamOutbound(self)

    def put_back(self, outbound: StreamOutbound) -> None:
        if not self.usable or len(self.idle) >= MAX_IDLE:
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


def relay_to(
    way: Way | None,
    stream: Duplex,
    client: str,
    not_let_in: Callable[[], None],
    on_done: Callable[[Exception | None], None] | None = None,
) -> Relay | None:
    """Join `stream`, of a client that comes from that address, to a new one of `way`. It is reset, and the answer is
    None, if there is none or no way any more, or if the agent does `not_let_in` the client.
    """
    try:
        upstream = way.open_for(client) if way is not None else None
    except NotLetIn:
        upstream = None
        not_let_in()
    except NoStream:
        upstream = None
    if upstream is None:
        stream.abort()
        return None
    return Relay(stream, upstream, on_done)
