"""The tables of states; every other test of this package runs on an inbound that checks them at each move."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st

from engine.gateway.role import Refuse
from engine.gateway.states import NEXT_ANSWER, NEXT_REQUEST, Answer, Request
from engine.loop.reactor import Reactor
from tests.gateway.bench import GET, OK, POST, Bench


def test_the_tables_name_every_state_and_an_end_for_each() -> None:
    assert set(NEXT_REQUEST) == set(Request)
    assert set(NEXT_ANSWER) == set(Answer)
    assert all(Request.OVER in after for state, after in NEXT_REQUEST.items() if state is not Request.OVER)
    assert all(Answer.DONE in after for answer, after in NEXT_ANSWER.items() if answer is not Answer.DONE)


EXPECTING = b"PUT / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
CHUNKED = b"PUT / HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: x.test\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n"
CLIENT = [GET, POST, EXPECTING, b"hello", CHUNKED, UPGRADE, b"nonsense\r\n\r\n", b"zz", b"", b"GET / HT"]
SERVICE = [
    OK,
    OK[:-1],
    b"k",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    SWITCHED,
    b"HTTP/1.1 200 OK\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"1\r\na\r\n",
    b"0\r\n\r\n",
    b"zz\r\n",
]
STEPS = st.one_of(
    st.tuples(st.just("client"), st.sampled_from(CLIENT)),
    st.tuples(st.just("service"), st.sampled_from(SERVICE)),
    st.tuples(
        st.sampled_from(
            [
                "end",
                "reset",
                "service end",
                "service reset",
                "drain",
                "way",
                "wait",
                "refuse",
                "route",
                "leave",
                "break",
            ]
        ),
        st.just(b""),
    ),
    st.tuples(st.sampled_from(["route", "break"]), st.just(b"")),
    st.tuples(st.just("full"), st.sampled_from([b"", b"service"])),
    st.tuples(st.just("seconds"), st.sampled_from([b"1", b"10", b"30", b"300"])),
)


@given(st.lists(STEPS, max_size=30))
def test_whatever_happens_moves_states_as_the_tables_say_and_every_exchange_is_reported_once(
    steps: list[tuple[str, bytes]],
) -> None:
    """The bench's inbound asserts each move."""
    trio.run(play, steps)


async def play(steps: list[tuple[str, bytes]]) -> None:
    reactor = Reactor()
    bench = Bench(reactor)
    for what, data in steps:
        services = [outbound.outlet for outbound in bench.role.outbounds]
        service = bench.service() if services else None
        match what:
            case "client":
                bench.client.hear(data)
            case "service" if service is not None:
                service.hear(data)
            case "end":
                bench.client.hear_end()
            case "reset":
                bench.client.hear_reset()
            case "service end" if service is not None:
                service.hear_end()
            case "service reset" if service is not None:
                service.hear_reset()
            case "drain":
                bench.client.drain()
                if service is not None:
                    service.drain()
            case "full":
                (bench.client if not data or service is None else service).full = True
            case "way" if bench.role.asked:
                bench.find_a_way()
            case "wait":
                bench.have_it_wait()
            case "refuse":
                bench.role.decides = lambda: Refuse(404, "no such endpoint")
            case "route":
                bench.role.decides = None
            case "leave":
                bench.role.leaving = True
                bench.inbound.leave()
            case "break":
                bench.inbound.break_off(KeyError("a defect"))
            case "seconds":
                bench.pass_seconds(float(data))
    bench.client.hear_reset()
    reactor.close()
    over = [id(exchange) for exchange in bench.role.over]
    assert len(over) == len(set(over))
    assert all(exchange.answer is Answer.DONE for exchange in bench.role.over)
    assert bench.inbound.exchange is None or bench.inbound.exchange.answer is Answer.BEGUN
