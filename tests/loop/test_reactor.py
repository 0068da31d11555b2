"""The reactor: sockets of many owners in one task, each with its turn, and none of them hurt by another's defect."""

from __future__ import annotations

import math
import socket
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing

from engine.loop import reactor as reactor_module
from engine.loop.reactor import (
    AWAY_SECONDS,
    LEAST_EVENTS,
    READABLE,
    SEND_SECONDS,
    SHORT_SECONDS,
    TURN_SECONDS,
    WRITABLE,
    Reactor,
    current_reactor,
)
from engine.loop.run import open_reactor
from tests.loop.ends import Clumsy, run_both


class Told:
    """A source that says what it was called with; `does` is done in every turn."""

    def __init__(self, reactor: Reactor, does: Callable[[Told], object] = lambda told: None) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.queued = False
        self.deadline = math.inf
        self.calls: list[str] = []
        self.broken_off: list[Exception] = []
        self.does = does
        self._reactor = reactor
        reactor.watch(self.near, self, READABLE, 0)
        self.watched = READABLE

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.does(self)

    def ready(self, events: int) -> None:
        self.near.recv(10)
        self._call("ready")

    def turn(self) -> None:
        self._call("turn")

    def flush(self) -> None:
        self._call("flush")

    def expired(self) -> None:
        self._call("deadline")

    def break_off(self, error: Exception) -> None:
        self.broken_off.append(error)

    def unwatch(self) -> None:
        if self.watched:
            self._reactor.watch(self.near, self, 0, self.watched)
            self.watched = 0

    def close(self) -> None:
        self.unwatch()
        self._reactor.unclock(self)
        self.near.close()
        self.far.close()


Make = Callable[..., Told]


class Clock:
    """In place of the module `time`, for the reactor: work takes as long as it says."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reactor_module, "time", clock)
    return clock


@pytest.fixture
def make(reactor: Reactor) -> Iterator[Make]:
    made: list[Told] = []

    def one(does: Callable[[Told], object] = lambda told: None) -> Told:
        made.append(Told(reactor, does))
        return made[-1]

    yield one
    for told in made:
        told.close()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)


def fail(told: Told) -> None:
    raise KeyError("a defect")


async def test_every_ready_socket_is_told_of_and_no_other(make: Make) -> None:
    sources = [make() for _ in range(200)]
    for source in sources[1::2]:
        source.far.send(b"x")
    await settle()
    assert [source.calls for source in sources] == [[], ["ready"]] * 100


async def test_what_is_not_watched_any_more_is_not_told_of_in_the_same_round(make: Make) -> None:
    def first_come(told: Told) -> None:
        first.unwatch()
        second.unwatch()

    first, second = make(first_come), make(first_come)
    first.far.send(b"x")
    second.far.send(b"x")
    await settle()
    assert len(first.calls) + len(second.calls) == 1


@pytest.mark.interpreted
async def test_busy_polling_over_endless_events_leaves_trio_its_turns() -> None:
    async with open_reactor(alone=True) as reactor:

        class Endless(Told):
            def ready(self, events: int) -> None:
                self.calls.append("ready")

        source = Endless(reactor)
        reactor.watch(source.near, source, WRITABLE, READABLE)
        before = trio.current_time()
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert len(source.calls) > 10, "it does busy-poll"
        assert trio.current_time() - before < 100 * AWAY_SECONDS
        source.close()


async def test_what_comes_at_once_after_idling_is_sent_on_in_parts() -> None:
    async with open_reactor(alone=True) as reactor:
        batches = [0]

        class Counting(Told):
            def ready(self, events: int) -> None:
                self.near.recv(10)
                if not batches[-1]:
                    reactor.flush_soon(self)
                batches[-1] += 1

            def flush(self) -> None:
                batches.append(0)

        sources = [Counting(reactor) for _ in range(40)]
        sources[0].far.send(b"x")
        await settle()
        assert batches == [1, 0]
        for source in sources:
            source.far.send(b"x")
        await settle()
        assert batches[1] == LEAST_EVENTS
        assert sum(batches) == 1 + len(sources)
        for source in sources:
            source.close()


async def test_what_is_put_on_a_carrier_by_a_flush_leaves_in_the_same_turn(reactor: Reactor, make: Make) -> None:
    below, above = make(), make(lambda told: reactor.flush_soon(below))
    reactor.flush_soon(above)
    reactor.flush()
    assert (above.calls, below.calls) == (["flush"], ["flush"])


async def test_outside_of_a_role_there_is_no_reactor() -> None:
    with pytest.raises(RuntimeError, match="open_reactor"):
        current_reactor()


# -- the guard


@pytest.mark.parametrize("place", ["ready", "turn", "flush", "deadline"])
async def test_what_raises_ends_its_source_only_and_is_counted_by_place(
    reactor: Reactor, make: Make, place: str, autojump_clock: trio.testing.MockClock
) -> None:
    bad, good = make(fail), make()
    for source in (bad, good):
        if place == "ready":
            source.far.send(b"x")
        elif place == "turn":
            reactor.again(source)
        elif place == "flush":
            reactor.flush_soon(source)
        else:
            source.deadline = 0.1
            reactor.clock(source)
    await trio.sleep(1)
    assert (bad.calls, good.calls) == ([place], [place])
    assert [type(error) for error in bad.broken_off] == [KeyError]
    assert good.broken_off == []
    assert reactor.internal_errors == {place: 1}
    good.does = lambda told: None
    good.far.send(b"x")
    await trio.sleep(1)
    assert good.calls[-1] == "ready", "the loop goes on"


async def test_one_whose_breaking_off_raises_as_well_is_counted_twice_and_hurts_nobody(
    reactor: Reactor, make: Make
) -> None:
    class Worse(Told):
        def break_off(self, error: Exception) -> None:
            raise ValueError("worse")

    bad, good = Worse(reactor, fail), make()
    bad.far.send(b"x")
    good.far.send(b"x")
    await settle()
    assert good.calls == ["ready"]
    assert reactor.internal_errors == {"ready": 1, "break_off": 1}
    bad.close()


async def test_what_raises_when_an_idle_connection_is_looked_at_ends_that_connection(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
    near, _, far, far_ear = await run_both(nursery)
    near.receiver = Clumsy("received")
    far.put(b"x")
    assert not near.look()
    assert reactor.internal_errors == {"look": 1}
    await far_ear.is_over()
    assert isinstance(far_ear.error, ConnectionResetError)


async def test_a_task_of_one_connection_that_raises_ends_alone(reactor: Reactor) -> None:
    async def defective() -> None:
        raise KeyError("a defect")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: reactor.supervise("connection", defective))
    assert reactor.internal_errors == {"connection": 1}


async def test_one_cause_is_logged_once_and_counted_every_time(
    reactor: Reactor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: Counter[str] = Counter()

    class Log:
        def error(self, message: str, *, place: str, **_: object) -> None:
            logged[place] += 1

        def debug(self, message: str, **_: object) -> None: ...

    monkeypatch.setattr(reactor_module, "log", Log())
    for _ in range(5):
        make(fail).far.send(b"x")
        reactor.again(make(fail))
    await settle()
    assert reactor.internal_errors == {"ready": 5, "turn": 5}
    assert logged == {"ready": 1, "turn": 1}


# -- turns


async def test_a_task_wakes_the_loop_for_who_wants_to_go_on(reactor: Reactor, make: Make) -> None:
    source = make()
    await settle()
    reactor.again(source)
    reactor.again(source)
    await settle()
    assert source.calls == ["turn"]


async def test_those_who_go_on_share_in_turn(reactor: Reactor, make: Make) -> None:
    """Each of them uses up its turn and wants more."""
    order: list[str] = []
    enough = trio.Event()

    def greedy(name: str) -> Callable[[Told], None]:
        def work(told: Told) -> None:
            while not reactor.over():
                pass
            order.append(name)
            if len(order) < 12:
                reactor.again(told)
            else:
                enough.set()

        return work

    for name in "abc":
        reactor.again(make(greedy(name)))
    await enough.wait()
    assert order[:12] == list("abc" * 4)


async def test_who_asks_for_little_is_served_between_those_who_use_up_their_turns(reactor: Reactor, make: Make) -> None:
    order: list[str] = []
    enough = trio.Event()

    def work(told: Told) -> None:
        while not reactor.over():
            pass
        order.append("much")
        if len(order) == 10:
            little.far.send(b"x")
        if len(order) < 40:
            reactor.again(told)
        else:
            enough.set()

    little = make(lambda told: order.append("little"))
    greedy = [make(work) for _ in range(10)]
    for one in greedy:
        reactor.again(one)
    await enough.wait()
    assert order.index("little") <= 11, "one turn of them together, at most"


@pytest.mark.interpreted
async def test_those_whose_turns_are_long_go_on_together_also_when_they_become_ready(
    reactor: Reactor, make: Make, clock: Clock
) -> None:
    """Each of them works for longer than others need, and is ready again and again."""
    order: list[str] = []
    enough = trio.Event()

    def work(told: Told) -> None:
        clock.now += 1.1 * SHORT_SECONDS
        order.append("much")
        if len(order) == 50:
            little.far.send(b"x")
        if len(order) < 200:
            told.far.send(b"x")
        else:
            enough.set()

    little = make(lambda told: order.append("little"))
    greedy = [make(work) for _ in range(20)]
    for one in greedy:
        one.far.send(b"x")
    await enough.wait()
    assert order.index("little") <= 50 + 2 * TURN_SECONDS / SHORT_SECONDS, "a few turns of them, at most"
    assert min(len(one.calls) for one in greedy) >= 8, "and they share what is left"


@pytest.mark.interpreted
async def test_who_needs_little_again_is_not_made_to_wait_any_more(make: Make, clock: Clock, reactor: Reactor) -> None:
    needed = [1.5 * SHORT_SECONDS, 0.5 * SHORT_SECONDS, 0.5 * SHORT_SECONDS]

    def work(told: Told) -> None:
        clock.now += needed[len(told.calls) - 1]
        in_line[told].append(reactor.going_on)

    crowd = [make(work) for _ in range(20)]
    in_line: dict[Told, list[bool]] = {source: [] for source in crowd}
    for _ in needed:
        for source in crowd:
            source.far.send(b"x")
        await settle()
    assert in_line[crowd[-1]] == [False, True, False]
    assert crowd[-1].calls == ["ready"] * 3


@pytest.mark.interpreted
async def test_who_is_not_watched_any_more_is_not_remembered_for_its_long_turns(
    reactor: Reactor, make: Make, clock: Clock
) -> None:
    def work(told: Told) -> None:
        clock.now += 2 * SHORT_SECONDS
        if len(told.calls) == leaves_at:
            told.unwatch()

    for leaves_at in (1, 2):
        crowd = [make(work) for _ in range(10)]
        for _ in range(leaves_at):
            for source in crowd:
                source.far.send(b"x")
            await settle()
        assert [len(source.calls) for source in crowd] == [leaves_at] * 10
        assert not reactor._long & set(crowd)


async def test_while_it_waits_to_go_on_it_is_not_asked_whether_it_is_ready(reactor: Reactor, make: Make) -> None:
    source = make()
    source.far.send(b"x")
    reactor.again(source)
    await settle()
    assert source.calls == ["turn", "ready"] or source.calls == ["ready", "turn"]
    assert not source.queued


async def test_what_was_collected_is_flushed_when_the_turn_is_over_once(reactor: Reactor, make: Make) -> None:
    source = make(lambda told: reactor.flush_soon(told) if told.calls == ["ready"] else None)
    source.far.send(b"x")
    await settle()
    assert source.calls == ["ready", "flush"]


@pytest.mark.interpreted
async def test_in_a_long_round_what_is_there_is_sent_before_its_end(make: Make, clock: Clock, reactor: Reactor) -> None:
    order: list[str] = []

    def work(told: Told) -> None:
        clock.now += SEND_SECONDS / 4
        order.append(told.calls[-1])
        if len(order) == 1:
            reactor.flush_soon(told)

    for source in [make(work) for _ in range(40)]:
        source.far.send(b"x")
    await settle()
    assert order == ["ready"] * 5 + ["flush"] + ["ready"] * 35


# -- deadlines


async def test_a_deadline_that_has_passed_is_told_once(
    reactor: Reactor, make: Make, autojump_clock: trio.testing.MockClock
) -> None:
    source, other = make(), make()
    source.deadline, other.deadline = 1.0, 5.0
    reactor.clock(source)
    reactor.clock(other)
    await trio.sleep(3)
    assert (source.calls, source.deadline, other.calls) == (["deadline"], math.inf, [])
    reactor.unclock(other)
    await trio.sleep(10)
    assert other.calls == []


async def test_one_that_is_moved_by_another_in_the_same_tick_is_not_told(
    reactor: Reactor, make: Make, autojump_clock: trio.testing.MockClock
) -> None:
    def move_all(told: Told) -> None:
        for source in sources:
            if source is not told:
                source.deadline = 1000.0

    sources = [make(move_all) for _ in range(3)]
    for source in sources:
        source.deadline = 1.0
        reactor.clock(source)
    await trio.sleep(3)
    assert sum(len(source.calls) for source in sources) == 1


async def test_many_deadlines_at_once_give_way_to_others(reactor: Reactor, make: Make) -> None:
    order: list[str] = []

    def work(told: Told) -> None:
        while not reactor.over():
            pass
        order.append("deadline")
        if len(order) == 1:
            ready.far.send(b"x")

    ready = make(lambda told: order.append("ready"))
    for _ in range(30):
        late = make(work)
        late.deadline = reactor.now
        reactor.clock(late)
    while len(order) < 31:
        await trio.lowlevel.checkpoint()
    assert order.index("ready") < 15
