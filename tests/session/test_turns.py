"""A session shares the loop: what it is sent is taken in turns, and what is left comes again in its order."""

from __future__ import annotations

import pytest
import trio

from engine.loop.reactor import Reactor
from engine.session.stream import Stream
from engine.wire import yamux
from engine.wire.yamux import DATA, SYN, WINDOW_UPDATE, header
from tests.loop.ends import Ear, run_both
from tests.session.peer import Peer


class Slow(Ear):
    """Uses up a turn now and then."""

    def __init__(self, reactor: Reactor, *, takes: int | None = None) -> None:
        super().__init__(takes=takes)
        self._reactor = reactor

    def received(self, data: memoryview) -> int:
        if self.calls % 50 == 0:
            while not self._reactor.over():
                pass
        return super().received(data)


@pytest.mark.parametrize("agent", [True, False], ids=["agent", "node"])
@pytest.mark.parametrize("size", [1, 5, 64])
@pytest.mark.parametrize("takes", [None, 3])
@pytest.mark.parametrize("messages", [1, 7])
async def test_many_small_frames_are_taken_in_several_turns_and_none_is_lost_or_out_of_order(
    reactor: Reactor, nursery: trio.Nursery, agent: bool, size: int, takes: int | None, messages: int
) -> None:
    peer = Peer(agent=agent)
    ear = Slow(reactor, takes=takes)
    if agent:
        peer.session._on_stream = lambda stream: setattr(stream, "receiver", ear)
    else:
        peer.session.open().receiver = ear
    nursery.start_soon(peer.session.run)
    frames, said = [], b""
    for number in range(1000):
        payload = (b"%d," % number).ljust(size, b".")[:size]
        said += payload
        frames.append(header(DATA, SYN if agent and not number else 0, 2, len(payload)) + payload)
    step = len(frames) // messages + 1
    for at in range(0, len(frames), step):
        await peer.say(*frames[at : at + step])
    assert await ear.heard(len(said)) == said
    peer.connection.abort()
    peer.sock.close()


async def test_who_asks_for_little_is_served_between_the_turns_of_a_flooded_session(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
    peer = Peer(agent=True)
    flooded = Slow(reactor)
    peer.session._on_stream = lambda stream: setattr(stream, "receiver", flooded)
    near, _, far, _ = await run_both(nursery)
    nursery.start_soon(peer.session.run)
    seen: list[int] = []

    class Beside(Ear):
        def received(self, data: memoryview) -> int:
            seen.append(len(flooded.data))
            return super().received(data)

    near.receiver = Beside()
    await peer.say(header(WINDOW_UPDATE, SYN, 2, 0), *[header(DATA, 0, 2, 1) + b"x"] * 2000)
    far.put(b"x")
    await flooded.heard(2000)
    assert seen
    assert seen[0] < 1000, "it did not wait for the end of the flood"
    peer.connection.abort()
    peer.sock.close()


async def test_streams_of_one_session_share_its_turns(reactor: Reactor, nursery: trio.Nursery) -> None:
    """One stream's receiver takes a little at a time, and what it holds up is its own."""
    peer = Peer(agent=True)
    ears: dict[int, Ear] = {2: Slow(reactor, takes=1), 4: Ear()}
    peer.session._on_stream = lambda stream: setattr(stream, "receiver", ears[stream.id])
    nursery.start_soon(peer.session.run)
    size = 2000
    await peer.say(header(DATA, SYN, 2, size) + b"x" * size, header(DATA, SYN, 4, 1) + b"y")
    await ears[4].heard(1)
    assert len(ears[2].data) < size
    assert await ears[2].heard(size) == b"x" * size
    assert peer.connection.account.used == 0
    peer.connection.abort()
    peer.sock.close()


async def test_what_a_paused_stream_holds_is_its_window_at_most(reactor: Reactor, nursery: trio.Nursery) -> None:
    peer = Peer(agent=True)
    ear = Ear(takes=0)

    def take(stream: Stream) -> None:
        stream.receiver = ear
        stream.pause()

    peer.session._on_stream = take
    nursery.start_soon(peer.session.run)
    window = yamux.INITIAL_WINDOW
    await peer.say(header(DATA, SYN, 2, window) + b"x" * window)
    await peer.hear()
    assert peer.connection.account.used == window
    ear.takes = None
    peer.session.mux.streams[2].resume()
    await ear.heard(window)
    assert peer.connection.account.used == 0
    peer.connection.abort()
    peer.sock.close()
