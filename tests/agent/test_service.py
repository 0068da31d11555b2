"""An agent and the service beside it: how it is reached, and how many connections to it are kept, how long."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import MockClock

from engine.agent.http import SWEEP_SECONDS
from tests.roles import GET, Roles, Talk, agent_config, answer, settle, tell_head


@pytest.mark.parametrize("base", ["", "/", "/base", "/base/"])
async def test_a_url_may_have_a_path_that_every_target_is_put_behind(roles: Roles, base: str) -> None:
    node = await roles.node()
    await roles.agent_with(agent_config(node.upstream, f"http://127.0.0.1:{await roles.service(tell_head)}{base}"))
    client = await roles.dial(node.proxy)
    seen = await client.ask(b"GET /a?b=/c HTTP/1.1\r\nHost: web.test\r\n\r\n")
    assert seen.body.split()[1].decode() == base.rstrip("/") + "/a?b=/c"


class Crowd:
    """A service that answers when so many wait for it, so that each needs a connection of its own."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting = 0
        self.connections = 0
        self._full = trio.Event()

    async def serve(self, talk: Talk) -> None:
        self.connections += 1
        try:
            while True:
                await talk.until(b"\r\n\r\n")
                self.waiting += 1
                if self.waiting == self.size:
                    self._full.set()
                await self._full.wait()
                await talk.say(answer(b"ok"))
        finally:
            self.connections -= 1


@pytest.mark.parametrize(("max_idle", "kept"), [(3, 3), (-1, 10)])
async def test_idle_connections_are_kept_as_many_and_as_long_as_configured(
    roles: Roles, mock_clock: MockClock, max_idle: int, kept: int
) -> None:
    crowd = Crowd(10)
    node = await roles.node()
    config = agent_config(node.upstream, await roles.service(crowd.serve))
    config.listeners[0].http_client.max_idle_conns = max_idle
    config.listeners[0].http_client.idle_conn_timeout = 50
    await roles.agent_with(config)

    async def ask() -> None:
        assert (await (await roles.dial(node.proxy)).ask()).body == b"ok"

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert crowd.connections == 10
    for _ in range(4):
        mock_clock.jump(SWEEP_SECONDS + 0.5)
        await settle()
    assert crowd.connections == kept
    mock_clock.jump(50)
    await settle()
    mock_clock.jump(SWEEP_SECONDS + 0.5)
    await settle()
    assert crowd.connections == 0
    await ask()


async def test_a_service_that_does_not_take_the_connection_is_a_504(roles: Roles, mock_clock: MockClock) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for sock in (first, second):  # more than its queue holds, so that the next one is not even refused
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        node = await roles.node()
        await roles.agent(node, full.getsockname()[1])
        client = await roles.dial(node.proxy)
        await client.say(GET)
        await settle()
        mock_clock.jump(10.5)
        got = await client.answer()
    assert (got.status, got.body) == (504, b'{"error":"upstream timeout"}\n')


async def test_a_service_that_comes_back_is_found(roles: Roles) -> None:
    node = await roles.node()
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        number = reserved.getsockname()[1]
    await roles.agent(node, number)
    client = await roles.dial(node.proxy)
    assert (await client.ask()).status == 502
    await roles.service(tell_head, port=number)
    assert (await client.ask()).status == 200


async def test_metrics_are_served_if_that_is_wanted(roles: Roles) -> None:
    node = await roles.node()
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        number = reserved.getsockname()[1]
    config = agent_config(node.upstream, await roles.service(tell_head))
    config.server.enabled, config.server.bind_addr = True, f"127.0.0.1:{number}"
    await roles.agent_with(config)
    await (await roles.dial(node.proxy)).ask()
    client = await roles.dial(number)
    await client.say(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert b'piko_agent_requests_total{endpoint="web",method="GET",status="200"} 1.0' in await client.rest()
