"""The side requests come from: what a service is asked, and what becomes of requests that are none."""

from __future__ import annotations

import pytest

from engine.gateway.inbound import UNREAD_BYTES
from engine.gateway.role import Refuse
from engine.loop.reactor import Reactor
from tests.gateway.bench import GET, OK, POST, Bench


async def test_a_request_goes_on_and_its_answer_comes_back(bench: Bench) -> None:
    bench.client.hear(GET)
    assert bench.service().said == b"GET /a HTTP/1.1\r\nHost: x.test\r\n\r\n"
    bench.service().hear(OK)
    assert bench.client.said == OK
    assert bench.role.statuses == [200]
    assert not bench.client.closed


async def test_any_split_of_request_and_answer_gives_the_same(bench: Bench) -> None:
    bench.client.hear_by_bytes(POST)
    assert bench.service().said == POST
    bench.service().hear_by_bytes(OK)
    assert bench.client.said == OK


async def test_keep_alive_uses_the_same_back_again(bench: Bench) -> None:
    for _ in range(3):
        bench.client.hear(POST)
        bench.service().hear(OK)
    assert len(bench.role.outbounds) == 1
    assert bench.client.said == OK * 3


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(bench: Bench) -> None:
    bench.client.hear(GET + POST + GET)
    service = bench.service()
    assert service.take_said() == GET
    service.hear(OK)
    assert service.take_said() == POST
    service.hear(OK)
    assert service.take_said() == GET
    service.hear(OK)
    assert bench.client.said == OK * 3


async def test_http_1_0_gets_no_chunks_and_a_close_instead(bench: Bench) -> None:
    bench.client.hear(b"GET / HTTP/1.0\r\nHost: x.test\r\n\r\n")
    bench.service().hear(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert bench.client.said == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"
    assert bench.client.closed


async def test_http_1_0_may_keep_alive(bench: Bench) -> None:
    bench.client.hear(b"GET / HTTP/1.0\r\nHost: x.test\r\nConnection: keep-alive\r\n\r\n")
    bench.service().hear(OK)
    assert b"Connection: keep-alive\r\n" in bench.client.said
    assert not bench.client.closed


async def test_expect_continue_is_settled_between_client_and_service(bench: Bench) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    bench.client.hear(head)
    assert b"Expect: 100-continue\r\n" in bench.service().take_said()
    bench.service().hear(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert bench.client.take_said() == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.client.hear(b"hello")
    assert bench.service().take_said() == b"hello"
    bench.service().hear(OK)
    assert bench.client.said == OK


async def test_framing_doubt_never_reaches_the_service(bench: Bench) -> None:
    bench.client.hear(
        b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin"
    )
    assert bench.role.outbounds == []
    assert bench.client.said.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in bench.client.said


async def test_nothing_behind_an_error_is_read_as_a_request(bench: Bench) -> None:
    bench.client.hear(b"GET / HTTP/1.1\r\nbad header\r\n\r\n" + GET)
    bench.client.hear(GET)
    assert bench.role.outbounds == []
    assert bench.client.closed


async def test_a_bad_request_behind_good_ones_is_answered_as_well(bench: Bench) -> None:
    bench.client.hear(GET + POST)
    bench.service().hear(OK)
    bench.service().hear(OK)
    bench.client.take_said()
    bench.client.hear(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
    assert bench.client.said.startswith(b"HTTP/1.1 400 ")
    assert bench.client.closed
    assert bench.role.statuses == [200, 200, 400]
    assert (bench.role.over[-1].attempts, bench.role.over[-1].bytes_in) == (0, 0)


async def test_a_chunk_that_breaks_the_grammar_aborts_the_request_and_is_answered(bench: Bench) -> None:
    bench.client.hear(b"PUT / HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    bench.client.hear(b"0x5\r\n")
    assert bench.service().aborted
    assert bench.client.said.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in bench.client.said
    assert bench.client.closed
    assert bench.role.statuses == [400]


async def test_a_bad_chunk_in_one_read_with_its_head_is_answered_as_well(bench: Bench) -> None:
    bench.client.hear(b"PUT / HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n")
    assert bench.client.said.startswith(b"HTTP/1.1 400 ")
    assert bench.client.closed
    assert b"0x5" not in bench.client.said, "what is quoted is the stranger's"


async def test_a_bad_chunk_behind_an_answer_that_has_begun_breaks_it_off(bench: Bench) -> None:
    bench.client.hear(b"PUT / HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    bench.service().hear(OK[:-1])
    said = bench.client.take_said()
    bench.client.hear(b"0x5\r\n")
    assert said.endswith(b"o")
    assert (bench.client.said, bench.client.aborted, bench.service().aborted) == (b"", True, True)


async def test_an_early_answer_is_delivered_and_the_rest_of_the_body_is_not_taken_for_a_request(bench: Bench) -> None:
    bench.client.hear(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 100000\r\n\r\nabc")
    bench.service().hear(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert bench.client.said == b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    bench.client.hear(GET)
    assert len(bench.role.outbounds) == 1
    assert bench.client.closed
    assert bench.service().aborted


async def test_a_client_that_half_closes_after_its_request_is_answered(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.client.hear_end()
    bench.service().hear(OK)
    assert bench.client.said.endswith(b"\r\n\r\nok")
    assert bench.client.closed


async def test_a_client_that_ends_inside_its_body_is_no_complete_request(bench: Bench) -> None:
    bench.client.hear(POST[:-1])
    bench.client.hear_end()
    assert bench.service().aborted


async def test_a_client_that_goes_away_ends_its_request(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.client.hear_reset()
    assert bench.service().aborted
    assert bench.role.statuses == [499]


async def test_what_is_switched_to_is_relayed_with_the_bytes_around_the_switch(bench: Bench) -> None:
    bench.client.hear(
        b"GET /ws HTTP/1.1\r\nHost: x.test\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nbytes right behind"
    )
    service = bench.service()
    assert b"Connection: Upgrade\r\nUpgrade: foo\r\n\r\n" in service.take_said()
    service.hear(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\nfirst words")
    assert service.take_said() == b"bytes right behind"
    assert bench.client.take_said().endswith(b"Upgrade: foo\r\n\r\nfirst words")
    bench.client.hear(b"GET / HTTP/1.1 is only bytes now\r\n\r\n")
    assert service.take_said() == b"GET / HTTP/1.1 is only bytes now\r\n\r\n"
    service.hear_end()
    assert bench.client.ended
    bench.client.hear(b"still")
    assert service.take_said() == b"still"
    bench.client.hear_end()
    assert service.ended
    assert bench.role.statuses == [101]


async def test_an_upgrade_that_was_declined_leaves_http_as_it_was(bench: Bench) -> None:
    bench.client.hear(b"GET / HTTP/1.1\r\nHost: x.test\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n" + GET)
    bench.service().hear(OK)
    assert bench.service().said.endswith(GET)


async def test_a_switch_nobody_asked_for_is_a_502(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n")
    assert bench.role.statuses == [502]


async def test_a_service_that_reads_slowly_pauses_the_client(bench: Bench) -> None:
    bench.client.hear(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 100\r\n\r\n")
    bench.service().full = True
    bench.client.hear(b"abc")
    assert bench.client.paused
    bench.service().drain()
    assert not bench.client.paused


async def test_requests_that_came_before_the_clients_end_are_all_answered(bench: Bench) -> None:
    bench.client.hear(GET + POST + GET)
    bench.client.hear_end()
    for _ in range(3):
        assert not bench.client.closed
        bench.service().hear(OK)
    assert bench.client.said.count(b"\r\n\r\nok") == 3
    assert bench.client.closed


@pytest.mark.parametrize(("tail", "aborted"), [(GET[:-2], False), (POST[:-1], True)])
async def test_half_a_request_before_the_clients_end_is_none(bench: Bench, tail: bytes, aborted: bool) -> None:
    bench.client.hear(GET + tail)
    bench.client.hear_end()
    bench.service().hear(OK)
    assert bench.client.said == OK
    assert (bench.client.aborted, bench.client.closed) == (aborted, not aborted)


async def test_leaving_ends_keep_alive_with_the_next_answer(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.role.leaving = True
    bench.inbound.leave()
    bench.service().hear(OK)
    assert b"Connection: close\r\n" in bench.client.said
    assert bench.client.closed


async def test_leaving_serves_the_request_that_was_on_its_way(bench: Bench) -> None:
    bench.role.leaving = True
    bench.inbound.leave()
    bench.pass_seconds(0.5)
    bench.client.hear(GET)
    bench.service().hear(OK)
    assert b"Connection: close\r\n" in bench.client.said
    assert bench.client.closed


async def test_leaving_closes_what_stays_idle(bench: Bench) -> None:
    bench.role.leaving = True
    bench.inbound.leave()
    bench.pass_seconds(1)
    assert bench.client.closed


class Hasty(Reactor):
    """Every turn of its is over at once."""

    def over(self) -> bool:
        return True


async def test_pipelined_requests_are_served_in_turns() -> None:
    reactor = Hasty()
    bench = Bench(reactor)
    bench.role.decides = lambda: Refuse(404, "nobody serves that")
    bench.client.hear(GET * 20 + POST * 20)
    assert bench.role.statuses == [404] * 40
    assert bench.client.said.count(b"HTTP/1.1 404 ") == 40
    assert bench.turns.count >= 40
    reactor.close()


async def test_a_client_that_asks_and_reads_nothing_gets_no_further_answer_until_it_reads(bench: Bench) -> None:
    bench.client.full = True
    bench.role.decides = lambda: Refuse(404, "x" * 10_000)
    bench.client.hear(GET * 100)
    answered = len(bench.role.over)
    assert UNREAD_BYTES <= len(bench.client.said) < UNREAD_BYTES + 20_000
    bench.client.take_said()
    bench.client.drain()
    assert answered < 100
    assert len(bench.role.over) == 100


@pytest.mark.parametrize("step", [1000, 1 << 20], ids=["piece by piece", "whole"])
async def test_a_head_that_is_too_long_is_a_431_however_it_comes(bench: Bench, step: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x.test\r\nX: " + b"x" * bench.role.max_head + b"\r\n\r\n"
    for at in range(0, len(head), step):
        bench.client.hear(head[at : at + step])
    assert bench.client.said.startswith(b"HTTP/1.1 431 ")
    assert bench.client.closed
    assert bench.role.statuses == [431]
    assert bench.client.account.used == 0


async def test_it_is_idle_between_requests_only(bench: Bench) -> None:
    before = bench.inbound.idle
    bench.client.hear(GET)
    during = bench.inbound.idle
    bench.service().hear(OK)
    assert (before, during, bench.inbound.idle) == (True, False, True)


@pytest.mark.parametrize("begun", [False, True])
async def test_breaking_off_aborts_both_sides_and_reports_once(bench: Bench, begun: bool) -> None:
    bench.client.hear(GET)
    service = bench.service()
    if begun:
        service.hear(OK[:-1])
    bench.inbound.break_off(KeyError("a defect"))
    assert (bench.client.aborted, service.aborted) == (True, True)
    assert bench.role.statuses == [200 if begun else 500]
    assert bench.inbound not in bench.reactor._clocked
