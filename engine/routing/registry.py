"""Which sessions serve which endpoint.

A `Registry` is entered by a context manager and left exactly once, however the session ends: Piko takes a
session out at its go-away and again when its socket closes, and the second time takes out somebody else's
entry.

    with registry.register("my-endpoint", session):
        ...                               # picked from here on; with weight 0 as a standby: where no other can be
        registry.set_aside(session)       # it has lost its carrier: picked only where there is no other
        registry.bring_back(session)      # it has another
        registry.withdraw(session)        # a go-away: not picked any more, though it still serves what it has
        ...

Nothing here waits. Who wants to hold a request until an agent comes leaves a callback with `wait_for`, and
keeps the clock; who wants to tell other nodes about changes leaves one with `observe`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Generic, Protocol, TypeVar

from engine.routing.balance import RoundRobin

Session = TypeVar("Session")

Forget = Callable[[], None]
"""Takes a callback back; harmless when it is too late."""


class Registry(Protocol[Session]):
    """What a node knows about sessions. A session is any object, told apart by identity."""

    def register(self, endpoint: str, session: Session, weight: int = 1) -> AbstractContextManager[None]:
        """Offer `session` for `endpoint` within the context, for a share by its weight; 0: as a standby. Raises
        ValueError if it is there already.
        """

    def withdraw(self, session: Session) -> None:
        """Do not pick `session` any more; of no effect the second time."""

    def set_aside(self, session: Session) -> None:
        """Pick `session` only where there is no other, until it is brought back."""

    def bring_back(self, session: Session) -> None:
        """Undo `set_aside`."""

    def pick(self, endpoint: str, *, avoid: Session | None = None) -> Session | None:
        """A session of `endpoint`, in turn, a standby or `avoid` only if there is no other; None if there is none."""

    def pick_best(
        self, endpoint: str, rank: Callable[[Session], float], *, avoid: Session | None = None
    ) -> Session | None:
        """The session of this process with the greatest rank above 0, standbys included; never `avoid`, or one that is
        set aside; None if there is no other.
        """

    def has_other(self, endpoint: str, session: Session | None) -> bool:
        """Whether another could be picked in place of `session`, and has its carrier. It costs nobody a turn."""

    def endpoints(self) -> dict[str, int]:
        """Endpoints that somebody serves, and by how many sessions."""

    def expects(self, endpoint: str) -> bool:
        """None could be picked, but one is on its way: whoever waits for it will be called."""

    def wait_for(self, endpoint: str, callback: Callable[[], None]) -> Forget:
        """Call `callback` once, when the next session for `endpoint` has come, is brought back, or is not expected any
        more.
        """

    def observe(self, callback: Callable[[str, int], None]) -> Forget:
        """Call `callback(endpoint, sessions left)` after each change: minus their number if all are standbys or set
        aside.
        """


def _raise(error: Exception) -> None:
    raise error


class LocalRegistry(Generic[Session]):
    """The sessions of this process, in memory. `changes` counts, to see that something moved.

    Callbacks are told of all that they asked for, whatever another of them raises; `failed` is given what was raised.
    """

    def __init__(self, failed: Callable[[Exception], None] = _raise) -> None:
        self.changes = 0
        self._failed = failed
        self._rounds: dict[str, RoundRobin[Session]] = {}
        self._standbys: dict[str, RoundRobin[Session]] = {}
        self._aside: dict[str, RoundRobin[Session]] = {}
        # By id(): sessions are opaque, and alive while they are here. Endpoint and weight.
        self._registered: dict[int, tuple[str, int]] = {}
        self._waiting: dict[str, dict[object, Callable[[], None]]] = {}
        self._observers: dict[object, Callable[[str, int], None]] = {}

    @contextmanager
    def register(self, endpoint: str, session: Session, weight: int = 1) -> Iterator[None]:
        if id(session) in self._registered:
            raise ValueError(f"{session!r} is registered already")
        self._registered[id(session)] = endpoint, weight
        self._offer(endpoint, session, weight)
        try:
            self._changed(endpoint)
            self.call_waiting(endpoint)
            yield
        finally:
            self.withdraw(session)

    def _offer(self, endpoint: str, session: Session, weight: int) -> None:
        rounds = self._rounds if weight else self._standbys
        rounds.setdefault(endpoint, RoundRobin()).add(session, weight or 1)

    def withdraw(self, session: Session) -> None:
        endpoint, _ = self._registered.pop(id(session), ("", 0))
        if any(_remove(rounds, endpoint, session) for rounds in (self._rounds, self._standbys, self._aside)):
            self._changed(endpoint)

    def set_aside(self, session: Session) -> None:
        endpoint, _ = self._registered.get(id(session), ("", 0))
        if any(_remove(rounds, endpoint, session) for rounds in (self._rounds, self._standbys)):
            self._aside.setdefault(endpoint, RoundRobin()).add(session)
            self._changed(endpoint)

    def bring_back(self, session: Session) -> None:
        endpoint, weight = self._registered.get(id(session), ("", 0))
        if _remove(self._aside, endpoint, session):
            self._offer(endpoint, session, weight)
            self._changed(endpoint)
            self.call_waiting(endpoint)

    def pick(self, endpoint: str, *, avoid: Session | None = None) -> Session | None:
        found: Session | None = None
        for rounds in (self._rounds, self._standbys):
            sessions = rounds.get(endpoint)
            if sessions is not None:
                found = sessions.next(avoid)
                if found is not avoid:
                    return found
        sessions = self._aside.get(endpoint)
        return sessions.next(avoid) if found is None and sessions is not None else found

    def pick_best(
        self, endpoint: str, rank: Callable[[Session], float], *, avoid: Session | None = None
    ) -> Session | None:
        best, greatest = None, 0.0
        for one in (*self._rounds.get(endpoint, ()), *self._standbys.get(endpoint, ())):
            if one is not avoid and (ranked := rank(one)) > greatest:
                best, greatest = one, ranked
        return best

    def has_other(self, endpoint: str, session: Session | None) -> bool:
        here = (*self._rounds.get(endpoint, ()), *self._standbys.get(endpoint, ()))
        return any(one is not session for one in here)

    def endpoints(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for rounds in (self._rounds, self._standbys, self._aside):
            for endpoint, sessions in rounds.items():
                counts[endpoint] = counts.get(endpoint, 0) + len(sessions)
        return counts

    def expects(self, endpoint: str) -> bool:
        return False

    def wait_for(self, endpoint: str, callback: Callable[[], None]) -> Forget:
        ticket = object()
        self._waiting.setdefault(endpoint, {})[ticket] = callback

        def forget() -> None:
            waiting = self._waiting.get(endpoint, {})
            waiting.pop(ticket, None)
            if not waiting:
                self._waiting.pop(endpoint, None)  # strangers choose the names, so none is kept

        return forget

    def call_waiting(self, endpoint: str) -> None:
        """Those who wait for a session of `endpoint` may ask again."""
        self._tell(callback for callback in self._waiting.pop(endpoint, {}).values())

    def observe(self, callback: Callable[[str, int], None]) -> Forget:
        ticket = object()
        self._observers[ticket] = callback

        def forget() -> None:
            self._observers.pop(ticket, None)

        return forget

    def _changed(self, endpoint: str) -> None:
        self.changes += 1
        second_choice = len(self._standbys.get(endpoint, ())) + len(self._aside.get(endpoint, ()))
        count = len(self._rounds.get(endpoint, ())) or -second_choice
        self._tell(partial(callback, endpoint, count) for callback in tuple(self._observers.values()))

    def _tell(self, callbacks: Iterable[Callable[[], None]]) -> None:
        for callback in callbacks:
            try:
                callback()
            except Exception as error:
                self._failed(error)


class Elsewhere(Protocol[Session]):
    """What peers serve; asked where this process has no session of its own, or none of its first choice. Then only
    those peers are of interest that have one (`first_choice`).
    """

    def pick(self, endpoint: str, *, avoid: Session | None = None, first_choice: bool = False) -> Session | None: ...

    def expects(self, endpoint: str) -> bool: ...


class SharedRegistry(LocalRegistry[Session]):
    """The sessions of this process; those of `peers` where it has none, or none but a standby, a suspended one or one
    to avoid.
    """

    def __init__(self, failed: Callable[[Exception], None] = _raise) -> None:
        super().__init__(failed)
        self.peers: Elsewhere[Session] | None = None

    def pick(self, endpoint: str, *, avoid: Session | None = None) -> Session | None:
        sessions = self._rounds.get(endpoint)
        if sessions is not None and (found := sessions.next(avoid)) is not avoid:
            return found
        if self.peers is not None:
            found = self.peers.pick(endpoint, avoid=avoid, first_choice=endpoint in self._standbys)
            if found is not None:
                return found
        return self.pick_local(endpoint, avoid=avoid)

    def has_other(self, endpoint: str, session: Session | None) -> bool:
        if super().has_other(endpoint, session):
            return True
        other = self.peers.pick(endpoint, avoid=session, first_choice=True) if self.peers is not None else None
        return other is not None and other is not session

    def pick_local(self, endpoint: str, *, avoid: Session | None = None) -> Session | None:
        """One of this process, whatever the peers have."""
        return super().pick(endpoint, avoid=avoid)

    def expects(self, endpoint: str) -> bool:
        return self.peers is not None and self.peers.expects(endpoint)


def _remove(rounds: dict[str, RoundRobin[Session]], endpoint: str, session: Session) -> bool:
    """Take `session` out of the round of `endpoint`; False if it is not there."""
    sessions = rounds.get(endpoint)
    if sessions is None or not sessions.remove(session):
        return False
    if not sessions:
        del rounds[endpoint]
    return True
