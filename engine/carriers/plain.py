"""A connection as a carrier, with nothing around the bytes: between nodes, where no proxy wants to understand them."""

from __future__ import annotations

from typing import Final

from engine.carriers.carrier import BACKLOG, Kind
from engine.loop.connection import Address, Connection
from engine.loop.duplex import Receiver
from engine.loop.memory import Account

SAID_END: Final = "end of the connection"


class PlainCarrier:
    """A carrier that is `connection`. It has no words for a farewell: its end is a FIN."""

    __slots__ = ("abort", "close", "connection", "end", "farewell", "pause", "put", "read_at_most", "resume", "run")

    kind = Kind.PLAIN

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.farewell = SAID_END
        self.put = connection.put
        self.end = connection.end
        self.close = connection.close
        self.abort = connection.abort
        self.read_at_most = connection.read_at_most
        self.pause = connection.pause
        self.resume = connection.resume
        self.run = connection.run

    def __repr__(self) -> str:
        return f"<PlainCarrier on {self.connection!r}>"

    @property
    def receiver(self) -> Receiver:
        return self.connection.receiver

    @receiver.setter
    def receiver(self, receiver: Receiver) -> None:
        self.connection.receiver = receiver

    @property
    def account(self) -> Account:
        return self.connection.account

    @property
    def backlog(self) -> int:
        return self.connection.backlog

    @property
    def full(self) -> bool:
        return self.connection.backlog > BACKLOG

    @property
    def room(self) -> int:
        return self.connection.room

    @property
    def peer(self) -> Address:
        return self.connection.peer

    def bid_farewell(self, code: int, reason: str) -> None:
        self.connection.close()

    def fail(self, error: Exception) -> None:
        receiver = self.connection.receiver
        self.connection.abort()
        receiver.lost(error)
