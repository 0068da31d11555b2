"""What one client, or one principal, may ask of a node, and that others are served while it is refused."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from proxy_adapters.proxy_protocol import proxy_header
from tests.node.test_tokens import bearer, client_is_told, protected, token
from tests.roles import GET, Roles, RunningNode, Talk, agent_config, answer, server_config, settle, tell_head

ONE, OTHER = ("192.0.2.7", 4711), ("192.0.2.8", 4711)


async def is_served(client: Talk) -> bool:
    try:
        return (await client.ask()).status == 200
    except (EOFError, trio.BrokenResourceError):
        return False


async def calls(roles: Roles, node: RunningNode, address: tuple[str, int]) -> Talk:
    """A client with another address, which a proxy in front of the node tells."""
    return await roles.dial(node.proxy, before=proxy_header(1, address, ("192.0.2.1", 80)))


async def metric(roles: Roles, node: RunningNode, port: str, limit: str) -> float:
    admin = await roles.dial(node.admin)
    text = (await admin.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")).body.decode()
    name = f'trioduct_limited_total{{limit="{limit}",port="{port}"}} '
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return float(line.removeprefix(name))


async def test_a_client_has_so_many_connections_at_once(roles: Roles) -> None:
    config = server_config()
    config.proxy.trusted_proxies, config.proxy.proxy_protocol = ["127.0.0.1"], True
    config.proxy.limits.connections = 2
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    first, second = [await calls(roles, node, ONE) for _ in range(2)]
    assert await is_served(first)
    assert await is_served(second)
    assert not await is_served(await calls(roles, node, ONE))
    assert await is_served(await calls(roles, node, OTHER))
    await first.close()
    await settle()
    assert await is_served(await calls(roles, node, ONE))
    assert await metric(roles, node, "proxy", "connections") == 1


async def test_a_client_makes_so_many_connections_in_a_time(roles: Roles, mock_clock: MockClock) -> None:
    config = server_config()
    config.proxy.trusted_proxies, config.proxy.proxy_protocol = ["127.0.0.1"], True
    config.proxy.limits.connection_rate = 1
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    for _ in range(10):
        client = await calls(roles, node, ONE)
        assert await is_served(client)
        await client.close()
    assert not await is_served(await calls(roles, node, ONE))
    assert await is_served(await calls(roles, node, OTHER))
    mock_clock.jump(1)
    await settle()
    assert await is_served(await calls(roles, node, ONE))
    assert await metric(roles, node, "proxy", "connection_rate") == 1


async def test_the_proxies_in_front_are_not_limited_themselves(roles: Roles) -> None:
    config = server_config()
    config.proxy.limits.connections = 1
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    assert all([await is_served(await roles.dial(node.proxy)) for _ in range(3)])


async def test_requests_beyond_the_rate_get_429_and_are_told_when_to_come_again(
    roles: Roles, mock_clock: MockClock
) -> None:
    config = protected("proxy")
    config.proxy.limits.requests = 1
    node = await roles.node(config)
    seen = 0

    async def serve(talk: Talk) -> None:
        nonlocal seen
        while True:
            await talk.until(b"\r\n\r\n")
            seen += 1
            await talk.say(answer(b"done"))

    await roles.agent(node, await roles.service(serve))
    client = await roles.dial(node.proxy)
    request = bearer(token(sub="one"))
    assert [(await client.ask(request)).status for _ in range(11)] == [200] * 10 + [429]
    refused = await client.ask(request)
    assert b"\r\nRetry-After: 1\r\n" in refused.head
    assert seen == 10
    assert (await client.ask(bearer(token(sub="other")))).status == 200
    mock_clock.jump(1)
    await settle()
    assert (await client.ask(request)).status == 200
    assert await metric(roles, node, "proxy", "requests") == 2


async def test_bytes_beyond_the_rate_are_missing_for_the_next_request(roles: Roles, mock_clock: MockClock) -> None:
    config = server_config()
    config.proxy.limits.bytes = 1000
    node = await roles.node(config)

    async def serve(talk: Talk) -> None:
        while True:
            await talk.until(b"\r\n\r\n")
            await talk.say(answer(b"x" * 20_000))

    await roles.agent(node, await roles.service(serve))
    client = await roles.dial(node.proxy)
    assert (await client.ask(GET)).status == 200
    refused = await client.ask(GET)
    assert refused.status == 429
    assert b"\r\nRetry-After: 11\r\n" in refused.head
    mock_clock.jump(11)
    await settle()
    assert (await client.ask(GET)).status == 200


@pytest.mark.parametrize("limit", ["sessions", "registrations"])
async def test_a_principal_that_registers_too_much_is_told_and_another_one_is_not(
    roles: Roles, mock_clock: MockClock, limit: str
) -> None:
    config = protected("upstream")
    setattr(config.upstream.limits, limit, 1)
    node = await roles.node(config)
    service = await roles.service(tell_head)

    async def register(principal: str, endpoint: str) -> None:
        agent = agent_config(node.upstream, service, endpoint=endpoint)
        agent.connect.token = token(sub=principal)
        agent.connect.timeout = 0.5
        await roles.agent_with(agent)

    allowed = 1 if limit == "sessions" else 10
    for number in range(allowed):
        await register("one", f"web-{number}" if number else "web")
    peer = await roles.dial(node.upstream)
    got = await peer.ask(
        b"GET /piko/v1/upstream/more HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        + token(sub="one").encode()
        + b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert got.status == 429
    await register("other", "theirs")
    assert await client_is_told(roles, node, GET) == (200, "")
    assert await metric(roles, node, "upstream", limit) == 1
