"""A service that is not well is withdrawn, and comes back by itself."""

from __future__ import annotations

import json
from io import StringIO

import pytest
import trio
from trio.testing import MockClock

from engine import log
from engine.config import AgentConfig, HealthConfig
from tests.programs import free_port
from tests.roles import GET, Roles, RunningNode, Talk, agent_config, answer, echo, settle, values_of


class Sick:
    """A service whose health is what a test says."""

    def __init__(self) -> None:
        self.answer: bytes | None = answer()  # to a check; None: no answer
        self.asked: list[bytes] = []
        self.go_on = trio.Event()

    async def serve(self, talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            if b"/health" in head:
                self.asked.append(head)
                if self.answer is None:
                    await trio.sleep_forever()
                await talk.say(self.answer)
                return
            if b"/slow" in head:
                await self.go_on.wait()
            await talk.say(answer(b"here"))


async def later(clock: MockClock, seconds: float) -> None:
    await settle()
    clock.jump(seconds)
    await settle()


def config_for(node: RunningNode, service: int, health: HealthConfig, protocol: str = "http") -> AgentConfig:
    config = agent_config(node.upstream, service, protocol=protocol)
    config.listeners[0].health, config.listeners[0].timeout = health, 60
    config.server.enabled, config.server.bind_addr = True, f"127.0.0.1:{free_port()}"
    return config


async def status(node: RunningNode, roles: Roles) -> int:
    return (await (await roles.dial(node.proxy)).ask(GET)).status


HTTP = HealthConfig(check="http", path="/health?deep", interval=10, timeout=5, unhealthy_after=2, healthy_after=2)


@pytest.mark.parametrize("ill", [answer(status=b"503 Down"), b"no HTTP\r\n\r\n", b"", None], ids=repr)
async def test_a_service_is_withdrawn_after_failures_in_a_row_and_returns_after_passes(
    roles: Roles, mock_clock: MockClock, ill: bytes | None
) -> None:
    service, lines = Sick(), StringIO()
    node = await roles.node()
    config = config_for(node, await roles.service(service.serve), HTTP)
    await roles.agent_with(config)
    log.configure("info", (), lines)
    assert await status(node, roles) == 200
    assert service.asked[0].startswith(b"GET /health?deep HTTP/1.1\r\nHost: 127.0.0.1:")
    service.answer = ill
    for expected in (200, 502, 502):
        await later(mock_clock, 10)
        await later(mock_clock, 5)  # of no effect on who has answered
        assert await status(node, roles) == expected
    admin = int(config.server.bind_addr.rpartition(":")[2])
    told = await (await roles.dial(admin)).ask(b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert told.status == 503
    assert b"unhealthy, so not offered: web at http://127.0.0.1:" in told.body
    service.answer = answer(status=b"302 Found")
    for expected in (502, 200):
        await later(mock_clock, 10)
        assert await status(node, roles) == expected
    told = await (await roles.dial(admin)).ask(b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert told.status == 200
    log.flush()
    said = [line for line in map(json.loads, lines.getvalue().splitlines()) if line.get("subsystem") == "health"]
    assert [line["msg"] for line in said] == ["service unhealthy, withdrawn", "service healthy, offered again"]
    assert said[0]["endpoint-id"] == "web"
    assert said[0]["error"]


async def test_what_is_under_way_when_a_service_is_withdrawn_is_finished(roles: Roles, mock_clock: MockClock) -> None:
    service = Sick()
    node = await roles.node()
    await roles.agent_with(config_for(node, await roles.service(service.serve), HTTP))
    client = await roles.dial(node.proxy)
    await client.say(b"GET /slow HTTP/1.1\r\nHost: web.test\r\n\r\n")
    await settle()
    service.answer = answer(status=b"500 No")
    await later(mock_clock, 10)
    await later(mock_clock, 10)
    assert await status(node, roles) == 502
    service.go_on.set()
    assert (await client.answer()).body == b"here"


async def test_who_is_not_well_at_the_start_is_offered_when_it_is(roles: Roles, mock_clock: MockClock) -> None:
    node, number = await roles.node(), free_port()
    health = HealthConfig(check="tcp", interval=10)
    await roles.agent_with(config_for(node, number, health, "tcp"))  # which has started, and offers nothing
    forward = await roles.forward(node, "web")
    assert not await (await roles.dial(forward.ports[0][1])).is_over()
    await roles.service(echo, port=number)
    await later(mock_clock, 10)
    client = await roles.dial(forward.ports[0][1])
    await client.say(b"hello")
    assert await client.exactly(5) == b"hello"


async def test_an_agent_leaves_while_its_service_is_withdrawn(roles: Roles) -> None:
    node = await roles.node()
    agent = await roles.agent_with(config_for(node, free_port(), HealthConfig(check="tcp")))
    agent.tell_to_stop()
    await agent.ended.wait()


@pytest.mark.parametrize("check", ["http", "tcp"])
async def test_a_service_that_leaves_the_end_to_others_is_well(roles: Roles, mock_clock: MockClock, check: str) -> None:
    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            await talk.say(answer(b"here"))
            if values_of(head, b"user-agent") == [b"trioduct"]:
                await trio.sleep_forever()

    node = await roles.node()
    health = HealthConfig(check=check, interval=10, timeout=5, unhealthy_after=1)  # type: ignore[arg-type]
    await roles.agent_with(config_for(node, await roles.service(serve), health))
    for _ in range(2):
        await later(mock_clock, 10)
        await later(mock_clock, 5)
        assert await status(node, roles) == 200


async def test_checks_are_counted(roles: Roles, mock_clock: MockClock) -> None:
    service = Sick()
    node = await roles.node()
    config = config_for(node, await roles.service(service.serve), HTTP)
    await roles.agent_with(config)
    service.answer = answer(status=b"404 Not Found")
    await later(mock_clock, 10)
    await later(mock_clock, 10)
    talk = await roles.dial(int(config.server.bind_addr.rpartition(":")[2]))
    await talk.say(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    text = (await talk.rest()).decode()
    named = f'endpoint="web",service="http://{config.listeners[0].addr}"'
    assert f"trioduct_service_healthy{{{named}}} 0.0" in text
    assert f'trioduct_service_checks_total{{endpoint="web",result="failed",{named[15:]}}} 2.0' in text
    assert values_of(service.asked[0], b"connection") == [b"close"]
