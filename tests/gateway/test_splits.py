"""What a hop passes on does not depend on how it came, in how many turns it was taken, or who was full meanwhile."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.gateway.states import Answer, Request
from engine.loop.reactor import Reactor
from tests.gateway.bench import GET, OK, Bench

PUT = b"PUT /b HTTP/1.1\r\nHost: x.test\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"1\r\na\r\n" * 5 + b"a;x=y\r\n0123456789\r\n0\r\nTrailer: yes\r\n\r\n"
REQUESTS = [
    GET,
    GET.replace(b"GET", b"HEAD"),
    PUT + b"Content-Length: 0\r\n\r\n",
    PUT + b"Content-Length: 28\r\n\r\nGET /c HTTP/1.1\r\nHost: y\r\n\r\n",
    PUT + CHUNKED + CHUNKS,
    PUT.replace(b"PUT", b"POST") + CHUNKED + b"0\r\n\r\n",
]
ANSWERS = [
    OK,
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + CHUNKED + CHUNKS,
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 300\r\n\r\n" + b"x" * 300,
]
HEAD_ANSWERS = [b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n"]


class Talk(NamedTuple):
    """A request, and what is answered to it when it has come whole."""

    request: bytes
    answer: bytes


@st.composite
def talks(draw: st.DrawFn) -> list[Talk]:
    made: list[Talk] = []
    for request in draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=5)):
        answers = HEAD_ANSWERS if request.startswith(b"HEAD") else ANSWERS
        made.append(Talk(request, draw(st.sampled_from(answers))))
    return made


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["client", "client", "service", "service", "turns", "client full", "service full", "drain"]),
        st.integers(1, 90),
    ),
    max_size=60,
)


class Hop:
    """A client that says its requests, as much at a time as it is told to, and services that answer likewise."""

    def __init__(self, bench: Bench, talks: list[Talk]) -> None:
        self.bench = bench
        self.asks = b"".join(talk.request for talk in talks)
        self.answers = [talk.answer for talk in talks]
        self.left = b""  # of the answer that is being given

    def client(self, size: int) -> None:
        said, self.asks = self.asks[:size], self.asks[size:]
        if said:
            self.bench.client.hear(said)

    def service(self, size: int) -> None:
        exchange = self.bench.inbound.exchange
        if exchange is None or self.bench.inbound.state is not Request.WHOLE:
            return
        if not self.left and exchange.answer is Answer.AWAITED:
            self.left = self.answers.pop(0)
        said, self.left = self.left[:size], self.left[size:]
        if said:
            self.bench.service().hear(said)

    def step(self, what: str, size: int) -> None:
        bench = self.bench
        if what == "client":
            self.client(size)
        elif what == "service":
            self.service(size)
        elif what == "turns":
            bench.reactor._turn_ends = -math.inf if size % 2 else math.inf  # each is over at once, or none
        elif what == "client full":
            bench.client.full = True
        elif what == "service full":
            if bench.role.outbounds:
                bench.service().full = True
        else:
            self.drain()

    def drain(self) -> None:
        for end in (self.bench.client, *(outbound.outlet for outbound in self.bench.role.outbounds)):
            if end.full:  # type: ignore[attr-defined]
                end.drain()  # type: ignore[attr-defined]

    def finish(self) -> None:
        """All that is left, at once."""
        self.drain()
        self.client(len(self.asks))
        for _ in range(10 * len(self.answers) + 10):
            self.service(1000)
            self.drain()


async def passed_on(talks: list[Talk], steps: list[tuple[str, int]]) -> tuple[bytes, bytes, list[int]]:
    """What the services were asked, what the client was answered, and the statuses that the role was told."""
    reactor = Reactor()
    try:
        bench = Bench(reactor)
        hop = Hop(bench, talks)
        for what, size in steps:
            hop.step(what, size)
        hop.finish()
        assert (hop.asks, hop.left, hop.answers) == (b"", b"", [])
        assert bench.inbound.state is Request.IDLE
        assert bench.client.account.used == 0
        assert len(bench.role.outbounds) == 1, "one way is enough, request after request"
        assert not bench.client.over
        return bench.service().said, bench.client.said, bench.role.statuses
    finally:
        reactor.close()


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
async def test_a_request_and_its_answer_may_be_cut_anywhere_in_two(request_: bytes) -> None:
    for answer in HEAD_ANSWERS if request_.startswith(b"HEAD") else ANSWERS:
        talk = Talk(request_, answer)
        whole = await passed_on([talk], [])
        for at in range(1, len(request_)):
            assert await passed_on([talk], [("client", at)]) == whole
        for at in range(1, len(answer)):
            assert await passed_on([talk], [("client", len(request_)), ("service", at)]) == whole


@settings(max_examples=200)
@given(talks(), STEPS)
def test_however_it_comes_and_however_often_turns_are_over_the_same_goes_on(
    talks: list[Talk], steps: list[tuple[str, int]]
) -> None:
    in_steps = trio.run(passed_on, talks, steps)
    at_once = trio.run(passed_on, talks, [])
    assert in_steps == at_once
    assert len(at_once[2]) == len(talks)
