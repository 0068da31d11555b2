"""Any order of calls on both ends of a WebSocket stream, with and without an agreed half-close."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.carriers.websocket import State, WebSocketCarrier
from engine.loop.connection import Connection
from engine.loop.run import open_reactor
from tests.loop.ends import LARGE, Ear, pair

PIECES = {"put nothing": b"", "put": b"some bytes", "put much": LARGE[:1_000_000]}
TAKES = {"takes all": None, "takes some": 1000, "takes nothing": 0}
# What may follow what, by whatever is done or heard.
NEXT = {
    State.OPEN: {State.ENDED_HERE, State.ENDED_THERE, State.LEFT, State.CLOSED},
    State.ENDED_THERE: {State.LEFT, State.CLOSED},
    State.ENDED_HERE: {State.CLOSED},
    State.LEFT: {State.CLOSED},
    State.CLOSED: set(),
}

steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([*PIECES, *TAKES, "end", "close", "abort", "pause", "resume", "settle", "settle"]),
    ),
    max_size=14,
)


class CheckedStream(WebSocketCarrier):
    """Its states move only as the table says."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        if name == "state" and hasattr(self, "state") and value is not self.state:
            assert value in NEXT[self.state], f"{self.state!r} -> {value!r}"
        super().__setattr__(name, value)


class Side:
    """One end, with what was put on it and may arrive."""

    def __init__(self, *, client: bool, half_close: bool) -> None:
        self.client = client
        self.half_close = half_close
        self.ear = Ear()
        self.said = b""
        self.may_say = True
        self.is_deaf = False

    def open(self, connection: Connection) -> None:
        self.connection = connection
        self.stream = CheckedStream(connection, client=self.client, half_close=self.half_close)
        self.stream.receiver = self.ear

    def do(self, what: str) -> None:
        if what in PIECES:
            if self.may_say and self.stream.state <= State.ENDED_THERE:
                self.said += PIECES[what]
            self.stream.put(PIECES[what])
        elif what in TAKES:
            self.ear.takes = TAKES[what]
        else:
            if what not in ("pause", "resume"):
                self.may_say = False
                self.is_deaf = self.is_deaf or what != "end"
            getattr(self.stream, what)()


async def play(script: list[tuple[int, str]], *, half_close: bool) -> None:
    async with open_reactor() as reactor:
        sides = Side(client=True, half_close=half_close), Side(client=False, half_close=half_close)
        with trio.fail_after(30):
            async with trio.open_nursery() as connections:
                for side, sock in zip(sides, pair(), strict=True):
                    side.open(Connection(sock))
                    connections.start_soon(side.connection.run)
                for number, what in script:
                    if what == "settle":
                        for _ in range(10):
                            await trio.lowlevel.checkpoint()
                    else:
                        sides[number].do(what)
                for side in sides:
                    side.ear.takes = None
                    side.stream.resume()
                    side.do("end")
        proper = half_close and not any(side.is_deaf for side in sides)
        for here, there in (sides, sides[::-1]):
            assert there.said.startswith(bytes(here.ear.data))
            if proper:
                assert here.ear.is_ended
                assert len(here.ear.data) == len(there.said)
            if not here.is_deaf:
                assert here.ear.is_ended or here.ear.error is not None
            assert here.connection.backlog == here.connection.account.used == 0
            assert here.stream not in reactor._clocked
        assert not reactor.internal_errors
        assert reactor.memory.used == 0


@pytest.mark.interpreted
@pytest.mark.parametrize("half_close", [True, False])
@settings(max_examples=60)
@given(script=steps)
def test_any_order_of_calls_raises_nothing_and_leaves_nothing(half_close: bool, script: list[tuple[int, str]]) -> None:
    async def run() -> None:
        await play(script, half_close=half_close)

    trio.run(run)
