"""What one client, or one principal, may ask of a node, and that others are served while it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from engine.config.limits import AgentLimits, ClientLimits
from engine.loop.memory import process_limit
from engine.loop.reactor import CLOCK_SECONDS
from proxy_adapters.proxy_protocol import proxy_header
from tests.carriers.posting import poster
from tests.node.test_tokens import bearer, client_is_told, protected, token
from tests.roles import (
    GET,
    Roles,
    RunningNode,
    Talk,
    agent_config,
    answer,
    echo,
    forward_config,
    server_config,
    settle,
    tell_head,
)

PROJECT = Path(__file__).parents[2]
PIECE = bytes(range(256)) * 256

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


async def test_each_limit_has_a_counter_and_is_in_the_docs(roles: Roles) -> None:
    told = (PROJECT / "docs/security.md").read_text()
    node = await roles.node()
    for port, section in (("proxy", ClientLimits), ("upstream", AgentLimits)):
        for limit in section.__annotations__:
            assert await metric(roles, node, port, limit) == 0
            assert f"`{port}.limits.{limit}`" in told


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
    assert got.values(b"retry-after") == ([b"1"] if limit == "registrations" else [])
    posted = await poster(roles, node, fields=b"Authorization: Bearer " + token(sub="one").encode() + b"\r\n")
    again = await posted.open()
    assert (again.status, again.values(b"retry-after")) == (429, got.values(b"retry-after"))
    await register("other", "theirs")
    assert await client_is_told(roles, node, GET) == (200, "")
    assert await metric(roles, node, "upstream", limit) == 2


async def test_the_streams_of_a_principal_are_counted_in_all_of_its_sessions(roles: Roles) -> None:
    config = protected("upstream")
    config.upstream.limits.streams = 4
    node = await roles.node(config)
    may_answer = trio.Event()

    async def serve(talk: Talk) -> None:
        while True:
            await talk.until(b"\r\n\r\n")
            await may_answer.wait()
            await talk.say(answer(b"done"))

    service = await roles.service(serve)
    for principal, endpoint in (("one", "web"), ("one", "web-2"), ("other", "theirs")):
        agent = agent_config(node.upstream, service, endpoint=endpoint)
        agent.connect.token = token(sub=principal)
        await roles.agent_with(agent)
    waiting = []
    for number in range(4):
        waiting.append(await roles.dial(node.proxy))
        await waiting[-1].say(GET if number % 2 else GET.replace(b"web", b"web-2"))
    await settle()
    for host in (b"web", b"web-2"):
        assert (await (await roles.dial(node.proxy)).ask(GET.replace(b"web", host))).status == 503
    theirs = await roles.dial(node.proxy)
    await theirs.say(GET.replace(b"web", b"theirs"))
    may_answer.set()
    assert [(await client.answer()).status for client in (*waiting, theirs)] == [200] * 5
    assert await metric(roles, node, "upstream", "streams") == 2
    for host in (b"web", b"web-2") * 10:  # streams that wait for a request make room
        assert (await (await roles.dial(node.proxy)).ask(GET.replace(b"web", host))).status == 200


async def test_a_principal_has_a_rate_for_all_endpoints_together(roles: Roles) -> None:
    config = protected("proxy")
    config.proxy.limits.principal_requests = 1
    node = await roles.node(config)
    for endpoint in ("web", "web-2"):
        await roles.agent(node, await roles.service(tell_head), endpoint=endpoint)
    client = await roles.dial(node.proxy)
    one, other = bearer(token(sub="one")), bearer(token(sub="other"))
    for _ in range(5):
        assert (await client.ask(one)).status == 200
        assert (await client.ask(one.replace(b"web", b"web-2"))).status == 200
    refused = await client.ask(one)
    assert (refused.status, refused.values(b"retry-after")) == (429, [b"1"])
    assert (await client.ask(other)).status == 200
    assert await metric(roles, node, "proxy", "principal_requests") == 1


@pytest.mark.parametrize("way", ["port", "websocket", "resumable", "poll", "upgrade"])
async def test_bytes_of_tcp_are_held_back_and_all_arrive(roles: Roles, mock_clock: MockClock, way: str) -> None:
    sent = PIECE * 40
    config = server_config()
    config.proxy.limits.bytes = 2 * len(sent) // 20  # the burst is half of what goes there and comes back
    config.proxy.tcp = [("127.0.0.1:0", "web")]
    node = await roles.node(config)

    async def switch(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n")
        await echo(talk)

    if way == "upgrade":
        await roles.agent(node, await roles.service(switch))
        client = await roles.dial(node.proxy)
        await client.say(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: bytes\r\n\r\n")
        await client.until(b"\r\n\r\n")
    else:
        await roles.agent(node, await roles.service(echo), protocol="tcp")
        if way == "port":
            client = await roles.dial(node.addresses.tcp[0][1])
        else:
            carriers = ["poll"] if way == "poll" else ["websocket"]
            resume = 0 if way == "websocket" else 30
            forward = await roles.forward_with(forward_config(node.proxy, "web", resume=resume, carriers=carriers))
            client = await roles.dial(forward.ports[0][1])
    got = bytearray()

    async def hear() -> None:
        while len(got) < len(sent):
            got.extend(await client.hear())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.say, sent)
        nursery.start_soon(hear)
        seconds = 0.0
        while len(got) < len(sent):
            await settle()
            mock_clock.jump(CLOCK_SECONDS)
            seconds += CLOCK_SECONDS
    assert got == sent
    assert seconds > 5  # of ten: what came last is a debt
    assert await metric(roles, node, "proxy", "bytes") >= 1


async def test_a_tcp_connection_is_one_request(roles: Roles) -> None:
    config = server_config()
    config.proxy.limits.requests = 1
    config.proxy.tcp = [("127.0.0.1:0", "web")]
    node = await roles.node(config)
    await roles.agent(node, await roles.service(echo), protocol="tcp")
    for _ in range(10):
        client = await roles.dial(node.addresses.tcp[0][1])
        await client.say(b"x")
        assert await client.exactly(1) == b"x"
    assert not await (await roles.dial(node.addresses.tcp[0][1])).is_over()
    assert await metric(roles, node, "proxy", "requests") == 1


async def test_what_a_principal_has_waiting_is_bounded_and_another_one_loses_nothing(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            if b" /small " in head:
                await talk.say(answer(b"small"))
                continue
            await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
            while True:
                await talk.say(PIECE)

    config = protected("proxy")
    config.proxy.limits.principal_memory = 2 * len(PIECE) / process_limit()
    node = await roles.node(config)
    await roles.agent(node, await roles.service(serve))
    one, other = (bearer(token(sub=name)) for name in ("one", "other"))
    kept = await roles.dial(node.proxy)
    small = one.replace(b" / ", b" /small ")
    assert (await kept.ask(small)).body == b"small"
    deaf = await roles.dial(node.proxy, buffer=4096)
    await deaf.say(one)
    await settle()
    assert not await deaf.is_over()
    assert await metric(roles, node, "proxy", "principal_memory") == 1
    assert (await kept.ask(small)).body == b"small"  # it has nothing waiting
    assert (await kept.ask(other.replace(b" / ", b" /small "))).body == b"small"
