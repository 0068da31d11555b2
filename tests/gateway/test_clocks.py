"""How long each state may last, and what happens then."""

from __future__ import annotations

import pytest

from engine.gateway.clocks import BODY_BYTES_PER_SECOND, BODY_GRACE_SECONDS, Pace, Verdict, verdict
from engine.gateway.states import Answer, Request
from tests.gateway.bench import GET, OK, Bench


async def test_a_service_that_does_not_answer_is_a_504(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.pass_seconds(29)
    assert bench.client.said == b""
    bench.pass_seconds(1)
    assert b'{"error":"upstream timeout"}' in bench.client.said
    assert bench.service().aborted


async def test_no_clock_runs_on_an_answer_that_moves(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(100):
        bench.pass_seconds(bench.role.timeouts.stall)
        bench.service().hear(b"1\r\na\r\n")
    bench.service().hear(b"0\r\n\r\n")
    assert bench.role.statuses == [200]


async def test_how_fast_a_client_reads_is_on_no_clock_here(bench: Bench) -> None:
    """Its connection ends by itself when it takes nothing, and the service hears of that."""
    bench.client.hear(GET)
    bench.client.full = True
    bench.service().hear(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    for _ in range(100):
        bench.pass_seconds(bench.role.timeouts.stall)
    assert not bench.client.over
    bench.client.hear_reset()
    assert bench.service().aborted
    assert bench.role.statuses == [200]


async def test_a_head_that_trickles_is_a_408_however_often_a_byte_comes(bench: Bench) -> None:
    for byte in GET[:10]:
        bench.client.hear(bytes([byte]))
        bench.pass_seconds(0.9)
    bench.pass_seconds(1.1)
    assert bench.client.said.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_trickles_is_a_408_and_one_that_moves_is_not(bench: Bench) -> None:
    bench.client.hear(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(10):
        bench.client.hear(b"x" * 10_000)
        bench.pass_seconds(9)
    assert bench.client.said == b""
    for _ in range(50):
        bench.client.hear(b"x" * 10)
        bench.pass_seconds(9)
    assert bench.client.said.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_pauses_is_a_408(bench: Bench) -> None:
    bench.client.hear(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 10\r\n\r\nabc")
    bench.pass_seconds(bench.role.timeouts.pause)
    assert bench.client.said.startswith(b"HTTP/1.1 408 ")
    assert bench.service().aborted


EXPECTING = b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"


async def test_a_client_that_may_not_send_its_body_yet_is_not_hurried(bench: Bench) -> None:
    bench.client.hear(EXPECTING)
    bench.pass_seconds(bench.role.timeouts.pause * 2)
    bench.service().hear(b"HTTP/1.1 100 Continue\r\n\r\n")
    bench.client.take_said()
    bench.pass_seconds(bench.role.timeouts.pause * 0.9)
    bench.client.hear(b"hello")
    bench.pass_seconds(bench.role.timeouts.pause * 0.9)
    assert bench.client.said == b""
    bench.pass_seconds(bench.role.timeouts.pause)
    assert bench.client.said.startswith(b"HTTP/1.1 408 ")


async def test_a_service_that_does_not_say_whether_it_wants_a_body_is_a_504(bench: Bench) -> None:
    bench.client.hear(EXPECTING)
    bench.pass_seconds(bench.role.timeouts.answer)
    assert bench.client.said.startswith(b"HTTP/1.1 504 ")
    assert b"Connection: close" in bench.client.said


async def test_a_client_that_sends_its_body_unbidden_is_on_its_own_clock(bench: Bench) -> None:
    bench.client.hear(EXPECTING)
    bench.client.hear(b"hello")
    bench.pass_seconds(bench.role.timeouts.answer)
    bench.pass_seconds(bench.role.timeouts.pause)
    assert bench.client.said.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_the_service_does_not_take_may_pause(bench: Bench) -> None:
    bench.client.hear(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 10\r\n\r\nabc")
    bench.service().full = True
    for _ in range(10):
        bench.pass_seconds(bench.role.timeouts.pause)
    assert bench.client.said == b""


async def test_an_idle_connection_is_closed_without_a_word(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(OK)
    bench.client.take_said()
    bench.pass_seconds(bench.role.timeouts.idle)
    assert bench.client.closed
    assert bench.client.said == b""


async def test_a_silent_connection_is_closed_without_a_word_when_a_head_would_have_come(
    bench: Bench,
) -> None:
    bench.pass_seconds(bench.role.timeouts.head - 0.1)
    assert not bench.client.closed
    bench.pass_seconds(0.1)
    assert (bench.client.closed, bench.client.said, bench.role.over) == (True, b"", [])


async def test_a_wait_is_refused_with_what_the_role_has_said(bench: Bench) -> None:
    bench.have_it_wait(5.0)
    bench.client.hear(GET)
    bench.pass_seconds(4.9)
    assert bench.client.said == b""
    bench.pass_seconds(0.1)
    assert bench.client.said.startswith(b"HTTP/1.1 502 ")
    assert bench.forgotten == 1
    assert not bench.client.closed


@pytest.mark.parametrize(
    ("request_state", "answer", "expected"),
    [
        (Request.FRESH, None, Verdict.CLOSE),
        (Request.IDLE, None, Verdict.CLOSE),
        (Request.HEAD, None, Verdict.REFUSE_HEAD),
        (Request.BODY, Answer.ROUTING, Verdict.REFUSE_WAIT),
        (Request.WHOLE, Answer.ROUTING, Verdict.REFUSE_WAIT),
        (Request.BODY, Answer.AWAITED, Verdict.LOOK_AT_BODY),
        (Request.BODY, Answer.BEGUN, Verdict.LOOK_AT_BODY),
        (Request.EXPECTING, Answer.AWAITED, Verdict.TIMEOUT),
        (Request.WHOLE, Answer.AWAITED, Verdict.TIMEOUT),
        (Request.WHOLE, Answer.BEGUN, Verdict.NOTHING),
    ],
)
def test_the_verdict_on_a_state_that_has_lasted_too_long(
    request_state: Request, answer: Answer | None, expected: Verdict
) -> None:
    assert verdict(request_state, answer) is expected


def test_a_body_moves_if_any_of_it_has_come_since_and_enough_of_it_in_its_time() -> None:
    pace = Pace()
    pace.begin(100.0, 50)
    assert not pace.moves(101.0, 50)
    assert pace.moves(102.0, 51)
    assert not pace.moves(103.0, 51)
    long_after = 100.0 + BODY_GRACE_SECONDS
    assert not pace.moves(long_after, 52)
    assert pace.moves(long_after, int(BODY_GRACE_SECONDS * BODY_BYTES_PER_SECOND))
