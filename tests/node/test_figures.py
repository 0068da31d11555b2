"""A node reads itself: what its sessions and metrics know, and how much of it comes a second."""

from __future__ import annotations

import trio

from engine import __version__
from engine.admin.metrics import NodeMetrics
from engine.admin.reading import MOST_ROWS, Reading
from engine.node.figures import Figures
from engine.node.node import Node
from tests.agent.proxies import Proxy
from tests.roles import GET, Roles, Talk, agent_config, answer, settle, values_of


async def serve(talk: Talk) -> None:
    """500 for what is asked for by PUT."""
    while True:
        head = await talk.until(b"\r\n\r\n")
        await talk.say(answer(b"x" * 1000, status=b"500 Oh" if head.startswith(b"PUT") else b"200 OK"))


async def test_what_agents_and_clients_do_is_read(roles: Roles, nodes: list[Node]) -> None:
    running = await roles.node()
    (node,) = nodes
    service = await roles.service(serve)
    first = await node.figures.read()
    assert (first.seconds, first.session_count, first.endpoint_count, first.kinds) == (0.0, 0, 0, [])
    await roles.agent_with(agent_config(running.upstream, service, carriers=["websocket"]))
    await roles.agent_with(agent_config(running.upstream, service, carriers=["poll"]))
    client = await roles.dial(running.proxy)
    for request in (GET, GET, GET.replace(b"GET", b"PUT"), GET.replace(b"web", b"nobody")):
        await client.ask(request)
    await settle()
    seen, _ = await node.read()
    assert seen.seconds > 0
    assert round(seen.requests * seen.seconds) == 4
    assert round(seen.failing * seen.seconds) == 2
    assert sum(seen.latencies) == 4
    assert seen.session_count == 2
    assert {row.carrier for row in seen.sessions} == {"websocket", "poll"}
    for row in seen.sessions:
        assert (row.endpoint, row.client, row.version, row.way) == ("web", "127.0.0.1", __version__, "direct")
        assert row.round_trip > 0
        assert row.bytes_out > 0
    (endpoint,) = seen.endpoints
    assert (endpoint.endpoint, endpoint.sessions, endpoint.served, endpoint.failed) == ("web", 2, 3, 1)
    assert round(endpoint.bytes_out) == round(sum(row.bytes_out for row in seen.sessions))
    assert {(row.group, row.kind, row.total) for row in seen.kinds} == {("answer", "500", 1), ("answer", "502", 1)}
    quiet, _ = await node.read()
    assert (quiet.requests, quiet.endpoints[0].requests, quiet.endpoints[0].served) == (0.0, 0.0, 3)


async def test_a_session_that_ends_is_counted_and_read_no_more(roles: Roles, nodes: list[Node]) -> None:
    running = await roles.node()
    agent = await roles.agent(running, await roles.service(serve))
    (node,) = nodes
    assert (await node.figures.read()).session_count == 1
    await agent.kill()
    while (seen := await node.figures.read()).session_count:  # noqa: ASYNC110
        await trio.sleep(0.01)
    assert (seen.ended, seen.endpoints) == (1, [])


async def test_thousands_of_endpoints_are_a_hundred_rows() -> None:
    metrics = NodeMetrics()
    endpoints = {f"e{number}": 1 for number in range(5000)}
    metrics.endpoints = lambda: endpoints
    seen: Reading = await Figures((), metrics).read()
    assert (len(seen.endpoints), seen.endpoint_count) == (MOST_ROWS, 5000)


async def test_the_way_out_is_told_by_the_kinds_of_its_proxies(roles: Roles, nodes: list[Node]) -> None:
    running = await roles.node()
    proxy = await roles.service(Proxy("user:password").http)
    config = agent_config(running.upstream, await roles.service(serve))
    config.connect.proxy.url = [f"http://user:password@127.0.0.1:{proxy}"]
    await roles.agent_with(config)
    (row,) = (await nodes[0].figures.read()).sessions
    assert row.way == "http"


async def test_a_session_that_goes_on_elsewhere_is_told_anew(roles: Roles, nodes: list[Node]) -> None:
    running = await roles.node()

    async def register(wish: bytes, about: bytes) -> tuple[Talk, bytes]:
        agent = await roles.dial(running.upstream)
        await agent.say(
            b"GET /piko/v1/upstream/web HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"X-Trioduct-Session: %b\r\nX-Trioduct-Agent: %b\r\n\r\n" % (wish, about)
        )
        return agent, await agent.until(b"\r\n\r\n")

    agent, head = await register(b"new 60", b"1.0 direct 0123456789abcdef")
    await settle()
    (before,) = (await nodes[0].figures.read()).sessions
    assert (before.version, before.way, before.suspended) == ("1.0", "direct", False)
    await agent.reset()
    await settle()
    (lost,) = (await nodes[0].figures.read()).sessions
    assert lost.suspended
    _, head = await register(
        b"resume %b 1 0" % values_of(head, b"x-trioduct-session")[0].split()[1], b"2.0 http 0123456789abcdef"
    )
    assert head.startswith(b"HTTP/1.1 101")
    await settle()
    (after,) = (await nodes[0].figures.read()).sessions
    assert (after.id, after.version, after.way, after.resumptions) == (before.id, "2.0", "http", 1)
