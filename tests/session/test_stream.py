"""Streams over real sockets: what is not taken at once, ends and their order, and what is held for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.loop.reactor import Reactor
from engine.loop.run import open_reactor
from engine.session.session import Session
from engine.session.stream import JOIN_BYTES, Stream
from engine.wire.mux import MAX_PENDING, State
from engine.wire.yamux import INITIAL_WINDOW
from tests.loop.ends import LARGE, Ear
from tests.session.test_session import Ends, open_session, settle


async def open_stream(session: Ends) -> tuple[Stream, Ear, Stream, Ear]:
    """A stream that both ends know: the node's end and the agent's, each with somebody who listens."""
    near, near_ear = session.open()
    near.put(b"x")
    await settle()
    far, far_ear = session.streams[-1], session.ears[-1]
    far_ear.data.clear()
    return near, near_ear, far, far_ear


@pytest.mark.parametrize("takes", [1000, 100_000, None])
async def test_who_takes_little_at_a_time_gets_all_in_order_and_the_end_behind_it(
    reactor: Reactor, takes: int | None
) -> None:
    async with open_session() as session:
        near, _, far, ear = await open_stream(session)
        ear.takes = takes
        near.put(LARGE[:1_000_000])
        near.end()
        await ear.is_over()
        assert ear.is_ended
        assert ear.data == LARGE[:1_000_000]
        assert far.account.used == 0


async def test_what_waits_in_a_paused_stream_comes_before_its_end_and_before_what_follows(reactor: Reactor) -> None:
    async with open_session() as session:
        near, _, far, ear = await open_stream(session)
        ear.takes = 0
        far.pause()
        for part in (b"one, ", b"two, ", b"three"):
            near.put(part)
            await settle()
        near.end()
        await settle()
        assert (bytes(ear.data), ear.is_ended, far.account.used) == (b"", False, 15)
        ear.takes = None
        far.resume()
        await ear.is_over()
        assert (bytes(ear.data), ear.is_ended, far.account.used) == (b"one, two, three", True, 0)


async def test_one_who_takes_little_is_no_reason_for_another_to_wait(reactor: Reactor) -> None:
    async with open_session() as session:
        near, _, _, slow = await open_stream(session)
        other, _, _, ear = await open_stream(session)
        slow.takes = 1
        near.put(LARGE[:5000])
        other.put(LARGE)
        other.end()
        await ear.is_over()
        assert ear.data == LARGE
        assert await slow.heard(5000) == LARGE[:5000]


def abort(session: Ends, near: Stream, far: Stream) -> None:
    far.abort()


def abort_there(session: Ends, near: Stream, far: Stream) -> None:
    near.abort()


def close(session: Ends, near: Stream, far: Stream) -> None:
    far.close()


def close_the_session(session: Ends, near: Stream, far: Stream) -> None:
    session.node.close()


def break_the_session(session: Ends, near: Stream, far: Stream) -> None:
    session.agent_connection.abort()


@pytest.mark.parametrize("end", [abort, abort_there, close, close_the_session, break_the_session])
@pytest.mark.parametrize("ended", [True, False], ids=["both ends said", "open"])
async def test_what_is_held_is_owed_for_no_longer_than_the_stream_lives(
    reactor: Reactor, end: Callable[[Ends, Stream, Stream], None], ended: bool
) -> None:
    async with open_session() as session:
        near, _, far, ear = await open_stream(session)
        ear.takes = 0
        far.pause()
        near.put(LARGE[:100_000])
        if ended:
            near.end()
            far.end()
        await settle()
        assert far.account.used == 100_000
        end(session, near, far)
        await settle()
        if ended and end in (abort_there, close_the_session):
            assert ear.error is None, "all had come before that, and is still there for who takes it"
            ear.takes = None
            far.resume()
            await ear.is_over()
            assert (len(ear.data), ear.is_ended) == (100_000, True)
        assert far.account.used == 0
        assert reactor.memory.used == 0


async def test_one_that_is_aborted_while_what_it_holds_is_offered_owes_nothing(reactor: Reactor) -> None:
    async with open_session() as session:
        near, _, far, ear = await open_stream(session)
        ear.takes = 0
        far.pause()
        near.put(b"some bytes")
        await settle()

        class Hasty(Ear):
            def received(self, data: memoryview) -> int:
                far.pause()
                far.abort()
                return 1

        far.receiver = Hasty()
        far.resume()
        await settle()
        assert (far.account.used, reactor.memory.used) == (0, 0)


async def test_what_nobody_will_take_is_granted_back_so_that_the_other_end_may_come_to_its_end(
    reactor: Reactor,
) -> None:
    async with open_session() as session:
        near, near_ear, far, _ = await open_stream(session)

        class Content(Ear):
            def received(self, data: memoryview) -> int:
                far.close()
                return 0

        far.receiver = Content()
        size = near.send_window
        session.agent.received(memoryview(session.node.mux.data(near, size) + LARGE[:size]))  # a whole window at once
        near.put(LARGE)
        near.end()
        await near_ear.is_over()
        await settle()
        assert near_ear.is_ended
        assert near.backlog == 0
        assert (near.state, far.state) == (State.GONE, State.GONE)


async def test_what_is_put_behind_an_end_is_dropped_however_it_was_said(reactor: Reactor) -> None:
    for say in (Stream.end, Stream.close, Stream.abort):
        async with open_session() as session:
            near, _, _, ear = await open_stream(session)
            near.put(b"before")
            say(near)
            assert near.put(b"behind")
            near.end()
            near.close()
            assert near.put(LARGE)
            await ear.is_over()
            assert bytes(ear.data) in (b"before", b"")
            assert ear.is_ended is (say is not Stream.abort)


async def test_an_end_waits_for_what_the_window_holds_back(reactor: Reactor) -> None:
    async with open_session() as session:
        near, _, far, ear = await open_stream(session)
        far.pause()
        near.put(LARGE)
        near.end()
        await settle()
        assert near.backlog > 0
        assert not ear.is_ended
        far.resume()
        await ear.is_over()
        assert ear.data == LARGE


async def test_a_stream_without_a_place_among_the_pending_may_be_used_and_given_up_as_any_other(
    reactor: Reactor,
) -> None:
    async with open_session() as session:
        for _ in range(MAX_PENDING):
            session.open()
        (used, _), (given_up, _) = session.open(), session.open()
        assert not used.put(b"hello")
        used.end()
        given_up.put(b"never")
        given_up.abort()
        await settle()
        assert bytes(session.ears[-1].data) == b"hello"
        assert session.ears[-1].is_ended
        assert len(session.streams) == MAX_PENDING + 1
        assert session.node_connection.account.used == 0


# Any order of calls

PIECES = {"put nothing": b"", "put": b"some bytes", "put much": LARGE[: 3 * INITIAL_WINDOW]}
TAKES = {"takes all": None, "takes some": 1000, "takes nothing": 0}
steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([*PIECES, *TAKES, "end", "close", "abort", "pause", "resume", "settle", "settle"]),
    ),
    max_size=14,
)


class Side:
    """One end of the stream, with what was put on it and may arrive."""

    def __init__(self, stream: Stream, ear: Ear) -> None:
        self.stream = stream
        self.ear = ear
        self.said = b""
        self.may_say = True
        self.is_deaf = False  # closed or aborted: nobody listens
        self.aborted = False

    def do(self, what: str) -> None:
        stream = self.stream
        if what in PIECES:
            if self.may_say:
                self.said += PIECES[what]
            stream.put(PIECES[what])
        elif what in TAKES:
            self.ear.takes = TAKES[what]
        else:
            if what not in ("pause", "resume"):
                self.may_say = False
                self.is_deaf = self.is_deaf or what != "end"
                self.aborted = self.aborted or what == "abort"
            getattr(stream, what)()


async def play(script: list[tuple[int, str]]) -> None:
    async with open_reactor() as reactor, open_session() as session:
        near, near_ear, far, far_ear = await open_stream(session)
        sides = Side(near, near_ear), Side(far, far_ear)
        sides[0].said = b""
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
        broken = any(side.aborted for side in sides)
        with trio.fail_after(30):
            for side in sides:
                if not side.is_deaf:
                    await side.ear.is_over()
        await settle()
        for here, there in (sides, sides[::-1]):
            assert there.said.startswith(bytes(here.ear.data))
            if not broken and not here.is_deaf:
                assert here.ear.is_ended
                assert len(here.ear.data) == len(there.said)
            assert here.stream.state is State.GONE
            assert here.stream.backlog == 0
        assert not reactor.internal_errors
        for end in (session.node, session.agent):
            check_nothing_is_left(end)
        assert reactor.memory.used == 0


def check_nothing_is_left(end: Session) -> None:
    assert end.alive
    assert not end.mux.streams
    assert end.mux.pending == 0
    assert end.windows.granted == 0
    assert not end.waiting
    assert end.account.used == 0


@settings(max_examples=60)
@given(steps)
def test_any_order_of_calls_on_both_ends_loses_nothing_and_leaves_nothing(script: list[tuple[int, str]]) -> None:
    trio.run(play, script)


async def test_a_byte_here_and_a_byte_there_wait_as_one_piece(reactor: Reactor) -> None:
    async with open_session() as session:
        near, _, _, far_ear = await open_stream(session)
        session.node.behind = True
        account = session.node_connection.account
        for number in range(50_000):
            assert not near.put(b"%d" % (number % 10))
        assert near.backlog == account.used == 50_000
        assert len(near._queue) <= 50_000 // JOIN_BYTES + 1
        session.node.behind = False
        near.caught_up()
        assert near.backlog == account.used == 0
        assert await far_ear.heard(50_000) == b"0123456789" * 5000
