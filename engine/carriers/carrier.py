"""What a session can ride on: an ordered two-way channel of bytes to the other end, and nothing else.

A carrier is a Duplex that may be made of more than one connection, and that says good-bye: `bid_farewell` tells the
other end why. Its `receiver` hears `ended` when the other end has said good-bye (then `farewell` is what it said), and
`lost` when nothing comes or goes any more.

Each kind has a module: websocket, stream, poll, plain. Another kind (HTTP/2's extended CONNECT, RFC 8441) would be one
more module and one more name in `Kind`; nothing above the carriers knows what they are made of.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Protocol

from engine.loop.connection import Address
from engine.loop.duplex import Duplex

BACKLOG: Final = 256 * 1024  # queued on a socket: more than this, and sources are held back


class Kind(StrEnum):
    """The kinds there are."""

    WEBSOCKET = "websocket"
    STREAM = "stream"
    POLL = "poll"
    PLAIN = "plain"  # between nodes


LADDER: Final = (Kind.WEBSOCKET, Kind.STREAM, Kind.POLL)
"""Those that an agent or a forward may use, the best first: by what they cost, and by what they need of whoever is on
the way."""


class Carrier(Duplex, Protocol):
    """See above. Whoever makes it sets `receiver` and runs it; nothing is received before that."""

    @property
    def kind(self) -> Kind: ...

    @property
    def peer(self) -> Address:
        """Who is at the other end, as far as the transport knows."""

    @property
    def farewell(self) -> str:
        """What the other end said when it ended."""

    @property
    def full(self) -> bool:
        """So much waits to leave that whoever has more should hold it back until `drained`."""

    def bid_farewell(self, code: int, reason: str) -> None:
        """`close`, with words for the other end: `code` is a close code of WebSocket (RFC 6455, 7.4.1)."""

    def fail(self, error: Exception) -> None:
        """It does not work, as its user has found out (no answer to a ping): give it up as if it had been lost."""

    async def run(self) -> None:
        """Carry until it is closed, lost, or cancelled. What it is made of is closed when this returns."""
