"""Sessions whose connection is cut, again and again: no byte is lost, none comes twice, and requests wait a moment."""

from __future__ import annotations

import hashlib

import pytest
import trio

from perf.topologies.cutter import Cutter
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
    values_of,
)


async def behind_a_cutter(
    roles: Roles, node: RunningNode, service: int, *, kind: str, protocol: str = "http"
) -> Cutter:
    """An agent that reaches the node through a cutter."""
    cutter = Cutter(node.upstream)
    port = await roles.nursery.start(cutter.run)
    await roles.agent_with(agent_config(port, service, protocol=protocol, carriers=[kind], resume=30))
    return cutter


@pytest.mark.parametrize("kind", ["websocket", "stream", "poll"])
async def test_requests_do_not_notice_that_the_connection_is_cut(roles: Roles, kind: str) -> None:
    node = await roles.node()
    cutter = await behind_a_cutter(roles, node, await roles.service(says(b"hello")), kind=kind)
    client = await roles.dial(node.proxy)
    for _ in range(20):
        for _ in range(5):
            assert (await client.ask()).status == 200
        cutter.cut()
    assert cutter.opened >= 20


@pytest.mark.parametrize("kind", ["websocket", "stream", "poll"])
async def test_a_body_of_many_megabytes_arrives_whole_over_twenty_connections(roles: Roles, kind: str) -> None:
    size, cuts = 40_000_000, 20

    async def digest(talk: Talk) -> None:
        head = await talk.until(b"\r\n\r\n")
        left, hashed = int(values_of(head, b"content-length")[0]), hashlib.sha256()
        while left:
            data = await talk.hear()
            hashed.update(data)
            left -= len(data)
        await talk.say(answer(hashed.hexdigest().encode()))

    node = await roles.node()
    cutter = await behind_a_cutter(roles, node, await roles.service(digest), kind=kind)
    client = await roles.dial(node.proxy)
    body = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(size // 32))
    await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n" % len(body))
    step = len(body) // cuts
    for start in range(0, len(body), step):
        await client.say(body[start : start + step])
        cutter.cut()
    assert (await client.answer()).body == hashlib.sha256(body).hexdigest().encode()
    assert cutter.opened > 10


@pytest.mark.parametrize("kind", ["websocket", "stream", "poll"])
async def test_a_stream_of_numbers_goes_both_ways_across_cuts(roles: Roles, kind: str) -> None:
    node = await roles.node()
    cutter = await behind_a_cutter(roles, node, await roles.service(echo), protocol="tcp", kind=kind)
    second = Cutter(node.proxy)
    port = await roles.nursery.start(second.run)
    forward = await roles.forward_with(forward_config(port, "web", carriers=[kind], resume=30))
    client = await roles.dial(forward.ports[0][1])
    numbers = b"".join(b"%09d\n" % number for number in range(500_000))

    async def say() -> None:
        for start in range(0, len(numbers), 250_000):
            await client.say(numbers[start : start + 250_000])
            cutter.cut()
            await trio.sleep(0.01)
            second.cut()
            await trio.sleep(0.01)
        await client.finish()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say)
        assert await client.rest() == numbers
    assert cutter.opened > 5
    assert second.opened > 5


@pytest.mark.parametrize("kind", ["websocket", "stream", "poll"])
async def test_a_request_waits_until_the_connection_is_back(roles: Roles, kind: str) -> None:
    node = await roles.node()
    cutter = await behind_a_cutter(roles, node, await roles.service(says(b"hello")), kind=kind)
    client = await roles.dial(node.proxy)
    assert (await client.ask()).status == 200
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            assert (await client.ask()).body == b"hello"

        with cutter.away():
            nursery.start_soon(ask)
            await trio.sleep(0.3)


@pytest.mark.parametrize("back", ["another agent", "nobody"])
async def test_a_request_that_waits_for_an_agent_is_served_by_the_first_that_comes(roles: Roles, back: str) -> None:
    config = server_config()
    config.upstream.resume = 1.5 if back == "nobody" else 30
    node = await roles.node(config)
    cutter = await behind_a_cutter(roles, node, await roles.service(says(b"old")), kind="websocket")
    client = await roles.dial(node.proxy)
    assert (await client.ask()).body == b"old"
    got = []

    async def ask() -> None:
        got.append(await client.ask())

    with cutter.away():
        await trio.sleep(0.3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.2)
            assert not got
            if back == "another agent":
                await roles.agent(node, await roles.service(says(b"new")))
    assert [(one.status, one.body.strip()) for one in got] == (
        [(200, b"new")] if back == "another agent" else [(502, b'{"error":"no available upstreams"}')]
    )
