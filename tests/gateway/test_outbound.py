"""The side requests are sent to: what of an answer reaches the client, and how it is seen that it is not whole."""

from __future__ import annotations

import pytest

from engine.gateway.outbound import MAX_INTERIM, MAX_INTERIM_BYTES
from tests.gateway.bench import GET, OK, Bench


async def test_chunked_bodies_pass_both_ways_with_their_trailers(bench: Bench) -> None:
    body = b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    bench.client.hear(b"PUT / HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert bench.service().said.endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    bench.service().hear(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert bench.client.said.endswith(body)
    assert not bench.client.closed


async def test_every_chunk_is_passed_on_when_it_comes(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    bench.client.take_said()
    for number in range(10):
        bench.service().hear(b"1\r\n%d\r\n" % number)
        assert bench.client.take_said() == b"1\r\n%d\r\n" % number


async def test_a_body_that_ends_with_its_connection_gets_chunks_so_that_its_end_can_be_seen(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 200 OK\r\n\r\nabc")
    bench.service().hear_end()
    assert bench.client.said == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    assert bench.role.statuses == [200]


async def test_a_reset_before_such_a_body_has_ended_is_no_end(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 200 OK\r\n\r\nabc")
    bench.service().hear_reset()
    assert not bench.client.said.endswith(b"0\r\n\r\n")
    assert bench.client.aborted


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("how", ["hear_end", "hear_reset"])
async def test_a_service_that_dies_inside_a_body_is_seen_as_an_abort(bench: Bench, head: bytes, how: str) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 200 OK\r\n" + head)
    getattr(bench.service(), how)()
    assert bench.client.aborted


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_answers_without_a_body_end_with_their_head(bench: Bench, status: bytes) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n")
    assert bench.role.statuses == [int(status[:3])]
    bench.client.hear(GET)
    assert len(bench.role.outbounds) == 1


async def test_the_length_in_an_answer_to_head_announces_no_body(bench: Bench) -> None:
    bench.client.hear(GET.replace(b"GET", b"HEAD"))
    bench.service().hear(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    assert bench.role.statuses == [200]
    assert b"Content-Length: 1000" in bench.client.said


async def test_interim_answers_pass_at_once_and_in_order(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    assert bench.client.take_said() == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    bench.service().hear(b"HTTP/1.1 102 Processing\r\n\r\n" + OK)
    assert bench.client.take_said() == b"HTTP/1.1 102 Processing\r\n\r\n" + OK


async def test_a_flood_of_interim_answers_is_a_502(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 102 Processing\r\n\r\n" * (MAX_INTERIM + 1))
    assert bench.role.statuses == [502]
    assert bench.service().aborted


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
)
async def test_an_answer_that_is_no_http_is_a_502_and_reaches_nobody(bench: Bench, answer: bytes) -> None:
    bench.client.hear(GET)
    bench.service().hear(answer)
    assert bench.client.said.startswith(b"HTTP/1.1 502 ")
    assert b'{"error":"upstream unreachable"}' in bench.client.said
    assert bench.service().aborted


async def test_bytes_behind_a_complete_answer_are_nobodys(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(OK + b"HTTP/1.1 200 OK\r\n\r\npoison")
    assert bench.client.take_said() == OK
    bench.client.hear(GET)
    assert len(bench.role.outbounds) == 2


async def test_bytes_from_an_idle_back_end_it(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(OK)
    bench.service().hear(OK)
    assert bench.role.idle == []
    assert bench.service().aborted
    assert bench.client.said == OK


async def test_a_client_that_reads_slowly_pauses_the_service_until_it_has_read(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.client.full = True
    bench.service().hear(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    assert bench.service().paused
    bench.client.drain()
    assert not bench.service().paused


async def test_interim_answers_are_bounded_in_bytes(bench: Bench) -> None:
    bench.client.hear(GET)
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: <" + b"a" * 10_000 + b">\r\n\r\n"
    for _ in range(MAX_INTERIM_BYTES // len(hint) + 1):
        bench.service().hear(hint)
    assert bench.role.statuses == [502]
    assert bench.service().aborted
    assert len(bench.client.said) < MAX_INTERIM_BYTES + 1000


async def test_a_head_and_a_bad_chunk_in_one_read_are_a_502(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert bench.client.said.startswith(b"HTTP/1.1 502 ")
    assert bench.service().aborted
    assert bench.role.statuses == [502]
    assert not bench.client.over


async def test_a_bad_chunk_behind_a_head_that_has_gone_on_breaks_the_answer_off(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    bench.service().hear(b"zz\r\n")
    assert bench.client.aborted
    assert bench.service().aborted


async def test_a_defect_in_reading_an_answer_breaks_off_both_sides(bench: Bench) -> None:
    bench.client.hear(GET)
    service, outbound = bench.service(), bench.role.outbounds[-1]
    outbound.break_off(KeyError("a defect"))
    assert (service.aborted, bench.client.aborted, bench.role.statuses) == (True, True, [500])
    assert outbound.idle


async def test_an_idle_one_that_ends_or_is_lost_is_in_no_pool_any_more(bench: Bench) -> None:
    for how in ("hear_end", "hear_reset"):
        bench.client.hear(GET)
        bench.service().hear(OK)
        pooled = len(bench.role.idle)
        getattr(bench.service(), how)()
        assert (pooled, bench.role.idle) == (1, [])
