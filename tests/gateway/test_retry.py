"""Which request is sent a second time, and which never."""

from __future__ import annotations

from engine.gateway.retry import RESEND_BYTES
from tests.gateway.bench import GET, OK, POST, Bench


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
