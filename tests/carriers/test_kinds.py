"""Each kind of carrier, between a node and an agent: requests, bodies, TCP, and the end."""

from __future__ import annotations

import hashlib

import pytest
import trio

from tests.roles import (
    Roles,
    RunningNode,
    Talk,
    agent_config,
    answer,
    echo,
    forward_config,
    says,
    server_config,
    settle,
    values_of,
)

KINDS = ["websocket", "stream", "poll"]


async def tunnel(roles: Roles, kind: str, serve: object, *, protocol: str = "http", resume: float = 30) -> RunningNode:
    node = await roles.node()
    service = await roles.service(serve)  # type: ignore[arg-type]
    await roles.agent_with(agent_config(node.upstream, service, protocol=protocol, carriers=[kind], resume=resume))
    return node


async def digest(talk: Talk) -> None:
    """A service that answers with the hash of each body."""
    while True:
        head = await talk.until(b"\r\n\r\n")
        left, hashed = int(values_of(head, b"content-length")[0]), hashlib.sha256()
        while left:
            data = await talk.exactly(min(left, 65536))
            hashed.update(data)
            left -= len(data)
        await talk.say(answer(hashed.hexdigest().encode()))


@pytest.mark.parametrize("resume", [0, 30])
@pytest.mark.parametrize("kind", KINDS)
async def test_requests_are_answered(roles: Roles, kind: str, resume: float) -> None:
    node = await tunnel(roles, kind, says(b"hello"), resume=resume)
    client = await roles.dial(node.proxy)
    for _ in range(100):
        assert (await client.ask()).body == b"hello"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_body_arrives_whole(roles: Roles, kind: str) -> None:
    node = await tunnel(roles, kind, digest)
    client = await roles.dial(node.proxy)
    body = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(1_000_000))
    for _ in range(2):
        await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n" % len(body))
        await client.say(body)
        assert (await client.answer()).body == hashlib.sha256(body).hexdigest().encode()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_answer_arrives_whole(roles: Roles, kind: str) -> None:
    body = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(1_000_000))
    node = await tunnel(roles, kind, says(body))
    client = await roles.dial(node.proxy)
    for _ in range(2):
        assert (await client.ask()).body == body


@pytest.mark.parametrize("resume", [0, 30])
@pytest.mark.parametrize("kind", KINDS)
async def test_tcp_goes_both_ways_at_once(roles: Roles, kind: str, resume: float) -> None:
    node = await tunnel(roles, kind, echo, protocol="tcp")
    forward = await roles.forward_with(forward_config(node.proxy, "web", carriers=[kind], resume=resume))
    client = await roles.dial(forward.ports[0][1])
    numbers = b"".join(b"%09d\n" % number for number in range(300_000))

    async def say() -> None:
        await client.say(numbers)
        await client.finish()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say)
        assert await client.rest() == numbers


@pytest.mark.parametrize("kind", KINDS)
async def test_an_agent_that_stops_is_gone_at_once(roles: Roles, kind: str) -> None:
    node = await tunnel(roles, kind, says(b"hello"))
    client = await roles.dial(node.proxy)
    assert (await client.ask()).status == 200
    roles.running[-1].tell_to_stop()
    await roles.running[-1].ended.wait()
    await settle()
    assert (await client.ask()).status == 502


@pytest.mark.parametrize("kind", KINDS)
async def test_a_node_that_stops_is_found_again(roles: Roles, kind: str) -> None:
    node = await tunnel(roles, kind, says(b"hello"))
    node.tell_to_stop()
    await node.ended.wait()
    config = server_config()
    config.upstream.bind_addr = f"127.0.0.1:{node.upstream}"
    again = await roles.node(config)
    client = await roles.dial(again.proxy)
    for _ in range(1000):  # the agent says nothing to a test
        if (await client.ask()).status == 200:
            return
        await trio.sleep(0.01)
    raise AssertionError("the agent did not come back")
