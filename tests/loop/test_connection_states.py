"""Any order of calls on both ends of a connection, plain, over TLS and over TLS in TLS, with receivers of every mood.

Nothing raises: what does so out of a call of the test fails it, and what does so in a receiver (whose assertions say
what it must not be told) is counted by the reactor's guard, and the count has to be empty in the end.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from engine.loop.connection import DRAIN_SECONDS, NEXT, Connection, State
from engine.loop.duplex import NOBODY, Bytes
from engine.loop.reactor import Reactor
from engine.loop.reading import start_tls
from engine.loop.run import open_reactor
from tests.conftest import Pki
from tests.loop.ends import pair

LARGE = bytes(range(256)) * 2048  # 512 KiB: more than one read, and several are more than the kernel takes
PIECES = {"put": b"a few bytes", "put nothing": b"", "put much": LARGE}
MOODS = ["all", "half", "none", "pause", "end", "close", "abort", "put"]
CALLS = [*PIECES, "put many", "end", "close", "abort", "pause", "resume"]


def may_follow(state: State) -> set[State]:
    return {after for (before, _), after in NEXT.items() if before is state} | {State.BROKEN, State.CLOSED}


class Checked(Connection):
    """Its state moves only as the table says, or because sending failed or the socket is closed."""

    __slots__ = ("states",)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "state":
            assert isinstance(value, State)
            if not hasattr(self, "states"):
                self.states: list[State] = []
            if not self.states or self.states[-1] is not value:
                self.states.append(value)
        super().__setattr__(name, value)


class Side:
    """One end: the connection, its receiver, and what was said and heard here."""

    idle = False

    def __init__(self, connection: Checked) -> None:
        self.connection = connection
        self.mood = "all"
        self.said = b""
        self.says = True  # `end`, `close` and `abort` were not called
        self.deaf = False  # `close` or `abort` was
        self.aborts = False
        self.heard = b""
        self.is_ended = False
        self.error: Exception | None = None
        connection.receiver = self

    def call(self, what: str) -> None:
        connection = self.connection
        if what.startswith("put"):
            parts: list[Bytes] = [LARGE, b"", memoryview(b"small"), LARGE] if what == "put many" else [PIECES[what]]
            if self.says:
                self.said += b"".join(parts)
            connection.put(*parts)
            return
        if what in ("end", "close", "abort"):
            self.says = False
            self.deaf = self.deaf or what != "end"
            self.aborts = self.aborts or what == "abort"
        getattr(connection, what)()

    # -- the receiver

    def received(self, data: memoryview) -> int:
        assert not self.deaf
        assert not self.is_ended
        assert self.error is None
        mood = self.mood
        if mood in ("pause", "end", "close", "abort", "put"):
            self.mood = "all"
            self.call(mood)
            taken = len(data) // 2
        else:
            taken = {"all": len(data), "half": (len(data) + 1) // 2, "none": 0}[mood]
        if not self.deaf:
            self.heard += data[:taken]
        return taken

    def ended(self) -> None:
        assert not self.deaf
        assert not self.is_ended
        assert self.error is None
        self.is_ended = True

    def lost(self, error: Exception) -> None:
        assert not self.deaf
        assert self.error is None
        self.error = error

    def drained(self) -> None:
        assert not self.deaf
        assert self.error is None

    def break_off(self, error: Exception) -> None: ...


async def layered(pki: Pki, layers: int) -> tuple[Checked, Checked]:
    near, far = (Checked(sock) for sock in pair())
    for _ in range(layers):
        async with trio.open_nursery() as handshakes:
            handshakes.start_soon(lambda: start_tls(near, pki.client_context(), server_hostname="localhost"))
            handshakes.start_soon(lambda: start_tls(far, pki.server_context(), server=True))
    return near, far


Steps = list[tuple[int, str]]


async def play(pki: Pki, layers: int, steps: Steps, clock: trio.testing.MockClock) -> None:
    async with open_reactor() as reactor:
        sides = [Side(connection) for connection in await layered(pki, layers)]
        async with trio.open_nursery() as connections:
            for side in sides:
                connections.start_soon(side.connection.run)
            for number, what in steps:
                await step(sides[number], what)
            for side in sides:
                side.mood = "all"
                side.connection.resume()
                if side.says:
                    side.call("end")
            for _ in range(40):
                await trio.testing.wait_all_tasks_blocked(0.02)
                if not any(side.connection.alive for side in sides):
                    break
                clock.jump(DRAIN_SECONDS)  # what waits for anything else than its clock has got it by now
        check(reactor, sides)


async def step(side: Side, what: str) -> None:
    if what == "settle":
        for _ in range(5):
            await trio.lowlevel.checkpoint()
    elif what in CALLS:
        side.call(what)
    else:
        side.mood = what.removeprefix("mood ")


def check(reactor: Reactor, sides: list[Side]) -> None:
    assert reactor.internal_errors == {}
    for here, there in (sides, sides[::-1]):
        assert there.said.startswith(here.heard), "what arrives is a beginning of what was put"
        assert not here.is_ended or here.heard == there.said, "an end stands behind all that was put"
        assert not (here.is_ended and there.aborts and there.says), "a loss is no end"
        if not any(side.deaf for side in sides):
            assert here.is_ended, "nobody has broken it off"
            assert here.error is None
        connection = here.connection
        assert connection.state is State.CLOSED
        for before, after in pairwise(connection.states):
            assert after in may_follow(before), connection.states
        assert connection._sock.fileno() == -1
        assert (connection.backlog, connection.account.used) == (0, 0)
        assert not here.deaf or connection.receiver is NOBODY
    assert reactor.memory.used == 0
    assert not reactor._clocked
    assert not reactor._sources


STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([*CALLS, *(f"mood {mood}" for mood in MOODS), "settle", "settle"])),
    max_size=25,
)


@pytest.mark.interpreted
@pytest.mark.parametrize("layers", [0, 1, 2], ids=["plain", "TLS", "TLS in TLS"])
@given(steps=STEPS)
def test_any_order_of_calls_is_defined(pki: Pki, layers: int, steps: Steps) -> None:
    clock = trio.testing.MockClock()
    trio.run(play, pki, layers, steps, clock, clock=clock)
