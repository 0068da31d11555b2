"""Tunnels of datagrams over streams in memory: who speaks first, what is dropped, and which flows end."""

from __future__ import annotations

import pytest

from engine.loop.backlog import Backlog
from engine.loop.reactor import Reactor
from engine.tunnel.datagrams import LINE_SECONDS, Flow, Flows, State, Tunnel
from engine.wire.datagrams import OPEN, READY, DatagramError, Reader, encode_head, encode_over
from tests.loop.ends import End
from tests.roles import settle


class Owner:
    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes | None]] = []
        self.is_greeted = False
        self.ends: list[Exception | None] = []

    def arrived(self, flow: int, data: memoryview | None) -> None:
        self.heard.append((flow, None if data is None else bytes(data)))

    def greeted(self) -> None:
        self.is_greeted = True

    def over(self, error: Exception | None) -> None:
        self.ends.append(error)


class Bed:
    """A tunnel that has begun, over a stream in memory."""

    def __init__(self, reactor: Reactor, *, begins: bool = True) -> None:
        self.end, self.owner = End(), Owner()
        self.backlog: Backlog[Flow] = Backlog(reactor.memory, 128)
        self.tunnel = Tunnel(
            self.end, self.owner, reactor, self.backlog, begins=begins, farewell=b"" if begins else b"wrong\n"
        )

    def said(self) -> list[tuple[int, bytes]]:
        reader, found = Reader(), []
        data = memoryview(self.end.take_said())
        while (frame := reader.next(data)) is not None:
            assert frame[1] is not None
            found.append((frame[0], bytes(frame[1])))
        return found


@pytest.fixture
def bed(reactor: Reactor) -> Bed:
    return Bed(reactor)


async def test_nothing_is_sent_before_the_other_end_is_known_to_speak_of_datagrams(bed: Bed) -> None:
    flow = Flow(7, 0.0)
    bed.tunnel.send(flow, memoryview(b"early"))
    await settle()
    assert bed.end.take_said() == OPEN
    bed.end.hear_by_bytes(READY + encode_head(7, 3) + b"yes" + encode_head(7, 0) + encode_over(7))
    await settle()
    assert bed.said() == [(7, b"early")]
    assert bed.owner.heard == [(7, b"yes"), (7, b""), (7, None)]


async def test_who_answers_says_nothing_before_it_was_asked(reactor: Reactor) -> None:
    bed = Bed(reactor, begins=False)
    assert bed.end.said == b""
    bed.end.hear(OPEN[:5])
    assert bed.end.said == b""
    bed.end.hear(OPEN[5:])
    assert bed.end.said == READY
    assert bed.owner.is_greeted


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n", READY, OPEN.replace(b"1", b"2")])
async def test_who_speaks_of_something_else_is_told_so(reactor: Reactor, said: bytes) -> None:
    bed = Bed(reactor, begins=False)
    bed.end.hear(said)
    assert (bed.end.said, bed.end.closed) == (b"wrong\n", True)
    assert isinstance(bed.owner.ends[0], DatagramError)


async def test_who_says_nothing_is_not_waited_for_for_ever(bed: Bed, reactor: Reactor) -> None:
    assert bed.tunnel.deadline <= reactor.precise_now() + LINE_SECONDS
    bed.tunnel.expired()
    assert str(bed.owner.ends[0]) == "expected UDP in a tunnel, got nothing within 10 s"


@pytest.mark.parametrize("greeted", [False, True])
async def test_an_end_is_an_error_only_where_nothing_was_said_before(bed: Bed, greeted: bool) -> None:
    if greeted:
        bed.end.hear(READY)
    bed.end.hear_end()
    assert [error is None for error in bed.owner.ends] == [greeted]
    assert bed.end.closed


async def test_a_slow_tunnel_drops_the_oldest_and_counts_them_and_flows_have_turns(bed: Bed) -> None:
    loud, calm = Flow(1, 0.0), Flow(2, 0.0)
    bed.end.hear(READY)
    bed.end.take_said()
    bed.end.full = True
    bed.tunnel.send(loud, b"first")
    await settle()
    for number in range(500):
        bed.tunnel.send(loud, b"%d" % number)
    bed.tunnel.send(calm, b"calm")
    await settle()
    assert bed.said() == [(1, b"first")]
    bed.end.drain()
    await settle()
    said = bed.said()
    assert said[1] == (2, b"calm")
    assert [data for flow, data in said if flow == 1] == [b"%d" % number for number in range(500 - 128, 500)]
    assert (loud.dropped, calm.dropped) == (500 - 128, 0)


async def test_much_that_has_waited_leaves_in_blocks(bed: Bed) -> None:
    flows = [Flow(number, 0.0) for number in range(50)]
    for flow in flows:
        for _ in range(100):
            bed.tunnel.send(flow, bytes(100))
    bed.end.hear(READY)
    await settle()
    bed.end.said = bed.end.said.removeprefix(OPEN)
    assert len(bed.said()) == 5000


@pytest.mark.parametrize("how", ["nonsense", "reset", "close"])
async def test_a_tunnel_that_is_over_says_so_once_and_sends_nothing_more(bed: Bed, how: str) -> None:
    bed.end.hear(READY)
    if how == "nonsense":
        bed.end.hear(encode_head(1, 65530))
    elif how == "reset":
        bed.end.hear_reset()
    else:
        bed.tunnel.close()
    assert bed.tunnel.state is State.OVER
    assert len(bed.owner.ends) == (how != "close")
    bed.end.take_said()
    bed.tunnel.say_over(Flow(1, 0.0))
    bed.tunnel.close()
    await settle()
    assert bed.end.said == b""


# -- Flows


async def test_the_flow_that_was_not_used_for_longest_makes_room(reactor: Reactor) -> None:
    ended: list[tuple[int, str]] = []

    def end(flow: Flow, why: str) -> None:
        ended.append((flow.id, why))
        flows.leave(flow)

    flows: Flows[Flow] = Flows(reactor, 2, 60.0, end)
    one, two, three = (Flow(number, reactor.now) for number in (1, 2, 3))
    flows.enter(one)
    flows.enter(two)
    one.bytes_in = two.bytes_in = 5
    flows.passed_in(one, 0)
    flows.enter(three)
    assert ended == [(2, "too many flows")]
    reactor.now += 61.0
    flows.passed_out(three, 0)
    flows.expired()
    assert ended[1:] == [(1, "idle")]
    assert flows.deadline == reactor.now + 60.0
    assert flows.make_room()
    assert not flows.make_room()
    flows.expired()
    assert (len(flows), flows.begun, flows.counts()["bytes_in"]) == (0, 3, 10)
    flows.close()
