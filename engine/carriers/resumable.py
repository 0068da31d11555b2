"""A carrier that outlives those it is made of: when one is lost, the session waits for the next, and loses nothing.

Company proxies cut what lasts: after a lifetime, on a reload of their rules, when a laptop changes its network. Between
two ends of ours a session then goes on where it was. Each end keeps what it has sent until the other has confirmed it,
by a frame of yamux (CONFIRM) that goes along with others; when both are on a new carrier, they tell each other how much
they have taken, and what is missing is sent again (see wire.resumption).

    CARRIED     a carrier is there
    SUSPENDED   it was lost; what is put is kept, up to `LIMIT`, and the other end has `seconds` to come back
    CLOSED      for good: one of the two has said so, or nobody came

Who attaches a carrier owns and runs it. The one before it, which may still look alive to us, is aborted: what would
come on it is not heard any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import trio

from engine.carriers.carrier import Carrier, Kind
from engine.carriers.retained import Retained
from engine.errors import RemoteProtocolError, YamuxError
from engine.loop.connection import JOIN_BYTES, Address, give_back, keep
from engine.loop.duplex import LEAST_READ, MOST_READ, NOBODY, Bytes, Receiver
from engine.loop.memory import Account, Overdrawn
from engine.loop.reactor import current_reactor
from engine.wire import yamux
from engine.wire.resumption import Resume

LIMIT: Final = 4 * 1024 * 1024  # bytes that are not confirmed: more than this, and sources are held back
FAR_LIMIT: Final = 32 * 1024 * 1024  # the same where a round trip is long: as much as a stream's window (see window.py)
BYTES_PER_SECOND: Final = 640_000_000  # that may be under way, whatever a round trip takes; half is confirmed then
EXCESS: Final = LIMIT  # above that: what is said nevertheless, pongs and windows, is bounded as well
ALONG_BYTES: Final = 256 * 1024  # taken, before it is confirmed with what is put next: what is kept stays in the caches
CONFIRM_BYTES: Final = LIMIT // 2  # taken, before it is confirmed alone, which costs 40 us


class State(Enum):
    """See above."""

    CARRIED = auto()
    SUSPENDED = auto()
    CLOSED = auto()


_CARRIED, _SUSPENDED, _CLOSED = State


class Resumable:
    """See above. `id` is its name, a secret. `seconds`: how long it waits for the next carrier.

    `on_change` is called when it was suspended, and when it has another carrier; not in the end, which its receiver
    hears of. `may_wait` is asked when it has lost its carrier: if it says no, the session is over.
    """

    idle = False

    def __init__(self, carrier: Carrier, id: bytes, seconds: float) -> None:
        self.state = State.CARRIED
        self.receiver: Receiver = NOBODY
        self.carrier = carrier  # the latest
        self.id = id
        self.seconds = seconds
        self.generation = 0  # of carriers
        self.received_bytes = 0  # taken by our receiver
        self.retained = Retained(give_back)
        self.limit = LIMIT
        self.on_change: Callable[[], None] = _nothing
        self.may_wait: Callable[[], bool] = _always
        self.resumptions = 0
        self.queued = False
        self._reactor = reactor = current_reactor()
        self.account = Account(reactor.memory, self)
        self._confirm_along_at = ALONG_BYTES  # when so many have been taken
        self._confirm_at = CONFIRM_BYTES
        self._held_back = False  # what else the carrier brings is not taken: the next one brings it again
        self._full = False
        self.error: Exception = ConnectionAbortedError("stopped")  # why the last carrier was lost
        self._changed = trio.Event()
        carrier.receiver = self

    def __repr__(self) -> str:
        return f"<Resumable {self.state.name} on {self.carrier!r}>"

    async def run(self) -> None:
        """Wait until it is closed: by one of its ends, or because nobody came back in time. Carriers run elsewhere."""
        try:
            while self.state is not _CLOSED:
                with trio.move_on_after(self.seconds if self.state is _SUSPENDED else math.inf) as patience:
                    await self.wait_change()
                if patience.cancelled_caught:
                    self._lose(self.error)
        finally:
            if self.state is not _CLOSED:
                self.carrier.abort()
                self._lose(ConnectionAbortedError("stopped"))

    async def wait_change(self) -> None:
        """Return when `state` has changed, or another carrier was attached."""
        changed = self._changed
        await changed.wait()

    def wish(self) -> Resume:
        """What the other end is asked for to go on with another carrier: it says what has come, and so nothing more is
        taken from the present one, unless the wish comes to nothing (`resume`).
        """
        self._held_back = True
        self.carrier.pause()
        self.generation += 1
        return Resume(self.id, self.generation, self.received_bytes)

    def attach(self, carrier: Carrier, received: int) -> None:
        """Go on with `carrier`; the other end has taken `received` bytes. ValueError if that cannot be."""
        freed = self.retained.confirm(received)
        self._full = self.retained.size >= self.limit
        self._held_back = False
        self.carrier.abort()
        self.account.release(freed)
        self.carrier = carrier
        self.resumptions += 1
        self._told()
        carrier.receiver = self
        carrier.read_at_most(MOST_READ)
        self.state = _CARRIED
        for parts in self.retained.unconfirmed():
            carrier.put(*parts)
        if self.state is _CARRIED:  # it is not lost already
            self._move(_CARRIED)
            self._reactor.call("drained", self, self.drained)

    def _move(self, state: State) -> None:
        self.state = state
        if state is _CLOSED:
            self.retained.clear()
            self.account.end()
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        self._reactor.hand_over()
        if state is not _CLOSED:
            self._reactor.call("change", self, self.on_change)

    # -- Carrier

    @property
    def kind(self) -> Kind:
        return self.carrier.kind

    @property
    def peer(self) -> Address:
        return self.carrier.peer

    @property
    def farewell(self) -> str:
        return self.carrier.farewell

    @property
    def full(self) -> bool:
        return self._full or self.carrier.full

    @property
    def backlog(self) -> int:
        return self.carrier.backlog

    @property
    def room(self) -> int:
        return LEAST_READ if self._full else self.carrier.room

    def put(self, *parts: Bytes) -> bool:
        if self.state is _CLOSED:
            return True
        if self.received_bytes >= self._confirm_along_at:
            parts = (*parts, self._confirmation())
        size = sum(map(len, parts))
        if size < JOIN_BYTES:
            parts = (b"".join(parts),)
        else:  # a view's buffer is used again as soon as we return; bytes stay what they are
            parts = tuple([part if isinstance(part, bytes) else keep(part) for part in parts])
        retained = self.retained
        retained.keep(size, parts)
        self.account.charge(size)
        went = self.state is _CARRIED and self.carrier.put(*parts)
        if retained.size < self.limit:
            return went
        self._full = True
        if retained.size > self.limit + EXCESS:
            self._reactor.again(self)
        return False

    def _told(self) -> None:
        """The other end knows, or will know, what has come."""
        self._confirm_along_at = self.received_bytes + ALONG_BYTES
        self._confirm_at = self.received_bytes + CONFIRM_BYTES

    def _confirmation(self) -> bytes:
        self._told()
        return yamux.header(yamux.CONFIRM, 0, 0, self.received_bytes % yamux.CONFIRM_WRAP)

    def confirm_along(self) -> None:
        """Confirm what has come, however little, with what is put next: the other end need not keep it any longer."""
        self._confirm_along_at = min(self._confirm_along_at, self.received_bytes)

    def flush(self) -> None:
        """This turn is over, and nothing was put with which a confirmation could have gone along."""
        if self.received_bytes >= self._confirm_at and self.state is _CARRIED:
            self.put()

    def reach(self, round_trip_seconds: float) -> None:
        """The other end is so far away: let so much be under way that it does not wait for confirmations."""
        self.limit = max(LIMIT, min(FAR_LIMIT, int(round_trip_seconds * BYTES_PER_SECOND)))

    def confirmed(self, low: int) -> None:
        """The other end has confirmed. Raises YamuxError for what it cannot have taken."""
        try:
            freed = self.retained.confirm(self.retained.expand(low))
        except ValueError as error:
            raise YamuxError(yamux.PROTOCOL_ERROR, "more confirmed than was sent", str(error)) from None
        self.account.release(freed)
        if self._full and self.retained.size < self.limit:
            self._full = False
            if not self.carrier.full:
                self.receiver.drained()

    def end(self) -> None:
        """A session has no half-close."""
        self.close()

    def close(self) -> None:
        if self.state is not _CLOSED:
            self.carrier.close()
            self._forget()

    def bid_farewell(self, code: int, reason: str) -> None:
        if self.state is not _CLOSED:
            self.carrier.bid_farewell(code, reason)
            self._forget()

    def abort(self) -> None:
        if self.state is not _CLOSED:
            self.carrier.abort()
            self._forget()

    def fail(self, error: Exception) -> None:
        self.carrier.fail(error)

    def read_at_most(self, size: int) -> None:
        self.carrier.read_at_most(size)

    def pause(self) -> None:
        self.carrier.pause()

    def resume(self) -> None:
        self._held_back = False
        self.carrier.resume()

    def _forget(self) -> None:
        self.receiver = NOBODY
        self._move(_CLOSED)

    # -- the receiver of the carrier

    def received(self, data: memoryview) -> int:
        if self._held_back:
            return 0
        taken = self.receiver.received(data)
        self.received_bytes += taken
        if self.received_bytes >= self._confirm_at:
            self._reactor.flush_soon(self)
        return taken

    def ended(self) -> None:
        receiver = self.receiver
        self.carrier.close()
        self._forget()
        receiver.ended()

    def lost(self, error: Exception) -> None:
        if isinstance(error, RemoteProtocolError):  # it is there, and does what it must not
            self._lose(error)
        elif self.state is _CARRIED:
            self.error = error
            if self.may_wait():
                self._move(_SUSPENDED)
            else:
                self._lose(error)

    def drained(self) -> None:
        if not self._full:
            self.receiver.drained()

    def break_off(self, error: Exception) -> None:
        receiver = self.receiver
        self.abort()
        receiver.break_off(error)

    def ready(self, events: int) -> None:
        """It has no socket: only `turn` is called."""

    def turn(self) -> None:
        """The other end has us say one thing after the other, and confirms nothing."""
        if self.retained.size > self.limit + EXCESS:
            self.break_off(Overdrawn(f"{self.retained.size} bytes are not confirmed"))

    def overdrawn(self) -> None:
        """Too much memory is held in this process, and this session has confirmed nothing for longest."""
        self.break_off(Overdrawn("what it had sent was kept for longest"))

    def _lose(self, error: Exception) -> None:
        receiver = self.receiver
        self._forget()
        self._reactor.call("lost", receiver, receiver.lost, error)


def _nothing() -> None: ...


def _always() -> bool:
    return True
