"""Sessions that outlive their carriers, by the name that only their agent (or forward) knows."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Final, NamedTuple

from engine.carriers.carrier import Carrier
from engine.carriers.resumable import Resumable, State
from engine.errors import HTTPError
from engine.limits import Crowd
from engine.wire.resumption import New, Opened, Resume, Resumed

ID_BYTES: Final = 16
NO_SUCH_SESSION: Final = "no such session"  # 410
MAX_SUSPENDED: Final = 10_000
MAX_SUSPENDED_OF_ONE: Final = 1_000  # principal, or address


class Purpose(NamedTuple):
    """What a session was opened for, and by whom: who goes on with it has to come for the same.

    The address is not part of it: who comes back may come by another network.
    """

    path: str  # upstream or tcp
    endpoint: str
    tenant: bytes
    party: str  # whom the token names (see admission.party_of)


class Kept:
    """The resumable sessions of a port. `seconds` is the longest for which one is kept; 0: none is. `tag` is the node's
    where there are several.

    Sessions without a carrier are bounded (`crowd`), in all, for each principal, and for each address. One that loses
    its carrier when there are too many is over, as all would be without resumption.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = int(seconds)
        self.tag = b""
        self.crowd = Crowd(MAX_SUSPENDED, MAX_SUSPENDED_OF_ONE)
        self._sessions: dict[bytes, tuple[Resumable, Purpose]] = {}
        self._suspended: dict[Resumable, tuple[str, str]] = {}  # by address and principal

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, carrier: Carrier, wish: New | None, purpose: Purpose) -> tuple[Carrier, bytes]:
        """What a new session rides on, and the answer to its wish: `carrier` itself and nothing, if none is kept."""
        seconds = min(self.seconds, wish.seconds) if wish is not None else 0
        if not seconds:
            return carrier, b""
        mark = self.tag + b"." if self.tag else b""
        opened = Opened(mark + secrets.token_hex(ID_BYTES).encode(), seconds)
        resumable = Resumable(carrier, opened.id, seconds)
        resumable.may_wait = partial(self._may_wait, resumable, purpose.party)
        self._sessions[opened.id] = resumable, purpose
        return resumable, opened.encode()

    def claim(self, wish: Resume, purpose: Purpose) -> tuple[Resumable, Resumed]:
        """The session that `wish` means; what its other end is told before it is attached.

        Raises HTTPError: 410 if it is not here (any more), or is somebody else's, 409 if the claim was made before, or
        says of the session what cannot be.
        """
        found = self._sessions.get(wish.id)
        if found is None or found[1] != purpose or found[0].state is State.CLOSED:
            raise HTTPError(410, NO_SUCH_SESSION)
        resumable = found[0]
        if wish.generation <= resumable.generation:
            raise HTTPError(409, "this carrier of the session is not its next one")
        if not resumable.retained.confirmed <= wish.received <= resumable.retained.sent:
            raise HTTPError(409, "the session cannot go on from there")
        resumable.generation = wish.generation
        self._waits_no_more(resumable)
        return resumable, Resumed(resumable.received_bytes)

    def forget(self, carrier: Carrier) -> None:
        """The session on this carrier is over."""
        if isinstance(carrier, Resumable):
            self._sessions.pop(carrier.id, None)
            self._waits_no_more(carrier)

    def _may_wait(self, resumable: Resumable, party: str) -> bool:
        """It has lost its carrier: is there room for it until the next comes?"""
        address = resumable.peer[0]
        if self.crowd.is_full(address, party):
            return False
        self._suspended[resumable] = address, party
        self.crowd.enter(address, party)
        return True

    def _waits_no_more(self, resumable: Resumable) -> None:
        if (whose := self._suspended.pop(resumable, None)) is not None:
            self.crowd.leave(*whose)
