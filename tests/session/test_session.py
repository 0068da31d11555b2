"""Sessions over real sockets: a node's end and an agent's, and streams between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from engine.carriers.websocket import MAX_FRAME, WebSocketCarrier
from engine.loop.connection import Connection
from engine.loop.memory import Overdrawn
from engine.loop.reactor import Reactor
from engine.session.session import Session
from engine.session.stream import Stream
from engine.wire import websocket, yamux
from engine.wire.mux import MAX_PENDING
from engine.wire.websocket import WebSocket
from tests.loop.ends import LARGE, Clumsy, Ear, pair


def carried(connection: Connection, *, client: bool) -> WebSocketCarrier:
    return WebSocketCarrier(connection, client=client, max_frame=MAX_FRAME)


class Ends:
    """A node's end and an agent's, and the streams the agent was given."""

    def __init__(self) -> None:
        self.node_connection, self.agent_connection = map(Connection, pair())
        self.away = 0
        self.streams: list[Stream] = []
        self.ears: list[Ear] = []
        self.node = Session(carried(self.node_connection, client=False), accepts=False, on_away=self._count_away)
        self.agent = Session(carried(self.agent_connection, client=True), accepts=True, on_stream=self._take)

    def _count_away(self) -> None:
        self.away += 1

    def _take(self, stream: Stream) -> None:
        self.streams.append(stream)
        self.ears.append(Ear())
        stream.receiver = self.ears[-1]

    def open(self) -> tuple[Stream, Ear]:
        """A stream the node has opened, and said a word on."""
        stream, ear = self.node.open(), Ear()
        stream.receiver = ear
        return stream, ear


@asynccontextmanager
async def open_session() -> AsyncIterator[Ends]:
    async with trio.open_nursery() as nursery:
        session = Ends()
        nursery.start_soon(session.node.run)
        nursery.start_soon(session.agent.run)
        await trio.testing.wait_all_tasks_blocked(0.01)
        yield session
        nursery.cancel_scope.cancel()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)


async def test_streams_carry_bytes_both_ways_at_once(reactor: Reactor) -> None:
    async with open_session() as session:
        opened = [session.open() for _ in range(20)]
        for number, (stream, _) in enumerate(opened):
            stream.put(b"%d:" % number, memoryview(LARGE[: number * 10_000]))
        await settle()
        for number, (stream, ear) in enumerate(zip(session.streams, session.ears, strict=True)):
            assert await ear.heard(number * 10_000) == b"%d:" % number + LARGE[: number * 10_000]
            stream.put(b"back %d" % number)
        for number, (_, ear) in enumerate(opened):
            assert await ear.heard(6) == b"back %d" % number


async def test_a_stream_carries_more_than_any_window(reactor: Reactor) -> None:
    async with open_session() as session:
        stream, ear = session.open()
        assert not stream.put(LARGE)
        stream.end()
        await settle()
        assert await session.ears[0].heard(len(LARGE)) == LARGE
        await session.ears[0].is_over()
        session.streams[0].put(LARGE[::-1])
        session.streams[0].end()
        await ear.is_over()
        assert bytes(ear.data) == LARGE[::-1]
        assert not session.node.mux.streams
        assert not session.agent.mux.streams


async def test_a_stalled_stream_holds_its_window_and_nothing_else(reactor: Reactor) -> None:
    async with open_session() as session:
        session.agent._pings.round_trip = 0.0  # a slow machine's would make the first window larger
        stalled, _ = session.open()
        stalled.put(b"x")
        await settle()
        session.streams[0].pause()
        stalled.put(LARGE)
        await settle()
        stuck = len(session.ears[0].data)
        assert stuck <= yamux.INITIAL_WINDOW + 1
        other, _ = session.open()
        other.put(LARGE)
        await settle()
        assert await session.ears[1].heard(len(LARGE)) == LARGE
        assert len(session.ears[0].data) == stuck
        session.streams[0].resume()
        assert await session.ears[0].heard(len(LARGE) + 1) == b"x" + LARGE


async def test_windows_grow_while_half_of_one_is_used_up_within_a_round_trip(reactor: Reactor) -> None:
    async with open_session() as session:
        stream, _ = session.open()
        session.agent._pings.round_trip = 3600.0  # whatever comes, it came fast
        stream.put(LARGE)
        await settle()
        await session.ears[0].heard(len(LARGE))
        grown = session.streams[0].window.size
        assert grown > yamux.INITIAL_WINDOW
        assert session.agent.windows.granted == grown
        stream.abort()
        await session.ears[0].is_over()
        assert session.agent.windows.granted == 0


async def test_what_windows_may_grow_to_is_bounded_for_the_session(reactor: Reactor) -> None:
    async with open_session() as session:
        session.agent.windows.limit = 4 * yamux.INITIAL_WINDOW + 300_000
        opened = [session.open() for _ in range(4)]  # on a slow machine they begin with larger windows
        await settle()
        session.agent._pings.round_trip = 3600.0
        part = LARGE[: len(LARGE) // 4]  # a session keeps no more for its streams
        for stream, _ in opened:
            stream.put(part)
        for ear in session.ears:
            await ear.heard(len(part))
        assert 4 * yamux.INITIAL_WINDOW < session.agent.windows.granted <= session.agent.windows.limit


async def test_a_reset_is_a_loss_for_the_other_end_of_that_stream_only(reactor: Reactor) -> None:
    async with open_session() as session:
        (first, _), (second, _) = session.open(), session.open()
        first.put(b"1")
        second.put(b"2")
        await settle()
        first.abort()
        await session.ears[0].is_over()
        assert isinstance(session.ears[0].error, ConnectionResetError)
        second.put(b"2")
        assert await session.ears[1].heard(2) == b"22"


async def test_no_more_streams_are_pending_than_a_peer_takes(reactor: Reactor) -> None:
    async with open_session() as session:
        opened = [session.open() for _ in range(MAX_PENDING + 50)]
        for stream, _ in opened:
            stream.put(b"x")
        assert session.node.mux.pending == MAX_PENDING
        await settle()
        assert len(session.streams) == MAX_PENDING + 50
        assert all(bytes(ear.data) == b"x" for ear in session.ears)
        assert session.node.mux.pending == 0


async def test_what_is_put_in_one_turn_leaves_as_one_message(reactor: Reactor) -> None:
    async with open_session() as session:
        opened = [session.open()[0] for _ in range(10)]
        heard: list[int] = []
        wire = session.agent_connection.receiver

        class Counter(Ear):
            def received(self, data: memoryview) -> int:
                codec = WebSocket(client=True)
                heard.extend(event.opcode for event in codec.receive(data))
                return wire.received(data)

        session.agent_connection.receiver = Counter()
        for stream in opened:
            stream.put(b"hello")
        await settle()
        assert heard == [websocket.BINARY]


async def test_going_away_leaves_open_streams_alone(reactor: Reactor) -> None:
    async with open_session() as session:
        stream, ear = session.open()
        stream.put(b"x")
        await settle()
        session.agent.go_away()
        await settle()
        assert session.away == 1
        assert session.node.away
        session.streams[0].put(b"y")
        assert await ear.heard(1) == b"y"
        session.streams[0].end()
        stream.end()
        await session.agent.wait_quiet()


async def test_the_end_of_the_session_is_a_loss_for_every_stream_and_said_once(reactor: Reactor) -> None:
    async with open_session() as session:
        ears = [session.open()[1] for _ in range(3)]
        for stream in session.node.mux.streams.values():
            stream.put(b"x")
        await settle()
        session.agent_connection.abort()
        for ear in ears:
            await ear.is_over()
            assert ear.error is not None
        assert session.away == 1
        assert not session.node.alive


@pytest.mark.parametrize("call", ["received", "ended"])
async def test_a_receiver_that_raises_loses_its_own_stream_only(reactor: Reactor, call: str) -> None:
    async with open_session() as session:
        (bad, bad_ear), (good, _) = session.open(), session.open()
        bad.put(b"x")
        good.put(b"x")
        await settle()
        clumsy = session.streams[0].receiver = Clumsy(call)
        bad.put(b"x")
        bad.end()
        good.put(b"x")
        await bad_ear.is_over()
        assert isinstance(bad_ear.error, ConnectionResetError)
        assert isinstance(clumsy.broken_off, KeyError)
        assert await session.ears[1].heard(2) == b"xx"
        assert reactor.internal_errors == {"stream": 1}


@pytest.mark.parametrize("call", ["drained", "lost"])
async def test_one_that_raises_when_many_are_told_does_not_keep_the_others_from_hearing(
    reactor: Reactor, call: str
) -> None:
    async with open_session() as session:
        opened = [session.open() for _ in range(5)]
        for stream, _ in opened:
            stream.put(b"x")
        await settle()
        clumsy = opened[2][0].receiver = Clumsy(call)
        others = [ear for number, (_, ear) in enumerate(opened) if number != 2]
        if call == "lost":
            session.agent_connection.abort()
            for ear in others:
                await ear.is_lost()
        else:
            session.node.waiting = {stream for stream, _ in opened}
            session.node.drained()
            assert [ear.drains for ear in others] == [1, 1, 1, 1]
            assert isinstance(clumsy.broken_off, KeyError)
            assert session.node.alive
        await settle()
        assert reactor.internal_errors == {call: 1}


async def test_a_session_that_answers_no_ping_is_dead(reactor: Reactor) -> None:
    near, far = pair()
    session = Session(carried(Connection(near), client=False), accepts=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        await settle()
        session.expired()  # the answer to the first ping is overdue
    far.close()
    assert isinstance(session.error, TimeoutError)


async def test_the_round_trip_is_measured(reactor: Reactor) -> None:
    async with open_session() as session:
        await session.node.round_trip_done()
        assert 0 < session.node.round_trip < 10


@pytest.mark.parametrize(
    ("frame", "close_code"),
    [
        (b"\x82\x02ab", 1002),  # from a client, and not masked
        (b"\x81\x81\0\0\0\0a", 1003),  # text
        (b"\x82\xff" + (2**40).to_bytes(8, "big") + b"\0\0\0\0", 1009),
        (b"\x82\x8c\0\0\0\0" + b"\x01" + bytes(11), 1002),  # yamux version 1
        (b"\x82\x8c\0\0\0\0" + yamux.header(yamux.DATA, yamux.SYN, 1, 0), 1002),  # agents open no streams
        (b"\x82\x8c\0\0\0\0" + yamux.header(yamux.DATA, 0, 2, 5), 1002),  # nobody opened that
    ],
    ids=["unmasked", "text", "too large", "version", "SYN from the agent", "unknown stream"],
)
async def test_what_breaks_the_protocol_ends_the_session_with_a_code(
    reactor: Reactor, frame: bytes, close_code: int
) -> None:
    near, far = pair()
    session = Session(carried(Connection(near), client=False), accepts=False)
    far.sendall(frame)
    heard = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        await settle()
        far.settimeout(5)
        with far:
            while more := far.recv(65536):
                heard += more
    events = WebSocket(client=True).receive(memoryview(heard))
    assert events[-1].opcode == websocket.CLOSE
    assert websocket.close_reason(events[-1].data)[0] == close_code


async def test_streams_that_a_node_opens_and_resets_at_once_do_not_end_its_session(reactor: Reactor) -> None:
    """The resets are those of a node's clients, strangers, who must not be able to take an agent away."""
    async with open_session() as session:
        for _ in range(20):
            for _ in range(MAX_PENDING):
                stream, _ = session.open()
                stream.put(b"x")
                stream.abort()
            await settle()
        assert session.agent.alive
        assert not session.agent.mux.streams
        assert session.node.mux.pending == 0


async def test_streams_that_nobody_reads_cost_themselves_and_never_their_session(reactor: Reactor) -> None:
    async with open_session() as session:
        stuck = [session.open() for _ in range(6)]
        well, _ = session.open()
        await settle()
        for stream in session.streams[:6]:
            stream.pause()
        for stream, _ in stuck:
            stream.put(LARGE)  # 60 MB together, of 32 MiB that the streams of a session may keep
        await settle()
        assert any(isinstance(ear.error, Overdrawn) for _, ear in stuck)
        assert not all(ear.error for _, ear in stuck)
        well.put(LARGE[:1_000_000])
        assert await session.ears[6].heard(1_000_000) == LARGE[:1_000_000]
        assert session.node.alive
        assert session.agent.alive
        for stream, _ in stuck:
            stream.abort()
        await settle()
        assert session.node_connection.account.used == 0


async def test_behind_a_full_socket_streams_wait_for_their_turn_and_keep_their_order(reactor: Reactor) -> None:
    async with open_session() as session:
        opened = [session.open() for _ in range(5)]
        await settle()
        session.agent_connection.pause()
        for number, (stream, _) in enumerate(opened):
            for part in range(0, 200_000, 50_000):
                stream.put(LARGE[number + part : number + part + 50_000])
            stream.end()
        await settle()
        assert session.node_connection.backlog < 1_000_000
        session.agent_connection.resume()
        for number, ear in enumerate(session.ears):
            assert await ear.heard(200_000) == LARGE[number : number + 200_000]
            await ear.is_over()
