"""Carriers of two endless bodies, said by hand."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from engine.loop.memory import Memory
from engine.session.liveness import PONG_SECONDS
from engine.wire import posts, yamux
from engine.wire.posts import Hello
from tests.carriers.posting import ID, Poster, poster
from tests.roles import Roles, RunningNode, says, settle

PING = yamux.header(yamux.PING, yamux.SYN, 0, 77)
ANSWER = yamux.header(yamux.PING, yamux.ACK, 0, 77)
HUGE = 256 * 1024 * 1024
MEMORY = 8 * 1024 * 1024  # of the node and the victim's agent together


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def pair(roles: Roles, node: RunningNode, session: str = "") -> tuple[Poster, Poster]:
    """A stream that is open: its way down, and its way up."""
    down, up = await poster(roles, node), await poster(roles, node)
    await up.talk.say(up.head(b"Transfer-Encoding: chunked\r\n") + chunk(posts.encode_up_stream(ID)))
    await settle()
    await down.say(posts.encode_open("stream", ID, Hello(session)))
    assert (await down.talk.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    return down, up


@pytest.mark.parametrize("size", [1, 5, 12, 36])
async def test_what_is_said_in_chunks_of_any_size_is_heard(roles: Roles, size: int) -> None:
    node = await roles.node()
    down, up = await pair(roles, node)
    frames = PING * 3
    await up.talk.say(b"".join(chunk(frames[start : start + size]) for start in range(0, len(frames), size)))
    for _ in range(3):
        await down.talk.until(ANSWER)


@pytest.mark.parametrize("session", ["", "new 30"])
async def test_what_was_said_with_the_first_line_is_heard(roles: Roles, session: str) -> None:
    node = await roles.node()
    down, up = await poster(roles, node), await poster(roles, node)
    await up.talk.say(up.head(b"Transfer-Encoding: chunked\r\n") + chunk(posts.encode_up_stream(ID) + PING))
    await settle()
    await down.say(posts.encode_open("stream", ID, Hello(session)))
    await down.talk.until(ANSWER)


async def test_a_last_chunk_is_a_good_bye_both_ways(roles: Roles) -> None:
    node = await roles.node()
    down, up = await pair(roles, node)
    await up.talk.say(b"0\r\n\r\n")
    await down.talk.until(b"\r\n0\r\n\r\n")
    assert (await up.talk.answer()).status == 200


@pytest.mark.parametrize("damage", [b"zz\r\n", b"5\r\nhello!", b"-1\r\n"])
async def test_a_broken_body_ends_the_stream(roles: Roles, damage: bytes) -> None:
    node = await roles.node()
    down, up = await pair(roles, node)
    await up.talk.say(damage)
    await down.talk.is_over()
    await up.talk.is_over()


@pytest.mark.parametrize("half", [0, 1])
async def test_a_stream_with_one_half_lost_is_lost(roles: Roles, half: int) -> None:
    node = await roles.node()
    both = await pair(roles, node, "new 30")
    await both[half].talk.reset()
    await both[1 - half].talk.is_over()


@pytest.mark.parametrize("session", ["", "new 30"])
@pytest.mark.parametrize("says", ["nothing", "half a chunk", "something else"])
async def test_who_answers_no_ping_is_ended(roles: Roles, mock_clock: MockClock, says: str, session: str) -> None:
    """So is who reads nothing, for the ping waits behind what he does not read."""
    node = await roles.node()
    down, up = await pair(roles, node, session)
    for _ in range(4):
        if says == "half a chunk":
            await up.talk.say(b"c\r\n" + PING[:5])
            says = "nothing"
        elif says == "something else":
            await up.talk.say(chunk(PING))
        await settle()
        mock_clock.jump(PONG_SECONDS / 3)
    await settle()
    await down.talk.is_over()
    await up.talk.is_over()


@pytest.mark.parametrize("session", ["", "new 30"])
async def test_who_reads_nothing_holds_its_client_back_and_nobody_else(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, session: str
) -> None:
    memories = []
    real = Memory.__init__

    def init(self: Memory, limit: int) -> None:
        real(self, limit)
        memories.append(self)

    monkeypatch.setattr(Memory, "__init__", init)
    node = await roles.node()
    await roles.agent(node, await roles.service(says(b"hello")), endpoint="victim")
    down, up = await pair(roles, node, session)
    client, other = await roles.dial(node.proxy), await roles.dial(node.proxy)
    body = bytes(64 * 1024)
    sent = 0

    async def upload() -> None:
        nonlocal sent
        await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n" % HUGE)
        while sent < HUGE:
            await client.say(body)
            sent += len(body)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        await down.talk.until(b"web.test")  # and nothing is read any more
        await up.talk.say(chunk(yamux.header(yamux.WINDOW_UPDATE, 0, 2, HUGE)))
        before = -1
        while sent > before:
            before = sent
            for _ in range(20):
                got = await other.ask(b"GET / HTTP/1.1\r\nHost: victim.test\r\n\r\n")
                assert (got.status, got.body) == (200, b"hello")
                assert sum(memory.used for memory in memories) < MEMORY
        assert 0 < sent < HUGE
        nursery.cancel_scope.cancel()
