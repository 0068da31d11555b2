"""What the node or the agent decides about a request. A role *returns* its decision; the inbound carries it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from engine.gateway.clocks import Timeouts
from engine.gateway.exchange import Exchange
from engine.gateway.outbound import Outbound
from engine.gateway.pages import Pages
from engine.gateway.retry import Retries
from engine.wire.http1 import Request


class Route(NamedTuple):
    """Send it by `outbound`; `head` is the request's head as it goes on."""

    outbound: Outbound
    head: bytes


class Refuse(NamedTuple):
    """Answer it with an error. `retry_after`: another try has a chance in so many seconds; 0: not said. `challenge`: by
    what the client can say who it is (WWW-Authenticate).
    """

    status: int
    text: str
    retry_after: int = 0
    challenge: bytes = b""


class Wait(NamedTuple):
    """A way is being looked for: `Waiting.decide` will be called with another decision. It is refused with
    `otherwise` at `deadline` (in the reactor's seconds); `forget` is called when it is not wanted any more.
    """

    deadline: float
    otherwise: Refuse
    forget: Callable[[], None]


class TakeOver(NamedTuple):
    """Go on without HTTP: `start` makes somebody else the receiver of the inlet. It is told of an end by the role."""

    start: Callable[[], None]


class Waiting(Protocol):
    """The inbound whose request is to be decided about."""

    def decide(self, exchange: Exchange, decision: Decision) -> None:
        """Carry out a decision that has been waited for. Of no effect if the exchange is over meanwhile."""

    def take_back(self) -> None:
        """What `TakeOver` has given away is given back: the next request follows."""

    def break_off(self, error: Exception) -> None: ...


Decision = Route | Refuse | Wait | TakeOver


class Role(Protocol):
    """What the node or the agent decides about requests."""

    timeouts: Timeouts
    retries: Retries
    pages: Pages

    def next_request(self, data: memoryview, start: int) -> tuple[Request, int] | None:
        """See http1.next_request, with the role's own limit."""

    def begin(self, inbound: Waiting, exchange: Exchange, lost: Outbound | None) -> Decision:
        """Where the request goes. `lost` is the outbound that it was sent by before, if this is another attempt."""

    def has_another(self, exchange: Exchange, outbound: Outbound) -> bool:
        """Somebody else could be asked in place of `outbound`."""

    def finished(self, inbound: Waiting, exchange: Exchange) -> None:
        """The exchange is over; its figures tell how it went."""
