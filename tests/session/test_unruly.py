"""Sessions with peers that misbehave: blind pongs, pings without reading, resets, too many streams."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from engine.carriers.websocket import MAX_OWED
from engine.errors import WebSocketError, YamuxError
from engine.loop.memory import Overdrawn
from engine.loop.reactor import Reactor
from engine.session import session as session_module
from engine.session.liveness import MAX_RESETS, PING_SECONDS, PONG_SECONDS
from engine.session.session import NoStream
from engine.wire import mux, yamux
from engine.wire.yamux import ACK, PING, RST, SYN, WINDOW_UPDATE, header
from tests.loop.ends import LARGE, Ear
from tests.session.peer import Peer


async def test_pings_carry_values_that_nobody_can_guess(reactor: Reactor, nursery: trio.Nursery) -> None:
    values: list[int] = []
    for _ in range(8):
        peer = Peer(agent=True)
        nursery.start_soon(peer.session.run)
        values += await peer.pings()
        peer.connection.abort()
        peer.sock.close()
    assert len(values) == 8
    assert len(set(values)) == 8
    assert max(values) > 1 << 24


async def test_a_pong_that_answers_nothing_keeps_no_session_alive(
    reactor: Reactor, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = Peer(agent=True)
    nursery.start_soon(peer.session.run)
    [value] = await peer.pings()
    for _ in range(int(PONG_SECONDS)):
        await peer.say(header(PING, ACK, 0, value ^ 1))
        await trio.sleep(1.1)
    assert isinstance(peer.session.error, TimeoutError)
    peer.sock.close()


async def test_who_answers_is_asked_again_later(
    reactor: Reactor, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = Peer(agent=True)
    nursery.start_soon(peer.session.run)
    values = []
    for _ in range(3):
        asked = await peer.pings()
        assert len(asked) == 1
        values += asked
        await peer.say(header(PING, ACK, 0, asked[0]))
        await trio.sleep(PING_SECONDS + 1)
    assert peer.session.alive
    assert len(set(values)) == 3
    peer.connection.abort()
    peer.sock.close()


@pytest.mark.parametrize("kind", ["yamux", "WebSocket"])
async def test_who_asks_and_asks_and_reads_nothing_is_ended_with_nothing_kept(
    reactor: Reactor, nursery: trio.Nursery, kind: str
) -> None:
    peer = Peer(agent=False, stingy=True)
    nursery.start_soon(peer.session.run)
    stream = peer.session.open()
    stream.put(LARGE)
    await trio.testing.wait_all_tasks_blocked()
    assert peer.connection.backlog
    for _ in range(MAX_OWED // 100 + 1):
        if kind == "yamux":
            await peer.say(header(PING, SYN, 0, 1) * 100)
        else:
            await peer.ping(b"x" * 125, 100)
        await trio.testing.wait_all_tasks_blocked()
    assert isinstance(peer.session.error, YamuxError if kind == "yamux" else WebSocketError)
    assert not peer.connection.alive
    assert (peer.connection.account.used, reactor.memory.used) == (0, 0)
    peer.sock.close()


@pytest.mark.parametrize("kind", ["yamux", "WebSocket"])
async def test_who_reads_may_ask_as_often_as_he_likes(reactor: Reactor, nursery: trio.Nursery, kind: str) -> None:
    peer = Peer(agent=False)
    nursery.start_soon(peer.session.run)
    for _ in range(MAX_OWED // 20):
        if kind == "yamux":
            await peer.say(header(PING, SYN, 0, 1) * 100)
        else:
            await peer.ping(b"x" * 125, 100)
        await peer.hear()
    assert peer.session.alive
    peer.connection.abort()
    peer.sock.close()


async def test_an_agent_that_resets_more_streams_than_clients_give_up_is_ended(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
    peer = Peer(agent=False)
    nursery.start_soon(peer.session.run)
    ears = []
    for _ in range(MAX_RESETS + 1):
        ears.append(Ear())
        peer.session.open().receiver = ears[-1]
    resets = [header(WINDOW_UPDATE, RST, 2 * number, 0) for number in range(1, MAX_RESETS + 2)]
    await peer.say(*resets[:-1])
    await peer.hear()
    alive = peer.session.alive
    await peer.say(resets[-1])
    heard = await peer.hear()
    assert alive
    assert isinstance(peer.session.error, YamuxError)
    assert (mux.WENT_AWAY, yamux.PROTOCOL_ERROR) in heard
    assert peer.closed is not None
    assert all(ear.error is not None for ear in ears)
    peer.sock.close()


@pytest.mark.interpreted
async def test_no_more_streams_are_opened_than_may_live_at_once(
    reactor: Reactor, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "MAX_STREAMS", 5)
    peer = Peer(agent=False)
    nursery.start_soon(peer.session.run)
    streams = [peer.session.open() for _ in range(5)]
    with pytest.raises(NoStream):
        peer.session.open()
    streams[2].abort()
    peer.session.open()
    peer.connection.abort()
    with pytest.raises(NoStream):
        peer.session.open()
    peer.sock.close()


@pytest.mark.interpreted
async def test_no_more_streams_are_accepted_than_may_live_at_once(
    reactor: Reactor, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "MAX_STREAMS", 5)
    peer = Peer(agent=True)
    taken: list[int] = []
    peer.session._on_stream = lambda stream: taken.append(stream.id)
    nursery.start_soon(peer.session.run)
    await peer.say(*[header(WINDOW_UPDATE, SYN, 2 * number, 0) for number in range(1, 8)])
    heard = await peer.hear()
    reset = [stream_id for what, stream_id in heard if what == mux.RESET]
    assert (len(taken), sorted(taken + reset)) == (5, [2, 4, 6, 8, 10, 12, 14])
    assert peer.session.alive
    peer.connection.abort()
    peer.sock.close()


async def test_who_would_keep_more_for_a_peers_windows_than_an_account_holds_ends_and_no_other_stream(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
    peer = Peer(agent=False)
    nursery.start_soon(peer.session.run)
    ears = [Ear(), Ear()]
    streams = [peer.session.open() for _ in ears]
    for stream, ear in zip(streams, ears, strict=True):
        stream.receiver = ear
    peer.connection.account.limit = len(LARGE)
    for stream in streams:
        stream.put(LARGE)
    streams[1].put(b"dropped")
    streams[1].end()
    await ears[1].is_over()
    assert isinstance(ears[1].error, Overdrawn)
    assert (peer.session.alive, ears[0].error, streams[1].gone) == (True, None, True)
    assert peer.connection.account.used == streams[0].backlog
    peer.connection.abort()
    peer.sock.close()
