"""Sessions that go on with another carrier: no byte is lost and none comes twice, whatever the carriers lose.

The carriers here are in memory, for no network shows these orders on purpose: what was put on one is delivered when a
test says so, and as much of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.carriers import resumable
from engine.carriers.carrier import Kind
from engine.carriers.resumable import EXCESS, FAR_LIMIT, LIMIT, Resumable, State
from engine.errors import YamuxError
from engine.loop.connection import Address
from engine.loop.duplex import NOBODY, Bytes, Receiver
from engine.loop.memory import Account
from engine.loop.reactor import Reactor, current
from engine.wire import yamux
from tests.roles import settle

MOST = LIMIT + EXCESS
ID = b"0123456789abcdef0123456789abcdef"
SECONDS = 30.0


class Line:
    """One way of a carrier in memory, and its end: `said` waits until it is delivered, or is lost."""

    kind = Kind.POLL
    peer: Address = ("memory", 1)
    farewell = ""
    backlog = 0
    room = 1 << 16

    def __init__(self) -> None:
        self.receiver: Receiver = NOBODY
        self.account = Account(current.get().memory, self)
        self.said = b""
        self.full = False
        self.paused = False
        self.over = ""
        self.fails_when_put = False

    def put(self, *parts: Bytes) -> bool:
        if self.fails_when_put and not self.over:
            self.over = "failed"
            self.receiver.lost(ConnectionResetError("does not take it"))
        if not self.over:
            self.said += b"".join(parts)
        return not self.full

    def end(self) -> None:
        self.close()

    def close(self) -> None:
        self._leave("closed")

    def bid_farewell(self, code: int, reason: str) -> None:
        self._leave(f"{code} {reason}")

    def abort(self) -> None:
        self._leave("aborted")

    def fail(self, error: Exception) -> None:
        receiver = self.receiver
        self._leave("failed")
        receiver.lost(error)

    def _leave(self, how: str) -> None:
        self.over = self.over or how
        self.receiver = NOBODY

    def read_at_most(self, size: int) -> None: ...

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def overdrawn(self) -> None: ...

    async def run(self) -> None: ...

    def deliver(self, other: Line, size: int) -> None:
        """Up to `size` bytes arrive at the other end; what its receiver does not take yet stays under way."""
        taken = other.receiver.received(memoryview(self.said[:size]))
        self.said = self.said[taken:]


class Party:
    """A session's end, in as much as it matters here: says frames of data, and hears them and confirmations."""

    idle = False

    def __init__(self, seconds: float = SECONDS) -> None:
        self.line = Line()
        self.resumable = Resumable(self.line, ID, seconds)
        self.resumable.receiver = self
        self.said = b""
        self.heard = b""
        self.takes = 1 << 30  # at once
        self.confirms = True
        self.drains = 0
        self.ends = 0
        self.losses: list[Exception] = []
        self._buffer = b""

    def say(self, size: int) -> bool:
        """A frame of data, whose bytes tell where they stand."""
        data = bytes((at * 7 + at // 256) % 256 for at in range(len(self.said), len(self.said) + size))
        self.said += data
        return self.resumable.put(yamux.header(yamux.DATA, 0, 2, size), memoryview(data))

    def received(self, data: memoryview) -> int:
        taken = min(len(data), self.takes)
        self._buffer += data[:taken]
        while len(self._buffer) >= yamux.HEADER_SIZE:
            kind, length = self._buffer[1], int.from_bytes(self._buffer[8:12], "big")
            if kind == yamux.CONFIRM:
                if self.confirms:
                    self.resumable.confirmed(length)
                length = 0
            elif len(self._buffer) < yamux.HEADER_SIZE + length:
                break
            else:
                self.heard += self._buffer[yamux.HEADER_SIZE : yamux.HEADER_SIZE + length]
            self._buffer = self._buffer[yamux.HEADER_SIZE + length :]
        return taken

    def ended(self) -> None:
        self.ends += 1

    def lost(self, error: Exception) -> None:
        self.losses.append(error)

    def drained(self) -> None:
        self.drains += 1

    def break_off(self, error: Exception) -> None:
        self.losses.append(error)


class Pair:
    """Two ends, and what is between them."""

    def __init__(self) -> None:
        self.near, self.far = Party(), Party()

    def deliver(self, way: int, size: int = 1 << 30) -> None:
        here, there = (self.near, self.far) if way == 0 else (self.far, self.near)
        if not here.line.over and not there.line.over:
            here.line.deliver(there.line, size)

    def cut(self, noticed: int = 3) -> None:
        """What is under way is lost; who has `noticed` it: 1 the near end, 2 the far, 3 both."""
        for bit, party in ((1, self.near), (2, self.far)):
            party.line.said = b""
            if noticed & bit and not party.line.over:
                party.line.fail(ConnectionResetError("cut"))
            party.line.over = "cut"

    def resume(self) -> None:
        """As an agent and a node do it; the node need not have noticed that the carrier was lost."""
        wish = self.near.resumable.wish()
        received = self.far.resumable.received_bytes
        self.far.line = Line()
        self.far.resumable.attach(self.far.line, wish.received)
        self.near.line = Line()
        self.near.resumable.attach(self.near.line, received)

    def resume_in_vain(self) -> None:
        """The node has its next carrier, and its answer does not arrive."""
        wish = self.near.resumable.wish()
        self.far.line = Line()
        self.far.resumable.attach(self.far.line, wish.received)
        self.far.line.said = b""
        self.far.line.over = "cut"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Confirmations and limits of a size that a test comes to."""
    _shrink(monkeypatch)


def _shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "ALONG_BYTES", 50)
    monkeypatch.setattr(resumable, "CONFIRM_BYTES", 100)
    monkeypatch.setattr(resumable, "LIMIT", 800)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 1), st.integers(0, 300)),
        st.tuples(st.just("deliver"), st.integers(0, 1), st.integers(0, 400)),
        st.tuples(st.just("take"), st.integers(0, 1), st.integers(0, 50)),
        st.tuples(st.just("flush"), st.just(0), st.just(0)),
        st.tuples(st.just("confirm along"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("cut"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("cut, and resume in vain"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("a better carrier"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@pytest.mark.parametrize("base", [0, yamux.CONFIRM_WRAP - 700])
@given(STEPS)
@settings(max_examples=60)
def test_every_byte_arrives_once_whatever_is_cut_and_when(base: int, steps: list[tuple[str, int, int]]) -> None:
    async def run() -> None:
        reactor = Reactor()
        current.set(reactor)
        pair = Pair()
        parties = (pair.near, pair.far)
        for party in parties:  # as if so much had been said and confirmed already
            party.resumable.retained.sent = party.resumable.retained.confirmed = base
            party.resumable.received_bytes = base
            party.resumable._told()
        for what, which, size in steps:
            if what == "say":
                parties[which].say(size)
            elif what == "deliver":
                pair.deliver(which, size)
            elif what == "take":
                parties[which].takes = size or 1 << 30
            elif what == "flush":
                reactor.flush()
            elif what == "confirm along":
                parties[which].resumable.confirm_along()
            elif what == "a better carrier":
                pair.resume()
            else:
                pair.cut(which)
                if "vain" in what:
                    pair.resume_in_vain()
                pair.resume()
            for here, there in (parties, parties[::-1]):
                assert there.said.startswith(here.heard)
                assert here.resumable.retained.size == here.resumable.account.used
        pair.cut()
        pair.resume()
        while any(party.said != other.heard for party, other in (parties, parties[::-1])):
            for party in parties:
                party.takes = 1 << 30
            before = [len(party.heard) for party in parties]
            pair.deliver(0)
            pair.deliver(1)
            assert before != [len(party.heard) for party in parties], "nothing more comes"
        for party in parties:
            assert party.losses == []
            party.resumable.close()
        assert reactor.memory.used == 0
        reactor.close()

    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        trio.run(run)


@pytest.fixture
def pair(reactor: Reactor) -> Iterator[Pair]:
    """Two ends; what they hold is let go in the end."""
    made = Pair()
    yield made
    for party in (made.near, made.far):
        party.resumable.abort()
    assert reactor.memory.used == 0


# -- Back-pressure


async def test_who_says_more_than_is_confirmed_is_held_back_until_it_is(pair: Pair, small: None) -> None:
    while pair.near.say(100):
        pass
    assert pair.near.resumable.retained.size >= 800
    drains = pair.near.drains
    pair.deliver(0)
    await settle()  # the far end confirms behind the turn
    assert pair.near.drains == drains
    pair.deliver(1)
    assert pair.near.drains == drains + 1
    assert not pair.near.resumable.full
    assert pair.near.say(100)


async def test_who_was_held_back_while_suspended_goes_on_when_it_is_over(pair: Pair, small: None) -> None:
    pair.cut()
    assert not pair.near.say(10), "it is kept, and does not leave"
    while not pair.near.resumable.full:
        pair.near.say(100)
    pair.resume()
    assert pair.near.drains == 0, "what was kept is not confirmed yet"
    pair.deliver(0)
    await settle()
    pair.deliver(1)
    assert pair.near.drains == 1
    assert pair.far.heard == pair.near.said


async def test_a_full_carrier_holds_back_as_well(pair: Pair) -> None:
    pair.near.line.full = True
    assert not pair.near.say(10)
    assert pair.near.resumable.full
    pair.near.line.full = False
    pair.near.line.receiver.drained()
    assert pair.near.drains == 1


# -- Confirmations


@pytest.mark.parametrize(
    ("round_trip", "limit"), [(0.0, LIMIT), (0.001, LIMIT), (0.01, 6_400_000), (0.1, FAR_LIMIT), (60.0, FAR_LIMIT)]
)
async def test_where_a_round_trip_is_long_more_may_be_under_way(pair: Pair, round_trip: float, limit: int) -> None:
    pair.near.resumable.reach(round_trip)
    while pair.near.say(100_000):
        pass
    assert limit <= pair.near.resumable.retained.size < limit + 101_000


async def test_however_little_has_come_it_is_confirmed_along_with_what_is_said(pair: Pair) -> None:
    pair.near.say(100)
    pair.deliver(0)
    pair.far.say(100)
    pair.deliver(1)
    assert pair.near.resumable.retained.size == 100 + yamux.HEADER_SIZE
    pair.far.resumable.confirm_along()
    pair.far.say(100)
    pair.deliver(1)
    assert pair.near.resumable.retained.size == 0


async def test_what_was_never_said_cannot_be_confirmed(pair: Pair) -> None:
    pair.near.say(100)
    with pytest.raises(YamuxError):
        pair.near.resumable.confirmed(100 + yamux.HEADER_SIZE + 1)


async def test_what_was_confirmed_before_is_no_news(pair: Pair) -> None:
    pair.near.say(100)
    pair.near.resumable.confirmed(112)
    pair.near.resumable.confirmed(50)
    assert pair.near.resumable.retained.size == 0


async def test_who_confirms_nothing_and_has_us_say_more_and_more_is_ended(pair: Pair, reactor: Reactor) -> None:
    pongs = b"\0" * yamux.HEADER_SIZE * 1000
    while not pair.near.losses:
        assert reactor.memory.used <= 2 * MOST
        pair.near.resumable.put(pongs)
        pair.near.line.said = b""
        if pair.near.resumable.retained.size > MOST:
            await settle()
    assert reactor.memory.used == 0
    assert pair.near.resumable.state is State.CLOSED
    assert pair.near.line.over == "aborted"


async def test_who_confirms_at_the_last_moment_is_not_ended(pair: Pair) -> None:
    pair.near.resumable.put(bytes(MOST + 1))
    pair.near.resumable.confirmed(MOST)
    await settle()
    assert pair.near.losses == []
    assert pair.near.resumable.state is State.CARRIED


async def test_who_holds_most_for_longest_is_ended_when_memory_runs_short(pair: Pair, reactor: Reactor) -> None:
    pair.near.say(LIMIT)
    reactor.memory.limit = LIMIT // 2
    reactor.memory.reclaim()
    assert len(pair.near.losses) == 1
    assert reactor.memory.used == 0


# -- Another carrier


@pytest.mark.parametrize("received", [-1, 50, 113, 1 << 40])
async def test_a_count_that_cannot_be_changes_nothing(pair: Pair, received: int) -> None:
    pair.near.say(100)
    pair.deliver(0, 51)
    pair.near.resumable.confirmed(51)
    pair.cut()
    line = Line()
    with pytest.raises(ValueError, match="confirmed"):
        pair.near.resumable.attach(line, received)
    assert pair.near.resumable.state is State.SUSPENDED
    assert line.said == b""
    pair.resume()
    pair.deliver(0)
    assert pair.far.heard == pair.near.said


async def test_the_carrier_before_is_broken_and_not_heard_any_more(pair: Pair) -> None:
    before = pair.far.line
    pair.near.say(10)
    late = pair.near.line.said
    pair.resume()
    assert before.over == "aborted"
    assert before.receiver is NOBODY
    before.receiver.received(memoryview(late))
    pair.deliver(0)
    assert pair.far.heard == pair.near.said


async def test_behind_a_wish_nothing_is_taken_from_the_present_carrier(pair: Pair) -> None:
    pair.far.say(100)
    wish = pair.near.resumable.wish()
    pair.deliver(1)  # what a connection says last comes even if it is paused
    assert pair.near.heard == b""
    assert wish.received == pair.near.resumable.received_bytes == 0
    pair.near.resumable.resume()
    assert not pair.near.line.paused
    pair.deliver(1)
    assert pair.near.heard == pair.far.said


async def test_each_wish_is_another(pair: Pair) -> None:
    wishes = [pair.near.resumable.wish().generation for _ in range(3)]
    assert wishes == [1, 2, 3]


async def test_a_carrier_that_fails_at_once_leaves_it_suspended(pair: Pair) -> None:
    pair.near.say(100)
    pair.cut()
    line = Line()
    line.fails_when_put = True
    pair.near.resumable.attach(line, 0)
    assert pair.near.resumable.state is State.SUSPENDED
    pair.resume()
    pair.deliver(0)
    assert pair.far.heard == pair.near.said


async def test_it_says_that_it_was_suspended_and_has_another_carrier_and_nothing_in_the_end(pair: Pair) -> None:
    states: list[State] = []
    pair.near.resumable.on_change = lambda: states.append(pair.near.resumable.state)
    pair.cut()
    pair.resume()
    pair.near.resumable.close()
    assert states == [State.SUSPENDED, State.CARRIED]
    assert pair.near.resumable.resumptions == 1


# -- The end


async def test_nobody_comes_back_in_time(pair: Pair, mock_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.near.resumable.run)
        pair.near.say(100)
        pair.cut()
        await settle()
        mock_clock.jump(SECONDS - 1)
        await settle()
        assert pair.near.losses == []
        mock_clock.jump(2)
    assert [type(error) for error in pair.near.losses] == [ConnectionResetError]
    assert pair.near.resumable.account.used == 0


async def test_who_is_back_in_time_is_waited_for_anew(pair: Pair, mock_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.near.resumable.run)
        for _ in range(3):
            pair.cut()
            await settle()
            mock_clock.jump(SECONDS - 1)
            await settle()
            pair.resume()
            await settle()
        assert pair.near.losses == []
        pair.near.resumable.close()


async def test_the_other_ends_good_bye_ends_it_and_its_carrier(pair: Pair) -> None:
    pair.near.line.receiver.ended()
    assert (pair.near.ends, pair.near.losses) == (1, [])
    assert pair.near.line.over == "closed"
    assert pair.near.resumable.state is State.CLOSED


async def test_what_the_other_end_must_not_do_ends_it_for_good(pair: Pair) -> None:
    pair.near.line.fail(YamuxError(yamux.PROTOCOL_ERROR, "nonsense"))
    assert [type(error) for error in pair.near.losses] == [YamuxError]
    assert pair.near.resumable.state is State.CLOSED


async def test_who_stops_running_it_loses_it_and_its_carrier(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.near.resumable.run)
        await settle()
        nursery.cancel_scope.cancel()
    assert len(pair.near.losses) == 1
    assert pair.near.line.over == "aborted"


@pytest.mark.parametrize("end", ["end", "close", "abort"])
async def test_behind_its_end_nothing_is_said_and_nothing_is_heard(pair: Pair, end: str) -> None:
    getattr(pair.near.resumable, end)()
    assert pair.near.say(100)
    assert pair.near.line.said == b""
    assert pair.near.resumable.retained.size == 0
    getattr(pair.near.resumable, end)()
    assert (pair.near.ends, pair.near.losses) == (0, [])


async def test_a_good_bye_goes_to_the_carrier(pair: Pair) -> None:
    pair.near.resumable.bid_farewell(1001, "node is stopping")
    assert pair.near.line.over == "1001 node is stopping"


def test_its_name_is_not_shown() -> None:
    async def run() -> None:
        current.set(Reactor())
        party = Party()
        assert ID.decode() not in repr(party.resumable)

    trio.run(run)
