"""A stream as a duplex: HTTP/1.1 in, HTTP/1.1 out, and frames between them."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes

from engine.errors import HTTPError
from engine.http2.connection import STREAM_WINDOW
from engine.loop.reactor import Reactor
from engine.wire.http1 import PEER_HEAD
from tests.http2.bench import Bench
from tests.loop.ends import Clumsy

GET = b"GET /a HTTP/1.1\r\nHost: web.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("step", [1, 7, 1 << 30])
async def test_a_request_and_its_answer_come_as_they_were_put(reactor: Reactor, step: int) -> None:
    bench = Bench(reactor)
    asked, answer = bench.ask(POST + b"5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n")
    bench.run(step=step)
    ((stream, request),) = bench.streams
    assert bytes(request.data) == (
        b"POST /a HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n"
    )
    assert request.is_ended
    stream.put(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n")
    stream.put(CHUNKS + b"2\r\nok\r\n")
    stream.put(b"0\r\nGRPC-Status: 0\r\n\r\n")
    stream.close()
    bench.run(step=step)
    assert bytes(answer.data) == (
        b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + CHUNKS + b"2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n"
    )
    assert answer.is_ended
    asked.close()
    assert not bench.client.streams
    assert not bench.server.streams
    assert bench.near.account.used == bench.far.account.used == 0
    assert not bench.reasons


async def test_what_is_not_taken_keeps_the_window_shut(reactor: Reactor) -> None:
    bench = Bench(reactor)
    asked, _ = bench.ask(POST)
    bench.run()
    ((stream, ear),) = bench.streams
    stream.pause()
    data = b"x" * (2 * STREAM_WINDOW)
    assert not asked.put(b"%x\r\n" % len(data), data, b"\r\n")
    bench.run()
    assert asked.backlog == len(data) - STREAM_WINDOW
    assert bench.near.account.used == asked.backlog
    assert bench.far.account.used >= STREAM_WINDOW
    other, heard = bench.ask(GET)  # the others have the connection
    bench.run()
    bench.streams[1][0].put(OK)
    bench.run()
    assert heard.data.endswith(b"ok")
    other.close()
    stream.resume()
    bench.run()
    assert ear.data.count(b"x") == len(data)
    assert asked.backlog == 0
    assert bench.near.account.used == bench.far.account.used == 0


async def test_who_takes_little_is_offered_the_rest_again(reactor: Reactor) -> None:
    bench = Bench(reactor, takes=3)
    bench.ask(GET)
    bench.run()
    ((_, ear),) = bench.streams
    assert bytes(ear.data) == GET
    assert ear.is_ended


async def test_a_socket_that_is_full_holds_back_and_says_when_there_is_room(reactor: Reactor) -> None:
    bench = Bench(reactor)
    _, answer = bench.ask(GET)
    bench.run()
    ((stream, ear),) = bench.streams
    bench.far.full = True
    stream.put(b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n")
    reactor.flush()
    assert not stream.put(b"x" * 100_000)
    assert stream.backlog == 100_000
    bench.far.drain()
    bench.run()
    assert ear.drains == 1
    assert len(answer.data.partition(b"\r\n\r\n")[2]) == 100_000


async def test_streams_share_what_room_there_is(reactor: Reactor) -> None:
    bench = Bench(reactor)
    answers = [bench.ask(GET)[1] for _ in range(3)]
    bench.run()
    bench.far.full = True
    for stream, _ in bench.streams:
        stream.put(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
        reactor.flush()
        stream.put(b"x" * 200_000)
    bench.far.full = False
    bench.server._clogged = False
    for _ in range(3):
        waiting = next(iter(bench.server._waiting))
        del bench.server._waiting[waiting]
        assert waiting.send_some()
        bench.server._waiting[waiting] = None
    assert {stream.backlog for stream, _ in bench.streams} == {200_000 - 16384}
    bench.server.drained()
    bench.run()
    assert {len(answer.data.partition(b"\r\n\r\n")[2]) for answer in answers} == {200_000}


@pytest.mark.parametrize("what", ["abort", "close"])
async def test_an_answer_that_breaks_off_is_lost_to_who_waits_for_it(reactor: Reactor, what: str) -> None:
    bench = Bench(reactor)
    _, answer = bench.ask(GET)
    bench.run()
    ((stream, _),) = bench.streams
    stream.put(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf")
    getattr(stream, what)()
    bench.run()
    assert isinstance(answer.error, ConnectionResetError)
    assert not bench.client.streams
    assert not bench.server.streams


async def test_a_request_that_is_given_up_is_lost_to_who_serves_it(reactor: Reactor) -> None:
    bench = Bench(reactor)
    asked, _ = bench.ask(POST)
    bench.run()
    asked.abort()
    bench.run()
    assert str(bench.streams[0][1].error) == "reset: CANCEL"


async def test_a_refusal_takes_the_place_of_an_answer(reactor: Reactor) -> None:
    bench = Bench(reactor)
    _, answer = bench.ask(GET)
    bench.run()
    ((stream, _),) = bench.streams
    stream.refusal = ErrorCodes.HTTP_1_1_REQUIRED
    assert stream.put(OK)
    stream.close()
    bench.run()
    assert str(answer.error) == "reset: HTTP_1_1_REQUIRED"
    assert not answer.data


async def test_what_cannot_be_sent_ends_its_stream_and_nobody_who_puts_it(reactor: Reactor) -> None:
    bench = Bench(reactor)
    _, answer = bench.ask(GET)
    bench.run()
    ((stream, ear),) = bench.streams
    assert stream.put(b"HTTP/1.1 200 OK\r\nX: " + b"x" * PEER_HEAD + b"\r\n\r\n")
    bench.run()
    assert isinstance(ear.error, HTTPError)
    assert str(answer.error) == "reset: INTERNAL_ERROR"
    assert not bench.far.closed


async def test_a_receiver_that_fails_ends_its_stream_alone(reactor: Reactor) -> None:
    bench = Bench(reactor)
    asked, answer = bench.ask(POST)
    bench.run()
    stream, _ = bench.streams[0]
    clumsy = stream.receiver = Clumsy("received")
    asked.put(b"1\r\nx\r\n")
    bench.run()
    assert isinstance(clumsy.broken_off, KeyError)
    assert answer.error is not None
    _, other = bench.ask(GET)
    bench.run()
    bench.streams[1][0].put(OK)
    bench.run()
    assert other.data.endswith(b"ok")
    assert reactor.internal_errors["stream"] == 1
