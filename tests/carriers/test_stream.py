"""Carriers of two endless bodies, said by hand."""

from __future__ import annotations

import pytest

from engine.wire import posts, yamux
from engine.wire.posts import Hello
from tests.carriers.posting import ID, Poster, poster
from tests.roles import Roles, RunningNode, settle

PING = yamux.header(yamux.PING, yamux.SYN, 0, 77)
ANSWER = yamux.header(yamux.PING, yamux.ACK, 0, 77)


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
