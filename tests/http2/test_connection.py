"""A connection: how it begins and ends, and what of the other end it hears. node/test_http2.py has the attacks."""

from __future__ import annotations

import math

import pytest
from hyperframe.frame import GoAwayFrame, SettingsFrame

from engine.http2.connection import HELD_BYTES, MAX_STREAMS, STREAM_WINDOW, WINDOW, Timeouts
from engine.loop.reactor import Reactor
from tests.http2.bench import Bench
from tests.http2.test_stream import GET, OK, POST


async def test_a_client_opens_as_many_streams_as_the_server_has_said(reactor: Reactor) -> None:
    bench = Bench(reactor)
    bench.run()
    room = []
    for _ in range(MAX_STREAMS):
        bench.ask(GET)
        room.append(bench.client.has_room)
    assert room == [True] * (MAX_STREAMS - 1) + [False]
    bench.run()
    assert len(bench.streams) == MAX_STREAMS
    bench.streams[0][0].put(OK)
    bench.streams[0][0].close()
    bench.run()
    assert bench.client.has_room


async def test_who_leaves_finishes_what_is_under_way(reactor: Reactor) -> None:
    bench = Bench(reactor)
    asked, answer = bench.ask(GET)
    bench.run()
    bench.server.leave()
    bench.run()
    assert not bench.client.has_room
    assert [bench.far.closed] == [False]
    stream, _ = bench.streams[0]
    stream.put(OK)
    stream.close()
    bench.run()
    assert answer.data.endswith(b"ok")
    assert bench.far.closed
    asked.close()
    assert bench.near.closed
    assert set(bench.reasons) == {""}


async def test_who_asks_a_server_that_leaves_may_ask_elsewhere(reactor: Reactor) -> None:
    bench = Bench(reactor)
    bench.run()
    bench.ask(GET)
    bench.run()
    bench.server.leave()
    _, late = bench.ask(GET)
    reactor.flush()
    goaway = bench.far.take_said()
    bench.far.hear(bench.near.take_said())
    reactor.flush()
    bench.near.hear(bench.far.take_said())
    assert str(late.error) == "reset: REFUSED_STREAM"
    bench.near.hear(goaway)
    assert not bench.client.has_room
    assert len(bench.streams) == 1


async def test_what_a_leaving_server_has_not_looked_at_is_lost_at_once(reactor: Reactor) -> None:
    bench = Bench(reactor)
    bench.run()
    _, first = bench.ask(GET)
    bench.run()
    _, second = bench.ask(GET)
    bench.near.hear(GoAwayFrame(0, last_stream_id=1).serialize())
    assert first.error is None
    assert str(second.error) == "the service is leaving"


async def test_an_end_of_the_connection_is_one_of_its_streams(reactor: Reactor) -> None:
    bench = Bench(reactor)
    _, answer = bench.ask(GET)
    bench.run()
    bench.near.hear_reset()
    bench.far.hear_end()
    assert answer.error is not None
    assert bench.streams[0][1].error is not None
    assert bench.client.over
    assert bench.server.over


async def test_what_is_no_http2_ends_it_with_a_reason(reactor: Reactor) -> None:
    bench = Bench(reactor)
    bench.run()
    bench.near.hear(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert bench.reasons == ["protocol"]
    assert bench.near.closed
    assert b"a frame of" in bench.near.said


@pytest.mark.parametrize("split", range(1, 33))
async def test_frames_come_in_any_pieces(reactor: Reactor, split: int) -> None:
    bench = Bench(reactor)
    bench.ask(GET)
    reactor.flush()
    said = bench.near.take_said()
    for start in range(0, len(said), split):
        bench.far.hear(said[start : start + split])
    assert bytes(bench.streams[0][1].data) == GET


async def test_the_connection_waits_when_too_much_is_held_for_all_of_its_streams(reactor: Reactor) -> None:
    bench = Bench(reactor)
    bench.run()
    streams = 2 * HELD_BYTES // STREAM_WINDOW
    data = b"x" * STREAM_WINDOW
    for _ in range(streams):
        asked, _ = bench.ask(POST)
        bench.run()
        bench.streams[-1][0].pause()
        asked.put(b"%x\r\n" % len(data), data, b"\r\n")
        bench.run()
    assert HELD_BYTES <= bench.far.account.used <= HELD_BYTES + WINDOW + 64 * 1024
    for stream, _ in bench.streams:
        stream.resume()
    bench.run()
    assert sum(ear.data.count(b"x") for _, ear in bench.streams) == streams * STREAM_WINDOW


async def test_a_peer_that_takes_nothing_is_not_listened_to(reactor: Reactor) -> None:
    bench = Bench(reactor)
    bench.run()
    bench.far.full = True
    bench.far.said = b"x" * 300_000
    bench.far.hear(SettingsFrame(0).serialize() * 2)
    assert (bench.far.paused, len(bench.far.held)) == (True, 9)
    bench.far.said = b""
    bench.far.drain()
    assert not bench.far.paused
    assert not bench.far.held


async def test_time_is_up(reactor: Reactor) -> None:
    bench = Bench(reactor, timeouts=Timeouts(10.0, 20.0, math.inf))
    bench.run()
    bench.far.hear(SettingsFrame(0).serialize()[:5])
    reactor.now += 11.0
    bench.server.expired()
    assert bench.reasons == ["slow_head"]
    idle = Bench(reactor, timeouts=Timeouts(10.0, 20.0, math.inf))
    idle.run()
    reactor.now += 21.0
    idle.server.expired()
    assert idle.reasons == [""]
    assert idle.far.closed


async def test_a_stalled_stream_is_reset_and_no_other(reactor: Reactor) -> None:
    bench = Bench(reactor, timeouts=Timeouts(math.inf, math.inf, 5.0))
    bench.ask(GET)
    bench.ask(GET)
    bench.run()
    (stalled, ear), (other, _) = bench.streams
    bench.client.streams[1].pause()
    stalled.put(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x" * 1_000_000)
    bench.run()
    reactor.now += 6.0
    bench.server.expired()
    assert isinstance(ear.error, TimeoutError)
    assert bench.reasons == ["stalled"]
    other.put(OK)
    bench.run()
    assert not bench.far.closed
