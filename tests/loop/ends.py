"""What duplexes are tested with: one in memory, a receiver that remembers, and two ends of a socket."""

from __future__ import annotations

import socket
from collections import deque

import trio
import trio.testing

from engine.loop.connection import Connection, tune
from engine.loop.duplex import FIRST_READ, NOBODY, Bytes, Receiver
from engine.loop.memory import Account, Memory

LARGE = bytes(range(256)) * 40_000  # 10 MB: more than any socket buffer
MANY_TURNS = 10_000  # a receiver that takes nothing and does not pause asks for ever


class Turns:
    """Offers again what receivers have not taken, when the call that brought it is over, as a reactor does."""

    def __init__(self) -> None:
        self._waiting: deque[End] = deque()
        self._running = False
        self.count = 0  # how many were given, all in all

    def ask(self, end: End) -> None:
        if end not in self._waiting:
            self._waiting.append(end)

    def run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            last = self.count + MANY_TURNS
            while self._waiting:
                self.count += 1
                assert self.count < last, "a receiver asks for turns and does nothing with them"
                self._waiting.popleft().turn()
        finally:
            self._running = False


class End:
    """A Duplex in memory: what was put is in `said`, what happened to it in plain attributes.

    Takes everything at once, or nothing while `full` (then `put` answers False, as a real one would). What its receiver
    does not take it keeps, and offers again in a later turn.
    """

    def __init__(self, turns: Turns | None = None) -> None:
        self.receiver: Receiver = NOBODY
        self.account = Account(Memory(1 << 30), self)
        self.turns = turns or Turns()
        self.said = b""
        self.full = False
        self.paused = False
        self.ended = False
        self.closed = False
        self.aborted = False
        self.held = b""  # what the other side has said and nobody has taken
        self._end_comes = False

    @property
    def backlog(self) -> int:
        return len(self.said) if self.full else 0

    @property
    def over(self) -> bool:
        return self.ended or self.closed or self.aborted

    def put(self, *parts: Bytes) -> bool:
        if self.over:
            return True
        self.said += b"".join(parts)
        return not self.full

    def end(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.receiver = NOBODY
        self.closed = True

    def abort(self) -> None:
        self.receiver = NOBODY
        self.aborted = True

    @property
    def room(self) -> int:
        return FIRST_READ

    def read_at_most(self, size: int) -> None: ...

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self.turns.ask(self)

    def overdrawn(self) -> None:
        self.abort()

    def turn(self) -> None:
        if self.held and not self.paused:
            data, self.held = self.held, b""
            taken = self.receiver.received(memoryview(data))
            assert 0 <= taken <= len(data)
            self.held = data[taken:]
            if not self.paused:
                self.turns.ask(self)
        elif self._end_comes and not self.paused:
            self._end_comes = False
            self.receiver.ended()

    # -- what the other side does

    def hear(self, data: bytes) -> None:
        self.held += data
        self.turns.ask(self)
        self.turns.run()

    def hear_by_bytes(self, data: bytes) -> None:
        for position in range(len(data)):
            self.hear(data[position : position + 1])

    def hear_end(self) -> None:
        self._end_comes = True
        self.turns.ask(self)
        self.turns.run()

    def hear_reset(self) -> None:
        receiver, self.receiver = self.receiver, NOBODY
        self.held = b""
        receiver.lost(ConnectionResetError("reset"))
        self.turns.run()

    def drain(self) -> None:
        self.full = False
        self.receiver.drained()
        self.turns.run()

    def take_said(self) -> bytes:
        said, self.said = self.said, b""
        return said


class Ear:
    """A receiver that remembers; `heard` can be waited for. Takes at most `takes` bytes at a time, if that is given."""

    idle = False

    def __init__(self, *, takes: int | None = None) -> None:
        self.takes = takes
        self.data = bytearray()
        self.calls = 0
        self.is_ended = False
        self.error: Exception | None = None
        self.broken_off: Exception | None = None
        self.drains = 0
        self._changed = trio.Event()

    def received(self, data: memoryview) -> int:
        assert not self.is_ended, "bytes behind the end"
        assert self.error is None, "bytes behind the loss"
        taken = len(data) if self.takes is None else min(len(data), self.takes)
        self.calls += 1
        self.data += data[:taken]
        self._wake()
        return taken

    def ended(self) -> None:
        assert not self.is_ended, "ended twice"
        assert self.error is None, "ended behind the loss"
        self.is_ended = True
        self._wake()

    def lost(self, error: Exception) -> None:
        assert self.error is None, "lost twice"
        self.error = error
        self._wake()

    def drained(self) -> None:
        assert self.error is None, "drained behind the loss"
        self.drains += 1
        self._wake()

    def break_off(self, error: Exception) -> None:
        assert self.broken_off is None, "broken off twice"
        self.broken_off = error
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def heard(self, size: int) -> bytes:
        while len(self.data) < size:
            assert self.error is None
            await self._changed.wait()
        return bytes(self.data)

    async def is_over(self) -> None:
        while not self.is_ended and self.error is None and self.broken_off is None:
            await self._changed.wait()

    async def is_lost(self) -> None:
        while self.error is None:
            await self._changed.wait()


class Clumsy(Ear):
    """Raises out of the calls that `fails` names."""

    def __init__(self, *fails: str) -> None:
        super().__init__()
        self._fails = fails

    def _may_fail(self, name: str) -> None:
        if name in self._fails:
            raise KeyError(f"clumsy: {name}")

    def received(self, data: memoryview) -> int:
        self._may_fail("received")
        return super().received(data)

    def ended(self) -> None:
        self._may_fail("ended")
        super().ended()

    def lost(self, error: Exception) -> None:
        self._may_fail("lost")
        super().lost(error)

    def drained(self) -> None:
        self._may_fail("drained")
        super().drained()


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, tuned as dialled and accepted ones are."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    tune(near)
    tune(far)
    return near, far


async def run_both(nursery: trio.Nursery) -> tuple[Connection, Ear, Connection, Ear]:
    """Both ends of a TCP connection as connections that run, each with somebody who listens."""
    near, far = (Connection(sock) for sock in pair())
    near.receiver, far.receiver = near_ear, far_ear = Ear(), Ear()
    nursery.start_soon(near.run)
    nursery.start_soon(far.run)
    await trio.testing.wait_all_tasks_blocked()
    return near, near_ear, far, far_ear
