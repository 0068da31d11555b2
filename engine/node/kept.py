"""Sessions that outlive their carriers, by the name that only their agent (or forward) knows."""

from __future__ import annotations

import secrets
from typing import Final, NamedTuple

from engine.carriers.carrier import Carrier
from engine.carriers.resumable import Resumable, State
from engine.errors import HTTPError
from engine.wire.resumption import New, Opened, Resume, Resumed

ID_BYTES: Final = 16
NO_SUCH_SESSION: Final = "no such session"  # 410


class Purpose(NamedTuple):
    """What a session was opened for, and by whom: who goes on with it has to come for the same."""

    path: str  # upstream or tcp
    endpoint: str
    tenant: bytes


class Kept:
    """The resumable sessions of a port. `seconds` is the longest for which one is kept; 0: none is. `tag` is the node's
    where there are several.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = int(seconds)
        self.tag = b""
        self._sessions: dict[bytes, tuple[Resumable, Purpose]] = {}

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
        return resumable, Resumed(resumable.received_bytes)

    def forget(self, carrier: Carrier) -> None:
        """The session on this carrier is over."""
        if isinstance(carrier, Resumable):
            self._sessions.pop(carrier.id, None)
