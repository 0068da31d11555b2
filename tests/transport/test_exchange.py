"""HTTP between two duplexes in memory: what a service is asked, what a client is answered, and when neither is."""

from __future__ import annotations

import math

import pytest

from engine.transport.exchange import (
    MAX_INTERIM,
    Back,
    Front,
    Timeouts,
    passable,
)
from engine.transport.pulse import Pulse
from engine.wire import http1
from engine.wire.http1 import Request
from tests.transport.ends import End

GET = b"GET /a HTTP/1.1\r\nHost: x.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class MemoryBack(Back):
    __slots__ = ("_role",)

    def __init__(self, role: MemoryRole) -> None:
        super().__init__(End())
        self._role = role

    def released(self) -> None:
        self._role.idle.append(self)

    def gone(self) -> None:
        if self in self._role.idle:
            self._role.idle.remove(self)


class MemoryRole:
    """Gives every request a back with an End; `slow` makes it look for one instead."""

    def __init__(self) -> None:
        self.timeouts = Timeouts()
        self.leaving = False
        self.slow = False
        self.idle: list[MemoryBack] = []
        self.backs: list[MemoryBack] = []
        self.statuses: list[int] = []

    def begin(self, front: Front, request: Request) -> Back | None:
        front.head = passable(request, http1.end_to_end(request))
        if self.slow:
            return None
        if self.idle and not front.attempt:
            return self.idle.pop()
        return self.new_back()

    def new_back(self) -> MemoryBack:
        self.backs.append(MemoryBack(self))
        return self.backs[-1]

    def finished(self, front: Front) -> None:
        self.statuses.append(front.status)


class Bench:
    """A client's end, a front, and the ends of the services that were asked."""

    def __init__(self) -> None:
        self.pulse = Pulse()
        self.role = MemoryRole()
        self.client = End()
        self.front = Front(self.client, self.role, self.pulse)

    def service(self, number: int = -1) -> End:
        end = self.role.backs[number].outlet
        assert isinstance(end, End)
        return end

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass on the pulse."""
        self.pulse.now += seconds
        if self.front.deadline <= self.pulse.now:
            self.front.deadline = math.inf
            self.front.expired()


@pytest.fixture
async def bench() -> Bench:
    return Bench()


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
    assert len(bench.role.backs) == 1
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
    bench.service().break_off()
    assert not bench.client.said.endswith(b"0\r\n\r\n")
    assert bench.client.aborted


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("how", ["hear_end", "break_off"])
async def test_a_service_that_dies_inside_a_body_is_seen_as_an_abort(bench: Bench, head: bytes, how: str) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 200 OK\r\n" + head)
    getattr(bench.service(), how)()
    assert bench.client.aborted


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


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_answers_without_a_body_end_with_their_head(bench: Bench, status: bytes) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n")
    assert bench.role.statuses == [int(status[:3])]
    bench.client.hear(GET)
    assert len(bench.role.backs) == 1


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


async def test_framing_doubt_never_reaches_the_service(bench: Bench) -> None:
    bench.client.hear(
        b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin"
    )
    assert bench.role.backs == []
    assert bench.client.said.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in bench.client.said


async def test_nothing_behind_an_error_is_read_as_a_request(bench: Bench) -> None:
    bench.client.hear(b"GET / HTTP/1.1\r\nbad header\r\n\r\n" + GET)
    bench.client.hear(GET)
    assert bench.role.backs == []
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
    assert (bench.front.attempt, bench.front.bytes_in) == (-1, 0)


async def test_a_chunk_that_breaks_the_grammar_aborts_the_request(bench: Bench) -> None:
    bench.client.hear(b"PUT / HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    bench.client.hear(b"0x5\r\n")
    assert bench.service().aborted
    assert bench.client.aborted


async def test_bytes_behind_a_complete_answer_are_nobodys(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(OK + b"HTTP/1.1 200 OK\r\n\r\npoison")
    assert bench.client.take_said() == OK
    bench.client.hear(GET)
    assert len(bench.role.backs) == 2


async def test_bytes_from_an_idle_back_end_it(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(OK)
    bench.service().hear(OK)
    assert bench.role.idle == []
    assert bench.service().aborted
    assert bench.client.said == OK


async def test_an_early_answer_is_delivered_and_the_rest_of_the_body_is_not_taken_for_a_request(bench: Bench) -> None:
    bench.client.hear(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 100000\r\n\r\nabc")
    bench.service().hear(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert bench.client.said == b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    bench.client.hear(GET)
    assert len(bench.role.backs) == 1
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
    bench.client.break_off()
    assert bench.service().aborted
    assert bench.role.statuses == [499]


async def test_a_repeatable_request_whose_back_died_unanswered_is_tried_once_more(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().break_off()
    assert len(bench.role.backs) == 2
    bench.service().hear(OK)
    assert bench.client.said == OK
    assert bench.role.statuses == [200]


async def test_the_second_try_is_the_last(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().break_off()
    bench.service().hear_end()
    assert len(bench.role.backs) == 2
    assert bench.client.said.startswith(b"HTTP/1.1 502 ")


async def test_a_put_is_repeated_with_its_body(bench: Bench) -> None:
    bench.client.hear(POST.replace(b"POST", b"PUT"))
    bench.service().break_off()
    assert bench.service().said.endswith(b"\r\n\r\nhello")


async def test_a_post_is_not_repeated(bench: Bench) -> None:
    bench.client.hear(POST)
    bench.service().break_off()
    assert len(bench.role.backs) == 1
    assert bench.role.statuses == [502]


async def test_nothing_is_repeated_once_the_answer_has_begun(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(OK[:-1])
    bench.service().break_off()
    assert len(bench.role.backs) == 1
    assert bench.client.aborted


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


async def test_a_client_that_reads_slowly_pauses_the_service_until_it_has_read(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.client.full = True
    bench.service().hear(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    assert bench.service().paused
    bench.client.drain()
    assert not bench.service().paused


async def test_a_service_that_reads_slowly_pauses_the_client(bench: Bench) -> None:
    bench.client.hear(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 100\r\n\r\n")
    bench.service().full = True
    bench.client.hear(b"abc")
    assert bench.client.paused
    bench.service().drain()
    assert not bench.client.paused


async def test_a_request_waits_with_its_body_until_a_back_is_found(bench: Bench) -> None:
    bench.role.slow = True
    bench.client.hear(POST)
    paused_before = bench.client.paused
    bench.front.serve_by(bench.role.new_back())
    assert (paused_before, bench.client.paused) == (True, False)
    assert bench.service().said == POST
    bench.service().hear(OK)
    assert bench.client.said == OK


@pytest.mark.parametrize("how", ["break_off", "hear_end"])
async def test_a_client_that_goes_away_is_not_found_by_who_looks_for_a_back(bench: Bench, how: str) -> None:
    bench.role.slow = True
    bench.client.hear(POST[:-1])
    getattr(bench.client, how)()
    assert bench.front.request is None
    assert len(bench.role.statuses) == 1


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


async def test_a_service_that_does_not_answer_is_a_504(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.wait(29)
    assert bench.client.said == b""
    bench.wait(1)
    assert b'{"error":"upstream timeout"}' in bench.client.said
    assert bench.service().aborted


async def test_no_clock_runs_on_an_answer_that_moves(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(100):
        bench.wait(bench.role.timeouts.stall)
        bench.service().hear(b"1\r\na\r\n")
    bench.service().hear(b"0\r\n\r\n")
    assert bench.role.statuses == [200]


async def test_a_client_that_stops_reading_is_given_up(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.client.full = True
    bench.service().hear(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    bench.wait(bench.role.timeouts.stall)
    bench.wait(bench.role.timeouts.stall)
    assert bench.client.aborted
    assert bench.service().aborted


async def test_a_head_that_trickles_is_a_408_however_often_a_byte_comes(bench: Bench) -> None:
    for byte in GET[:10]:
        bench.client.hear(bytes([byte]))
        bench.wait(0.9)
    bench.wait(1.1)
    assert bench.client.said.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_trickles_is_a_408_and_one_that_moves_is_not(bench: Bench) -> None:
    bench.client.hear(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(10):
        bench.client.hear(b"x" * 10_000)
        bench.wait(9)
    assert bench.client.said == b""
    for _ in range(50):
        bench.client.hear(b"x" * 10)
        bench.wait(9)
    assert bench.client.said.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_pauses_is_a_408(bench: Bench) -> None:
    bench.client.hear(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 10\r\n\r\nabc")
    bench.wait(bench.role.timeouts.pause)
    assert bench.client.said.startswith(b"HTTP/1.1 408 ")
    assert bench.service().aborted


EXPECTING = b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"


async def test_a_client_that_may_not_send_its_body_yet_is_not_hurried(bench: Bench) -> None:
    bench.client.hear(EXPECTING)
    bench.wait(bench.role.timeouts.pause * 2)
    bench.service().hear(b"HTTP/1.1 100 Continue\r\n\r\n")
    bench.client.take_said()
    bench.wait(bench.role.timeouts.pause * 0.9)
    bench.client.hear(b"hello")
    bench.wait(bench.role.timeouts.pause * 0.9)
    assert bench.client.said == b""
    bench.wait(bench.role.timeouts.pause)
    assert bench.client.said.startswith(b"HTTP/1.1 408 ")


async def test_a_service_that_does_not_say_whether_it_wants_a_body_is_a_504(bench: Bench) -> None:
    bench.client.hear(EXPECTING)
    bench.wait(bench.role.timeouts.answer)
    assert bench.client.said.startswith(b"HTTP/1.1 504 ")
    assert b"Connection: close" in bench.client.said


async def test_a_client_that_sends_its_body_unbidden_is_on_its_own_clock(bench: Bench) -> None:
    bench.client.hear(EXPECTING)
    bench.client.hear(b"hello")
    bench.wait(bench.role.timeouts.answer)
    bench.wait(bench.role.timeouts.pause)
    assert bench.client.said.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_the_service_does_not_take_may_pause(bench: Bench) -> None:
    bench.client.hear(b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 10\r\n\r\nabc")
    bench.service().full = True
    for _ in range(10):
        bench.wait(bench.role.timeouts.pause)
    assert bench.client.said == b""


async def test_an_idle_connection_is_closed_without_a_word(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.service().hear(OK)
    bench.client.take_said()
    bench.wait(bench.role.timeouts.idle)
    assert bench.client.closed
    assert bench.client.said == b""


async def test_leaving_ends_keep_alive_with_the_next_answer(bench: Bench) -> None:
    bench.client.hear(GET)
    bench.role.leaving = True
    bench.front.leave()
    bench.service().hear(OK)
    assert b"Connection: close\r\n" in bench.client.said
    assert bench.client.closed


async def test_leaving_serves_the_request_that_was_on_its_way(bench: Bench) -> None:
    bench.role.leaving = True
    bench.front.leave()
    bench.wait(0.5)
    bench.client.hear(GET)
    bench.service().hear(OK)
    assert b"Connection: close\r\n" in bench.client.said
    assert bench.client.closed


async def test_leaving_closes_what_stays_idle(bench: Bench) -> None:
    bench.role.leaving = True
    bench.front.leave()
    bench.wait(1)
    assert bench.client.closed
