"""Which request is sent a second time, and which never."""

from __future__ import annotations

import pytest

from engine.gateway.exchange import Exchange
from engine.gateway.retry import FEW, REPEATABLE, RESEND_BYTES, STEP_SECONDS, Budget, Retries
from engine.loop.reactor import Reactor
from tests.gateway.bench import GET, OK, POST, Bench

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"


async def test_a_repeatable_request_whose_back_died_unanswered_is_tried_once_more(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear_reset()
    assert len(bench.role.outbounds) == 2
    bench.service().hear(OK)
    assert bench.client.said == OK
    assert bench.role.statuses == [200]


async def test_the_second_try_is_the_last(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear_reset()
    bench.service().hear_end()
    assert len(bench.role.outbounds) == 2
    assert bench.client.said.startswith(b"HTTP/1.1 502 ")


async def test_a_put_is_repeated_with_its_body(bench: Bench) -> None:
    bench.client.hear(POST.replace(b"POST", b"PUT"))
    bench.service().hear_reset()
    assert bench.service().said.endswith(b"\r\n\r\nhello")


async def test_a_post_is_not_repeated(bench: Bench) -> None:
    bench.client.hear(POST)
    bench.service().hear_reset()
    assert len(bench.role.outbounds) == 1
    assert bench.role.statuses == [502]


async def test_nothing_is_repeated_once_the_answer_has_begun(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(OK[:-1])
    bench.service().hear_reset()
    assert len(bench.role.outbounds) == 1
    assert bench.client.aborted


async def test_a_request_is_repeated_by_another_way_than_the_one_that_was_lost(bench: Bench) -> None:
    bench.client.hear(GET)
    lost = bench.role.outbounds[-1]
    bench.service().hear_reset()
    assert [asked[1] for asked in bench.role.asked] == [None, lost]
    assert bench.role.asked[0][0] is bench.role.asked[1][0]


async def test_a_request_whose_body_is_not_whole_or_not_all_kept_is_not_repeated(bench: Bench) -> None:
    head = b"PUT / HTTP/1.1\r\nHost: x.test\r\nContent-Length: %d\r\n\r\n"
    bench.client.hear(head % (RESEND_BYTES + 1) + b"x" * (RESEND_BYTES + 1))
    bench.service().hear_reset()
    bench.client.hear(head % 10 + b"x" * 9)
    bench.service().hear_reset()
    assert len(bench.role.outbounds) == 2
    assert bench.role.statuses == [502, 502]


async def test_a_second_try_may_wait_for_its_way(bench: Bench) -> None:
    bench.client.hear(POST.replace(b"POST", b"PUT"))
    bench.have_it_wait()
    bench.service().hear_reset()
    assert bench.client.said == b""
    bench.find_a_way()
    assert bench.service().said.endswith(b"\r\n\r\nhello")
    bench.service().hear(OK)
    assert bench.role.statuses == [200]
    assert bench.role.over[0].attempts == 2


@pytest.mark.parametrize("answer", [UNAVAILABLE, UNAVAILABLE[:-1], UNAVAILABLE[:-4]])
async def test_an_answer_with_a_status_that_is_covered_is_not_passed_on(bench: Bench, answer: bytes) -> None:
    bench.role.retries = Retries(causes=["503"])
    bench.client.hear(POST.replace(b"POST", b"PUT"))
    bench.service().hear(answer)
    assert bench.service(0).aborted
    assert bench.client.said == b""
    assert bench.service().said.endswith(b"\r\n\r\nhello")
    bench.service().hear(OK)
    assert bench.client.said == OK
    assert bench.role.retries.counts == {"503": 1}
    assert bench.role.over[0].failed_by == "503"


async def test_the_last_answer_is_passed_on_whatever_it_is(bench: Bench) -> None:
    bench.role.retries = Retries(attempts=3, causes=["503"])
    bench.client.hear(GET)
    for _ in range(3):
        bench.service().hear(UNAVAILABLE)
    assert bench.client.said == UNAVAILABLE
    assert [exchange.attempts for exchange in bench.role.over] == [3]
    bench.client.hear(GET)  # on the same connection
    bench.service().hear(OK)
    assert bench.client.said.endswith(OK)


@pytest.mark.parametrize("status", [b"502", b"500", b"504"])
async def test_other_statuses_are_passed_on(bench: Bench, status: bytes) -> None:
    bench.role.retries = Retries(causes=["503"])
    bench.client.hear(GET)
    bench.service().hear(UNAVAILABLE.replace(b"503", status))
    assert bench.role.statuses == [int(status)]


@pytest.mark.parametrize("cause", ["503", "timeout", "lost"])
async def test_only_what_is_lost_is_asked_for_where_nobody_else_is(bench: Bench, cause: str) -> None:
    bench.role.retries = Retries(causes=[cause])
    bench.role.others = False
    bench.client.hear(GET)
    if cause == "503":
        bench.service().hear(UNAVAILABLE)
    elif cause == "timeout":
        bench.pass_seconds(bench.role.timeouts.answer)
    else:
        bench.service().hear_reset()
    assert len(bench.role.outbounds) == 1 + (cause == "lost")
    assert bench.role.statuses == ([] if cause == "lost" else [503 if cause == "503" else 504])


async def test_each_attempt_has_its_time(bench: Bench) -> None:
    bench.role.retries = Retries(causes=["timeout"])
    bench.client.hear(GET)
    bench.pass_seconds(bench.role.timeouts.answer)
    assert bench.service(0).aborted
    bench.pass_seconds(bench.role.timeouts.answer - 1)
    bench.service().hear(OK)
    assert bench.client.said == OK
    bench.client.hear(GET)
    bench.pass_seconds(bench.role.timeouts.answer)
    bench.pass_seconds(bench.role.timeouts.answer)
    assert bench.role.statuses == [200, 504]


async def test_who_wants_no_retries_has_none(bench: Bench) -> None:
    bench.role.retries = Retries(attempts=1)
    bench.client.hear(POST.replace(b"POST", b"PUT"))
    bench.service().hear_reset()
    assert len(bench.role.outbounds) == 1
    assert bench.role.statuses == [502]


async def test_a_post_is_repeated_if_that_is_said(bench: Bench) -> None:
    bench.role.retries = Retries(methods=[*REPEATABLE, "POST"])
    bench.client.hear(POST)
    bench.service().hear_reset()
    assert bench.service().said.endswith(b"\r\n\r\nhello")


async def test_what_begins_its_answer_before_the_request_is_whole_is_passed_on(bench: Bench) -> None:
    bench.role.retries = Retries(causes=["503"])
    bench.client.hear(POST.replace(b"POST", b"PUT")[:-1])
    bench.service().hear(UNAVAILABLE)
    assert bench.role.statuses == [503]


class Served:
    count = 0


async def test_a_budget_is_a_share_of_what_came_within_some_seconds() -> None:
    reactor, served = Reactor(), Served()
    budget = Budget(0.2, {"shop": served}, reactor)

    def spends() -> int:
        count = 0
        while budget.spend("shop"):
            count += 1
        return count

    assert spends() == FEW
    served.count += 100
    assert spends() == 20
    assert budget.spend("another")
    for expected in (0, FEW):  # of what was spent, and of what came before
        assert budget.deadline == reactor.now + STEP_SECONDS
        reactor.now += STEP_SECONDS
        budget.expired()
        assert spends() == expected
    served.count += 1000
    assert spends() == 200
    reactor.close()


async def test_more_than_the_budget_is_counted_and_not_sent(bench: Bench) -> None:
    bench.role.retries = retries = Retries(causes=["503"], budget=Budget(0, {}, bench.reactor))
    for _ in range(FEW + 2):
        bench.client.hear(GET)
        bench.service().hear(UNAVAILABLE)
        if bench.inbound.exchange is not None:
            bench.service().hear(OK)
    assert bench.role.statuses == [200] * FEW + [503] * 2
    assert (retries.counts, retries.over_budget) == ({"503": FEW}, 2)


def test_an_exchange_without_a_request_is_not_repeated() -> None:
    assert not Retries().cover(Exchange(None), "lost", whole=True)
