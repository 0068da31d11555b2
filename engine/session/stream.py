"""One multiplexed stream, as a Duplex.

What is put goes to the session at once, or waits for the stream's window in a queue; the end waits in the same queue,
as its last piece. What arrives goes to the receiver at once; what that does not take is held, and so is all behind
it, the end included, until a turn of the stream's own.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from engine.loop.duplex import LEAST_READ, NOBODY, Bytes, Receiver
from engine.loop.memory import CONNECTION_BYTES, Account, Overdrawn
from engine.loop.reactor import Reactor
from engine.session.window import Pool, Window, first_window
from engine.wire.mux import Mux, State, StreamState

STREAMS_BYTES: Final = CONNECTION_BYTES // 2  # that they keep together; the other half is for the socket's queue
JOIN_BYTES: Final = 16 * 1024
MAX_DATA: Final = 512 * 1024  # in one yamux frame: a read and a head, and others get their turn

# The last in a queue, and empty as no other piece is: the end; or that the stream has to end for what is kept for it.
_END: Final = memoryview(b"")
_OVERDRAWN: Final = memoryview(b"")
_IDLE, _OPEN, _ENDED_HERE, _ENDED_THERE, _GONE = State


class Owner(Protocol):
    """What a stream asks of its session."""

    account: Account
    reactor: Reactor
    windows: Pool
    mux: Mux[Stream]
    behind: bool  # the socket has more to send than it takes
    waiting: set[Stream]  # told to hold back until the socket has caught up
    bytes_out: int
    resets: int
    window_stalls: int

    @property
    def round_trip(self) -> float: ...
    def may_open(self, stream: Stream) -> bool: ...
    def send(self, *pieces: Bytes) -> None: ...
    def released(self, stream: Stream) -> None: ...
    def lose(self, error: Exception) -> None: ...


class Stream(StreamState):
    """One multiplexed stream; made by its session's `open`, or by the other end."""

    __slots__ = ("_held", "_paused", "_queue", "backlog", "queued", "receiver", "session", "window")

    def __init__(self, stream_id: int, session: Owner) -> None:
        super().__init__(stream_id)
        self.session = session
        self.window = Window(session.windows)
        self.receiver: Receiver = NOBODY
        self.backlog = 0
        self.queued = False
        self._queue: deque[memoryview | bytearray] = deque()
        self._held: deque[memoryview] = deque()
        self._paused = False

    def __repr__(self) -> str:
        return f"<Stream {self.id} {self.state.name} of {self.session!r}>"

    @property
    def account(self) -> Account:
        return self.session.account

    # -- the way out

    @property
    def room(self) -> int:
        return LEAST_READ if self.session.behind else max(self.send_window - self.backlog, LEAST_READ)

    def put(self, *parts: Bytes) -> bool:
        session, queue = self.session, self._queue
        if self.state is _GONE or self.state is _ENDED_HERE or (queue and not queue[-1]):
            return True
        size = 0
        for part in parts:
            size += len(part)
        if (
            queue
            or session.behind
            or size > self.send_window
            or size > MAX_DATA
            or not (self.state or session.may_open(self))
        ):
            if size:
                self._keep(size, parts)
                self.backlog += size
                if not self._charge(size):
                    self._overdraw()
                    return True
                self._send_queue()
        elif size:
            session.bytes_out += size
            session.send(session.mux.data(self, size), *parts)
        if queue:
            return False
        if session.behind:
            session.waiting.add(self)
            return False
        return True

    def _keep(self, size: int, parts: tuple[Bytes, ...]) -> None:
        queue = self._queue
        if size >= JOIN_BYTES:
            queue.append(memoryview(b"".join(parts)))  # cut in place, without copying what is left
            return
        last = queue[-1] if queue else None
        if not isinstance(last, bytearray) or len(last) >= JOIN_BYTES:
            last = bytearray()
            queue.append(last)
        for part in parts:  # a byte here and a byte there would cost a hundred times their size, and a frame each
            last += part

    def announce(self) -> bool:
        """Tell the other end that we exist, if there is a place among the pending: it may be its turn to speak."""
        session = self.session
        if not session.may_open(self):
            return False
        session.send(session.mux.grant(self, self.widen()))
        return True

    def widen(self) -> int:
        """Begin with the window that the session's round trip suggests; how much is to be granted for it."""
        return self.window.widen(first_window(self.session.round_trip))

    def granted(self) -> None:
        """The other end has made room, or there is a place among the pending for us."""
        if not self.state and not self.announce():
            return
        if self._queue:
            self._send_queue()
            if not self._queue:
                if self.session.behind:
                    self.session.waiting.add(self)
                else:
                    self.receiver.drained()

    def caught_up(self) -> None:
        """The socket has taken what the streams had sent."""
        if self._queue:
            self.granted()
        elif self.session.behind:  # another one has filled it again
            self.session.waiting.add(self)
        else:
            self.receiver.drained()

    def _send_queue(self) -> None:
        """Send what the socket and the window allow, and then the end if it waits there."""
        session, queue = self.session, self._queue
        if not (self.state or session.may_open(self)):
            return
        while queue:
            part = queue[0]
            if part is _OVERDRAWN:
                return
            if part is _END:
                queue.clear()
                self._send_end()
                return
            if session.behind:
                session.waiting.add(self)
                return
            room = min(self.send_window, MAX_DATA)
            if not room:
                session.window_stalls += 1
                return
            if len(part) > room:
                queue[0] = part[room:]
                part = part[:room]
            else:
                queue.popleft()
            size = len(part)
            self.backlog -= size
            self.account.release(size)
            session.bytes_out += size
            session.send(session.mux.data(self, size), memoryview(part))

    def end(self) -> None:
        queue = self._queue
        if self.state is _GONE or self.state is _ENDED_HERE or (queue and not queue[-1]):
            return
        queue.append(_END)
        self._send_queue()

    def _send_end(self) -> None:
        session = self.session
        session.send(session.mux.end(self))
        if self.state is _GONE:
            session.released(self)

    def close(self) -> None:
        self.receiver = NOBODY
        self.resume()
        self.end()

    def abort(self) -> None:
        self.receiver = NOBODY
        self._forget()
        if self.state is not _GONE:
            session = self.session
            session.resets += 1
            frame = session.mux.reset(self)
            if frame:
                session.send(frame)
            session.released(self)

    def _forget(self) -> None:
        """What waits either way will not be wanted any more."""
        self.account.release(self.backlog + sum(map(len, self._held)))
        self._queue.clear()
        self._held.clear()
        self.backlog = 0

    # -- the way in

    def arrived(self, data: memoryview) -> None:
        """`data` is the next of what the other end has said."""
        if self._held:
            self._hold(data)
            return
        taken = self.receiver.received(data)
        if self.receiver is NOBODY:  # it has closed the stream in this call, and nobody wants the rest
            taken = len(data)
        if self._paused:
            self.window.hold(taken)
        elif self.window.passed_on(taken):
            self._grant()
        if taken != len(data):
            self._hold(data[taken:])
            if not self._paused:
                self.session.reactor.again(self)

    def _hold(self, data: memoryview) -> None:
        """Keep what the receiver does not take yet: a window at most, for nothing of it is granted back."""
        self._held.append(memoryview(bytes(data)))
        if not self._charge(len(data)):
            self._overdraw()

    def _charge(self, size: int) -> bool:
        """Keep `size` bytes at the session's cost; False if its streams keep too much."""
        account = self.account
        return account.charge(size) and account.used <= STREAMS_BYTES

    def _overdraw(self) -> None:
        """The session has more to keep for its streams than it may: this one ends, in a turn of its own."""
        self._forget()
        self._queue.append(_OVERDRAWN)
        self.session.reactor.again(self)

    def heard_end(self) -> None:
        """FIN has come."""
        if self._held:
            self._held.append(_END)
        else:
            self.receiver.ended()

    def turn(self) -> None:
        """Offer again what is held."""
        if self._queue and self._queue[-1] is _OVERDRAWN:
            receiver = self.receiver
            self.abort()
            error = Overdrawn(f"{self.account.used} bytes are kept for the streams of its session")
            self.session.reactor.call("lost", receiver, receiver.lost, error)
            return
        held = self._held
        while held and not self._paused:
            data = held.popleft()
            if data is _END:
                self.receiver.ended()
                return
            self.account.release(len(data))
            taken = self.receiver.received(data)
            if self.receiver is NOBODY:
                taken = len(data)
            self._took(taken)
            if taken != len(data):
                held.appendleft(data[taken:])
                self.account.charge(len(data) - taken)
            if self._paused or not held:
                return
            if taken != len(data) or self.session.reactor.over():
                self.session.reactor.again(self)
                return

    def _took(self, size: int) -> None:
        if self._paused:
            self.window.hold(size)
        elif self.window.passed_on(size):
            self._grant()

    def _grant(self) -> None:
        if self.state is not _GONE and self.state is not _ENDED_THERE:
            session = self.session
            size = self.window.grant(session.reactor.precise_now(), session.round_trip)
            if size:
                session.send(session.mux.grant(self, size))

    def read_at_most(self, size: int) -> None:
        """The window does that."""

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self.window.let_go()
            self._grant()
            if self._held:
                self.session.reactor.again(self)

    # -- the ends that are not ours

    def cut(self, error: Exception) -> None:
        """The stream is gone without an end: reset by the other end, or its session is over."""
        receiver, self.receiver = self.receiver, NOBODY
        self._forget()
        self.session.reactor.call("lost", receiver, receiver.lost, error)

    def break_off(self, error: Exception) -> None:
        receiver = self.receiver
        self.abort()
        receiver.break_off(error)

    def ready(self, events: int) -> None:
        """A stream has no socket: only `turn` is called."""
