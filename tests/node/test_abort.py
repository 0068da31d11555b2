"""Answers that break off: whoever was to get one can see that it is not whole, every time."""

from __future__ import annotations

import pytest
import trio

from tests.roles import GET, Roles, Service, Talk, settle

TIMES = 100
HEADS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "inside a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhello",
    "until the end": b"HTTP/1.1 200 OK\r\n\r\nhello",
}


def breaks_off(said: bytes, how: str) -> Service:
    """A service that says so much and then goes away."""

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(said)
        if how == "RST":
            await talk.reset()
        else:
            await talk.finish()
            await talk.is_over()

    return serve


@pytest.mark.parametrize("how", ["RST", "FIN"])
@pytest.mark.parametrize("framing", ["length", "chunks", "inside a chunk"])
async def test_a_service_that_dies_inside_its_answer_is_seen_to(roles: Roles, framing: str, how: str) -> None:
    node = await roles.tunnel(breaks_off(HEADS[framing], how))
    for _ in range(TIMES):
        client = await roles.dial(node.proxy)
        await client.say(GET)
        # A reset, and not an end that some client might take for the end of the answer.
        assert not await client.is_over()


async def test_an_answer_that_ends_with_its_connection_is_whole_after_a_fin_and_broken_after_a_reset(
    roles: Roles,
) -> None:
    fin = await roles.tunnel(breaks_off(HEADS["until the end"], "FIN"))
    reset = await roles.tunnel(breaks_off(HEADS["until the end"], "RST"))
    for _ in range(TIMES):
        client = await roles.dial(fin.proxy)
        await client.say(GET)
        await client.until(b"\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"5\r\nhello\r\n0\r\n\r\n"
        client = await roles.dial(reset.proxy)
        await client.say(GET)
        assert not await client.is_over()


@pytest.mark.parametrize("framing", ["chunks", "until the end"])
async def test_a_client_that_knows_no_chunks_sees_the_difference_by_a_reset(roles: Roles, framing: str) -> None:
    node = await roles.tunnel(breaks_off(HEADS[framing], "RST"))
    for _ in range(TIMES):
        client = await roles.dial(node.proxy)
        await client.say(b"GET / HTTP/1.0\r\nHost: web.test\r\n\r\n")
        assert not await client.is_over()


@pytest.mark.parametrize("victim", ["agent", "node"])
async def test_a_role_that_dies_inside_an_answer_breaks_it(roles: Roles, victim: str) -> None:
    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(HEADS["chunks"])
        await talk.is_over()

    node = await roles.node()
    agent = await roles.agent(node, await roles.service(serve))
    client = await roles.dial(node.proxy)
    await client.say(GET)
    await client.until(b"hello")
    await (agent if victim == "agent" else node).kill()
    assert not await client.is_over()


@pytest.mark.parametrize("begun", [True, False])
async def test_an_answer_that_turns_out_to_be_none_is_broken_off_or_replaced(roles: Roles, begun: bool) -> None:
    has_begun = trio.Event()

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(HEADS["chunks"] if begun else HEADS["chunks"] + b"0x5\r\n")
        await has_begun.wait()
        await talk.say(b"0x5\r\nhello\r\n0\r\n\r\n")
        await talk.is_over()

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(GET)
    if begun:
        await client.until(b"hello\r\n")
        has_begun.set()
        assert not await client.is_over()
    else:
        assert (await client.answer()).status == 502


@pytest.mark.parametrize("how", ["reset", "finish"])
@pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n8\r\n"])
async def test_a_client_that_dies_inside_its_body_breaks_the_request(roles: Roles, framing: bytes, how: str) -> None:
    heard, is_hello = trio.open_memory_channel[bytes](0)
    ends = []

    async def serve(talk: Talk) -> None:
        await heard.send(await talk.until(b"hello"))
        ends.append(await talk.is_over())

    node = await roles.tunnel(serve)
    for _ in range(20):
        client = await roles.dial(node.proxy)
        await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\n" + framing + b"hello")
        await is_hello.receive()
        await getattr(client, how)()
    await settle()
    assert ends == [False] * 20


async def test_a_client_that_dies_at_once_leaves_no_request_open(roles: Roles) -> None:
    asked, ends = [], []

    async def serve(talk: Talk) -> None:
        if head := await talk.hear():
            asked.append(head)
            ends.append(await talk.is_over())

    node = await roles.tunnel(serve)
    for how in ("reset", "finish") * 20:
        client = await roles.dial(node.proxy)
        await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 10\r\n\r\nhello")
        await getattr(client, how)()  # mostly while the agent is dialling the service
    await settle()
    assert ends == [False] * len(asked)
