"""A role's decisions, carried out: a route, a refusal, to wait, or to go on without HTTP."""

from __future__ import annotations

import pytest

from engine.gateway.role import Refuse, TakeOver
from engine.gateway.states import Answer, Request
from tests.gateway.bench import GET, OK, POST, Bench
from tests.loop.ends import Ear


async def test_a_request_waits_with_its_body_until_a_way_is_found(bench: Bench) -> None:
    bench.have_it_wait()
    bench.client.hear(POST)
    paused_before = bench.client.paused
    bench.find_a_way()
    assert (paused_before, bench.client.paused) == (True, False)
    assert bench.service().said == POST
    bench.service().hear(OK)
    assert bench.client.said == OK
    assert bench.forgotten == 0


async def test_a_client_that_is_reset_is_not_found_by_who_looks_for_a_way(bench: Bench) -> None:
    bench.have_it_wait()
    bench.client.hear(POST[:-1])
    bench.client.hear_reset()
    assert bench.role.statuses == [499]
    assert bench.forgotten == 1
    bench.find_a_way()
    assert bench.service().said == b""


async def test_a_clients_end_inside_its_body_is_heard_when_a_way_is_found(bench: Bench) -> None:
    """Nothing is read while it waits, so the end stands behind bytes that nobody has taken."""
    bench.have_it_wait()
    bench.client.hear(POST[:-1])
    bench.client.hear_end()
    assert bench.role.over == []
    bench.find_a_way()
    assert bench.service().aborted
    assert bench.client.aborted
    assert bench.role.statuses == [400]


async def test_a_decision_that_comes_too_late_changes_nothing(bench: Bench) -> None:
    bench.have_it_wait()
    bench.client.hear(GET)
    bench.pass_seconds(10)
    said = bench.client.said
    bench.find_a_way()
    assert bench.client.said == said
    assert bench.service().said == b""
    assert bench.role.statuses == [502]


@pytest.mark.parametrize("whole", [True, False])
async def test_a_refusal_is_answered_and_closes_if_the_request_goes_on(bench: Bench, whole: bool) -> None:
    bench.role.decides = lambda: Refuse(503, "no more room")
    bench.client.hear(POST if whole else POST[:-1])
    assert bench.client.said.startswith(b"HTTP/1.1 503 ")
    assert bench.client.said.endswith(b'{"error":"no more room"}\n')
    assert bench.client.closed is not whole
    assert bench.role.statuses == [503]


async def test_a_refused_head_request_gets_no_body(bench: Bench) -> None:
    bench.role.decides = lambda: Refuse(503, "no more room")
    bench.client.hear(GET.replace(b"GET", b"HEAD"))
    assert bench.client.said.endswith(b"\r\n\r\n")
    assert not bench.client.closed


async def test_who_takes_over_gets_all_that_follows_and_the_clock_stops(bench: Bench) -> None:
    ear = Ear()

    def start() -> None:
        bench.client.receiver = ear

    bench.role.decides = lambda: TakeOver(start)
    bench.client.hear(GET + b"first words")
    bench.client.hear(b", and more")
    assert bytes(ear.data) == b"first words, and more"
    assert bench.inbound.state is Request.OVER
    bench.pass_seconds(1e6)
    assert not bench.client.over
    exchange, _ = bench.role.asked[0]
    assert (exchange.answer, exchange.status) == (Answer.BEGUN, 101)
    assert bench.role.over == [], "whoever takes over tells of the end"
