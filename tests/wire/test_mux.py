"""yamux sessions: frames as the specification has them, windows, both ends joined, and what a hostile end may
send."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import cycle, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.errors import YamuxError
from engine.wire import mux, yamux
from engine.wire.mux import Mux, StreamState
from engine.wire.yamux import ACK, DATA, FIN, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE, header

Said = tuple[int, int | None, bytes | int]


def node_end() -> Mux[StreamState]:
    return Mux(client=False, accepts=False, new_stream=StreamState)


def agent_end() -> Mux[StreamState]:
    return Mux(client=True, accepts=True, new_stream=StreamState)


def said(end: Mux[StreamState], data: bytes) -> list[Said]:
    """What `end` makes of `data`, with streams by their id and payload that came in pieces put together."""
    events: list[Said] = []
    for what, stream, value in end.receive(memoryview(data)):
        add(events, what, None if stream is None else stream.id, value)
    return events


def add(events: list[Said], what: int, stream_id: int | None, value: memoryview | bytes | int) -> None:
    if not isinstance(value, int):
        value = bytes(value)
        if events and events[-1][:2] == (what, stream_id):
            before = events.pop()[2]
            assert isinstance(before, bytes)
            value = before + value
    events.append((what, stream_id, value))


def opened(end: Mux[StreamState], stream_id: int = 2) -> StreamState:
    assert said(end, header(WINDOW_UPDATE, SYN, stream_id, 0)) == [(mux.OPENED, stream_id, 0)]
    return end.streams[stream_id]


# The life of a stream


def test_a_header_is_twelve_bytes_as_hashicorp_has_them() -> None:
    assert header(WINDOW_UPDATE, SYN | ACK, 0x01020304, 0x0A0B0C0D) == bytes.fromhex("0001 0003 01020304 0a0b0c0d")


def test_the_first_frame_opens_and_the_first_answer_accepts_whatever_frames_they_are() -> None:
    node, agent = node_end(), agent_end()
    stream = node.open()
    assert (stream.id, node.pending) == (2, 0)
    first = node.data(stream, 5)
    assert first == header(DATA, SYN, 2, 5)
    assert node.pending == 1
    assert said(agent, first + b"hello") == [(mux.OPENED, 2, 0), (mux.RECEIVED, 2, b"hello")]
    assert node.data(stream, 0) == header(DATA, 0, 2, 0)
    answer = agent.grant(agent.streams[2], 5)
    assert answer == header(WINDOW_UPDATE, ACK, 2, 5)
    assert agent.data(agent.streams[2], 0) == header(DATA, 0, 2, 0)
    assert said(node, answer) == [(mux.ACKED, 2, 0), (mux.GRANTED, 2, 0)]
    assert (node.pending, stream.send_window) == (0, INITIAL_WINDOW)


def test_the_server_opens_even_ids_and_the_client_odd_ones() -> None:
    assert [node_end().open().id for _ in range(2)] == [2, 2]
    client = agent_end()
    assert [client.open().id for _ in range(3)] == [1, 3, 5]


def test_ids_run_out() -> None:
    node = node_end()
    node._next_id = yamux.MAX_STREAM_ID - 1
    assert node.open().id == yamux.MAX_STREAM_ID - 1
    with pytest.raises(OverflowError):
        node.open()


def test_each_direction_ends_by_itself() -> None:
    node, agent = node_end(), agent_end()
    stream = node.open()
    assert said(agent, node.end(stream)) == [(mux.OPENED, 2, 0), (mux.ENDED, 2, 0)]
    theirs = agent.streams[2]
    assert said(node, agent.data(theirs, 2) + b"ok") == [(mux.ACKED, 2, 0), (mux.RECEIVED, 2, b"ok")]
    assert said(node, agent.end(theirs)) == [(mux.ENDED, 2, 0)]
    assert stream.gone
    assert theirs.gone
    assert not node.streams
    assert not agent.streams


@pytest.mark.parametrize("size", [0, 3])
def test_a_fin_on_a_data_frame_counts_behind_its_payload(size: int) -> None:
    agent = agent_end()
    opened(agent)
    frame = header(DATA, FIN, 2, size) + b"x" * size
    heard: list[Said] = []
    for at in range(len(frame)):
        heard += said(agent, frame[at : at + 1])
    assert heard == [(mux.RECEIVED, 2, b"x")] * size + [(mux.ENDED, 2, 0)]


def test_an_end_counts_once() -> None:
    agent = agent_end()
    opened(agent)
    fin = header(WINDOW_UPDATE, FIN, 2, 0)
    assert said(agent, fin + fin + header(DATA, FIN, 2, 0)) == [(mux.ENDED, 2, 0)]


def test_a_reset_takes_the_stream_away_at_both_ends() -> None:
    node, agent = node_end(), agent_end()
    stream = node.open()
    assert said(agent, node.data(stream, 1) + b"x" + node.reset(stream))[-1] == (mux.RESET, 2, 0)
    assert not node.streams
    assert not agent.streams
    assert node.pending == 0


def test_a_stream_that_nobody_heard_of_is_reset_without_a_frame() -> None:
    node = node_end()
    assert node.reset(node.open()) == b""
    assert not node.streams
    assert node.pending == 0


def test_an_accepting_reset_says_both() -> None:
    node, agent = node_end(), agent_end()
    stream = node.open()
    said(agent, node.data(stream, 0))
    refusal = agent.reset(agent.streams[2])
    assert refusal == header(WINDOW_UPDATE, ACK | RST, 2, 0)
    assert said(node, refusal) == [(mux.ACKED, 2, 0), (mux.RESET, 2, 0)]
    assert (node.pending, stream.gone) == (0, True)


def test_what_is_under_way_for_a_stream_that_is_gone_is_skipped() -> None:
    agent = agent_end()
    stream = opened(agent)
    late = header(DATA, 0, 2, 100) + b"x" * 100
    assert said(agent, late[:50]) == [(mux.RECEIVED, 2, b"x" * 38)]
    agent.reset(stream)
    rest = late[50:] + late + header(WINDOW_UPDATE, FIN, 2, 9) + header(WINDOW_UPDATE, RST, 2, 0)
    assert said(agent, rest + header(PING, SYN, 0, 7)) == [(mux.PINGED, None, 7)]


def test_payload_is_passed_on_as_a_view_of_what_came() -> None:
    agent = agent_end()
    opened(agent)
    data = memoryview(header(DATA, 0, 2, 200_000) + b"x" * 150_000)
    [(what, _, value)] = agent.receive(data)
    assert what == mux.RECEIVED
    assert isinstance(value, memoryview)
    assert (len(value), value.obj is data.obj) == (150_000, True)


def test_session_frames_are_told_and_answered() -> None:
    node, agent = node_end(), agent_end()
    assert said(agent, node.ping(7)) == [(mux.PINGED, None, 7)]
    assert said(node, agent.pong(7)) == [(mux.PONGED, None, 7)]
    assert said(agent, node.go_away()) == [(mux.WENT_AWAY, None, yamux.NORMAL)]
    assert said(agent, node.go_away(yamux.INTERNAL_ERROR)) == [(mux.WENT_AWAY, None, yamux.INTERNAL_ERROR)]


# Windows


def test_a_window_is_used_up_by_data_and_grown_by_grants() -> None:
    node, agent = node_end(), agent_end()
    stream = node.open()
    said(agent, node.data(stream, INITIAL_WINDOW) + bytes(INITIAL_WINDOW))
    theirs = agent.streams[2]
    assert (stream.send_window, theirs.receive_window) == (0, 0)
    assert said(node, agent.grant(theirs, 1 << 24))[-1] == (mux.GRANTED, 2, 0)
    assert stream.send_window == theirs.receive_window == 1 << 24


def test_an_empty_grant_is_no_news() -> None:
    agent = agent_end()
    opened(agent)
    assert said(agent, header(WINDOW_UPDATE, 0, 2, 0)) == []


# What is refused


@pytest.mark.parametrize(
    "frames",
    [
        [b"\x01" + header(DATA, 0, 2, 0)[1:]],
        [header(4, 0, 0, 0)],
        [header(255, 0, 0, 0)],
        [header(DATA, 0, 0, 5)],
        [header(DATA, SYN, 0, 0)],
        [header(WINDOW_UPDATE, SYN, 0, 0)],
        [header(WINDOW_UPDATE, 0, 0, 1)],
        [header(WINDOW_UPDATE, SYN, 1, 0)],
        [header(WINDOW_UPDATE, SYN, 3, 0)],
        [header(WINDOW_UPDATE, SYN, 2, 0)] * 2,
        [header(WINDOW_UPDATE, SYN, 2, 0), header(DATA, SYN, 2, 0)],
        [
            header(WINDOW_UPDATE, SYN, 2, 0),
            header(WINDOW_UPDATE, RST, 2, 0),
            header(WINDOW_UPDATE, SYN, 2, 0),
        ],
        [header(DATA, 0, 2, 0)],
        [header(WINDOW_UPDATE, 0, 4, 0)],
        [header(WINDOW_UPDATE, RST, 4, 0)],
        [header(WINDOW_UPDATE, ACK, 1, 0)],
        [header(WINDOW_UPDATE, SYN, 4, 0), header(DATA, 0, 2, 0)],
        [header(DATA, SYN, 2, INITIAL_WINDOW + 1)],
        [header(DATA, SYN, 2, 2**32 - 1)],
        [header(WINDOW_UPDATE, SYN, 2, 0), header(DATA, 0, 2, INITIAL_WINDOW + 1)],
        [header(DATA, SYN, 2, INITIAL_WINDOW) + bytes(INITIAL_WINDOW), header(DATA, 0, 2, 1)],
        [header(WINDOW_UPDATE, SYN, 2, 2**32 - 1)],
        [header(WINDOW_UPDATE, SYN, 2, 2**31), header(WINDOW_UPDATE, 0, 2, 2**31)],
        [header(WINDOW_UPDATE, SYN | FIN, 2, 0), header(DATA, 0, 2, 1)],
    ],
)
def test_a_frame_outside_the_protocol_ends_the_session(frames: list[bytes]) -> None:
    data = b"".join(frames)
    for parts in (
        [data],
        [data[at : at + 1] for at in range(len(data))] if len(data) < 100 else [data[:-5], data[-5:]],
    ):
        agent = agent_end()
        with pytest.raises(YamuxError) as caught:  # noqa: PT012, any of the parts may be the one
            for part in parts:
                said(agent, part)
        assert caught.value.code == yamux.PROTOCOL_ERROR


def test_an_end_that_accepts_nothing_takes_every_syn_for_an_error() -> None:
    for stream_id in 1, 2, 3:
        with pytest.raises(YamuxError):
            said(node_end(), header(WINDOW_UPDATE, SYN, stream_id, 0))


def test_an_overlong_frame_is_refused_at_its_header() -> None:
    agent = agent_end()
    opened(agent)
    with pytest.raises(YamuxError):
        said(agent, header(DATA, 0, 2, 2**32 - 1))


def test_syns_may_overtake_one_another() -> None:
    # hashicorp draws the id first and races to the wire then, so this is what a busy Go node sends.
    agent = agent_end()
    for stream_id in 6, 2, 8, 4:
        opened(agent, stream_id)
    assert sorted(agent.streams) == [2, 4, 6, 8]
    for stream_id in 2, 4, 6, 8:
        with pytest.raises(YamuxError):
            said(agent, header(WINDOW_UPDATE, SYN, stream_id, 0))


def test_our_own_streams_may_be_used_in_another_order_than_they_were_opened() -> None:
    node, agent = node_end(), agent_end()
    streams = [node.open() for _ in range(3)]
    for stream in reversed(streams):
        assert said(agent, node.data(stream, 1) + b"x")[0] == (mux.OPENED, stream.id, 0)


def test_ids_left_out_are_remembered_as_far_as_they_can_be_under_way() -> None:
    agent = agent_end()
    opened(agent, 1_000_000_000)
    opened(agent, 2_000_000_000)
    assert len(agent._skipped) == mux.MAX_PENDING
    opened(agent, 2_000_000_000 - 2 * mux.MAX_PENDING)
    with pytest.raises(YamuxError):
        said(agent, header(WINDOW_UPDATE, SYN, 2, 0))


# Splits and noise

STREAM_IDS = st.sampled_from([0, 1, 2, 3, 4, 6, 2**32 - 1])
LENGTHS = st.one_of(st.integers(0, 40), st.sampled_from([INITIAL_WINDOW, INITIAL_WINDOW + 1, 2**31, 2**32 - 1]))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    kind = draw(st.integers(0, 4))
    length = draw(LENGTHS)
    frame = header(kind, draw(st.integers(0, 15)), draw(STREAM_IDS), length)
    return frame + bytes(length) if kind == DATA and length <= 40 else frame


@st.composite
def sessions(draw: st.DrawFn) -> bytes:
    return header(WINDOW_UPDATE, SYN, 2, 0) + b"".join(draw(st.lists(frames(), max_size=12)))


def outcome(parts: list[bytes]) -> tuple[list[Said], str]:
    """What an agent hears in parts: its events (payload put together over the parts) and how it ended."""
    agent = agent_end()
    events: list[Said] = []
    try:
        for part in parts:
            for event in said(agent, part):
                add(events, *event)
    except YamuxError as error:
        return events, str(error)
    finally:
        # Nothing is kept but a cut header and the states of streams that were announced.
        assert len(agent._header) < yamux.HEADER_SIZE
        assert len(agent.streams) <= sum(map(len, parts)) // yamux.HEADER_SIZE
        assert len(agent._skipped) <= mux.MAX_PENDING
    return events, ""


@settings(max_examples=300)
@given(sessions(), st.lists(st.integers(0, 600), max_size=8))
def test_any_split_of_a_session_means_the_same(data: bytes, places: list[int]) -> None:
    at = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    cut = outcome([data[a:b] for a, b in pairwise(at)])
    singly = outcome([data[at : at + 1] for at in range(len(data))])
    assert cut[1] == singly[1]
    if not cut[1]:
        assert cut == singly == outcome([data])


def outcome_in_turns(data: bytes, reads: Iterator[int], limits: Iterator[int]) -> tuple[list[Said], str]:
    """What an agent hears when it takes no more frames at a time than the next of `limits`."""
    agent = agent_end()
    events: list[Said] = []
    waiting = b""
    try:
        while data or waiting:
            size, limit = next(reads), next(limits)
            waiting, data = waiting + data[:size], data[size:]
            before = len(events)
            for what, stream, value in agent.receive(memoryview(waiting), limit):
                add(events, what, None if stream is None else stream.id, value)
            assert len(events) - before <= 5 * limit + 2, "a frame means a few things at most"
            waiting = waiting[agent.taken :]
    except YamuxError as error:
        return events, str(error)
    return events, ""


@settings(max_examples=300)
@given(
    sessions(),
    st.lists(st.integers(0, 60), min_size=1, max_size=6).map(lambda sizes: [*sizes, 20]),
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
)
def test_any_limit_of_frames_gives_the_same_events(data: bytes, reads: list[int], limits: list[int]) -> None:
    in_turns = outcome_in_turns(data, cycle(reads), cycle(limits))
    whole = outcome([data])
    assert in_turns[1] == whole[1]
    if not whole[1]:
        assert in_turns == whole


@given(st.binary(max_size=300))
def test_noise_is_events_or_a_protocol_error(data: bytes) -> None:
    outcome([data])
    outcome([header(WINDOW_UPDATE, SYN, 2, 0) + data])


# Both ends joined

PERIOD = 4093
PATTERN = random.Random(1).randbytes(PERIOD) * 110


def words(side: int, stream_id: int, place: int, size: int) -> bytes:
    """What `side` says on a stream from byte `place` on."""
    start = (place + 7 * stream_id + 1000 * side) % PERIOD
    return PATTERN[start : start + size]


class Joined(RuleBasedStateMachine):
    """A node and an agent, and the bytes between them, which arrive when and in pieces as Hypothesis likes.

    Checked: each end hears exactly what the other said, in order and never more than was granted; FIN comes
    behind the last byte; a reset ends both; and when nothing is under way, both ends agree on windows and on
    what lives.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends = (node_end(), agent_end())
        self.wires = (bytearray(), bytearray())  # written by node, by agent
        self.sent: defaultdict[tuple[int, int], int] = defaultdict(int)  # (side, stream) -> bytes
        self.heard: defaultdict[tuple[int, int], int] = defaultdict(int)  # by the other side
        self.ended: set[tuple[int, int]] = set()
        self.heard_end: set[tuple[int, int]] = set()
        self.reset: set[int] = set()
        self.unanswered: list[tuple[int, int]] = []  # pings: who asked, with what

    def pick(self, side: int, number: int, *, speaking: bool = False) -> StreamState | None:
        streams = [s for s in self.ends[side].streams.values() if not (speaking and s.ended_here)]
        return streams[number % len(streams)] if streams else None

    side = st.integers(0, 1)
    number = st.integers(0, 1000)

    @rule()
    def open(self) -> None:
        if self.ends[0].pending < 20:
            self.ends[0].open()

    @rule(side=side, number=number, size=st.one_of(st.integers(0, 50), st.integers(0, 400_000)))
    def say(self, side: int, number: int, size: int) -> None:
        if stream := self.pick(side, number, speaking=True):
            size = min(size, stream.send_window)
            said = words(side, stream.id, self.sent[side, stream.id], size)
            self.wires[side].extend(self.ends[side].data(stream, size) + said)
            self.sent[side, stream.id] += size

    @rule(side=side, number=number, size=st.integers(1, 1_000_000))
    def grant(self, side: int, number: int, size: int) -> None:
        if stream := self.pick(side, number):
            self.wires[side].extend(self.ends[side].grant(stream, size))

    @rule(side=side, number=number)
    def end(self, side: int, number: int) -> None:
        if stream := self.pick(side, number, speaking=True):
            self.wires[side].extend(self.ends[side].end(stream))
            self.ended.add((side, stream.id))

    @rule(side=side, number=number)
    def abort(self, side: int, number: int) -> None:
        if stream := self.pick(side, number):
            self.wires[side].extend(self.ends[side].reset(stream))
            self.reset.add(stream.id)

    @rule(side=side, value=st.integers(0, 2**32 - 1))
    def ping(self, side: int, value: int) -> None:
        self.wires[side].extend(self.ends[side].ping(value))
        self.unanswered.append((side, value))

    @rule(side=side, size=st.one_of(st.integers(1, 30), st.integers(1, 500_000)))
    def deliver(self, side: int, size: int) -> None:
        """Some of what `side` wrote arrives."""
        wire = self.wires[side]
        data = bytes(wire[:size])
        del wire[:size]
        other = 1 - side
        for what, stream, value in self.ends[other].receive(memoryview(data)):
            if stream is None:
                assert isinstance(value, int)
                if what == mux.PINGED:
                    self.wires[other].extend(self.ends[other].pong(value))
                else:
                    assert what == mux.PONGED
                    self.unanswered.remove((other, value))
            elif what == mux.RECEIVED:
                assert isinstance(value, memoryview)
                assert (side, stream.id) not in self.heard_end
                assert value == words(side, stream.id, self.heard[side, stream.id], len(value))
                self.heard[side, stream.id] += len(value)
            elif what == mux.ENDED:
                assert (side, stream.id) in self.ended
                assert self.heard[side, stream.id] == self.sent[side, stream.id]
                self.heard_end.add((side, stream.id))
            elif what == mux.RESET:
                assert stream.id in self.reset
            else:
                assert what in (mux.OPENED, mux.ACKED, mux.GRANTED)

    @invariant()
    def books_balance(self) -> None:
        node, agent = self.ends
        assert node.pending == sum(s.state and not s.acked for s in node.streams.values())
        for end in self.ends:
            assert all(s.send_window >= 0 and s.receive_window >= 0 for s in end.streams.values())
        if any(self.wires):
            return
        assert not self.unanswered
        known = {s.id: s for s in node.streams.values() if s.state}
        assert known.keys() == agent.streams.keys()
        for stream_id, ours in known.items():
            theirs = agent.streams[stream_id]
            assert ours.send_window == theirs.receive_window
            assert theirs.send_window == ours.receive_window
            for side in 0, 1:
                assert self.heard[side, stream_id] == self.sent[side, stream_id]
                assert ((side, stream_id) in self.ended) == ((side, stream_id) in self.heard_end)

    def teardown(self) -> None:
        while any(self.wires):
            for side in 0, 1:
                if self.wires[side]:
                    self.deliver(side, len(self.wires[side]))
        self.books_balance()
        for side, stream_id in self.ended:
            if stream_id not in self.reset:
                assert self.heard[side, stream_id] == self.sent[side, stream_id]


TestJoined = Joined.TestCase
TestJoined.settings = settings(max_examples=60, stateful_step_count=60)
