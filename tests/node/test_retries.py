"""Requests that a node sends once more: by which failures, to whom, and how many."""

from __future__ import annotations

import re

import pytest
import trio

from engine.config import ServerConfig
from engine.gateway.retry import FEW
from tests.peers import DATA, register
from tests.roles import GET, Role, Roles, RunningNode, Talk, answer, says, server_config

POST = b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 5\r\n\r\nhello"
PUT = POST.replace(b"POST", b"PUT")
OK_BODY = b"well"


def retrying(*causes: str, **more: object) -> ServerConfig:
    config = server_config()
    config.proxy.retry.causes = [*causes]
    for name, value in more.items():
        setattr(config.proxy.retry, name, value)
    return config


class Busy:
    """A service that answers 503, and counts how often."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, talk: Talk) -> None:
        while head := await talk.until(b"\r\n\r\n"):
            await talk.exactly(5 * (b"Content-Length" in head))
            self.asked += 1
            await talk.say(answer(b"busy", status=b"503 Service Unavailable"))


async def well(talk: Talk) -> None:
    while head := await talk.until(b"\r\n\r\n"):
        await talk.exactly(5 * (b"Content-Length" in head))
        await talk.say(answer(OK_BODY))


async def crowd(roles: Roles, config: ServerConfig, *services: int) -> tuple[RunningNode, list[Role]]:
    node = await roles.node(config)
    return node, [await roles.agent(node, service) for service in services]


async def counted(roles: Roles, node: RunningNode) -> dict[str, int]:
    """What the metrics say of retries, by cause; `budget`: those that were refused."""
    text = (await (await roles.dial(node.admin)).ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")).body
    found = re.findall(rb'trioduct_(?:retries_total{cause|limited_total{limit)="(\w+)"(?:,port="proxy")?} (\d+)', text)
    return {name.decode(): int(count) for name, count in found if int(count)}


async def test_who_is_busy_is_passed_over(roles: Roles) -> None:
    busy = Busy()
    node, _ = await crowd(roles, retrying("503"), await roles.service(busy), await roles.service(well))
    client = await roles.dial(node.proxy)
    assert {(await client.ask(request)).body for request in (GET, PUT) * 4} == {OK_BODY}
    assert busy.asked == 4
    assert await counted(roles, node) == {"503": 4}
    assert sorted([(await client.ask(POST)).status for _ in range(2)]) == [200, 503]  # which may not be repeated


async def test_who_is_alone_is_asked_once_and_its_answer_passed_on(roles: Roles) -> None:
    busy = Busy()
    node, _ = await crowd(roles, retrying("lost", "503", attempts=5), await roles.service(busy))
    client = await roles.dial(node.proxy)
    got = await client.ask()
    assert (got.status, got.body, busy.asked) == (503, b"busy", 1)


async def test_without_a_key_an_answer_is_an_answer(roles: Roles) -> None:
    node, _ = await crowd(roles, server_config(), await roles.service(Busy()), await roles.service(well))
    client = await roles.dial(node.proxy)
    assert sorted([(await client.ask()).status for _ in range(4)]) == [200, 200, 503, 503]
    assert await counted(roles, node) == {}


async def test_an_agent_whose_service_has_died_is_passed_over(roles: Roles) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    dead = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    node, _ = await crowd(roles, retrying("502"), dead, await roles.service(well))
    client = await roles.dial(node.proxy)
    assert {(await client.ask()).status for _ in range(4)} == {200}
    assert await counted(roles, node) == {"502": 2}


async def test_an_agent_that_vanishes_costs_no_request(roles: Roles) -> None:
    arrived = trio.Event()

    async def never(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        arrived.set()
        await trio.sleep_forever()

    node, agents = await crowd(roles, server_config(), await roles.service(never), await roles.service(well))
    client = await roles.dial(node.proxy)
    await client.say(GET)
    await arrived.wait()
    await agents[0].kill()
    assert (await client.answer()).body == OK_BODY
    assert await counted(roles, node) == {"lost": 1}


@pytest.mark.parametrize("causes", [[], ["timeout", "503"]])
async def test_what_is_lost_is_lost_if_that_is_said(roles: Roles, causes: list[str]) -> None:
    node = await roles.node(retrying(*causes))
    agent = await register(roles, node)
    await roles.agent(node, await roles.service(well))
    client = await roles.dial(node.proxy)
    await client.say(GET)
    await agent.hear_until(DATA, 0)
    await agent.talk.reset()
    assert (await client.answer()).status == 502


async def test_who_does_not_answer_in_time_is_passed_over(roles: Roles) -> None:
    config = retrying("timeout")
    config.proxy.timeout = 0.3

    async def never(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await trio.sleep_forever()

    node, _ = await crowd(roles, config, await roles.service(never), await roles.service(well))
    client = await roles.dial(node.proxy)
    assert [(await client.ask()).body for _ in range(2)] == [OK_BODY] * 2
    assert await counted(roles, node) == {"timeout": 1}


async def test_there_are_few_retries_where_all_are_busy(roles: Roles) -> None:
    first, second = Busy(), Busy()
    services = [await roles.service(one) for one in (first, second)]
    node, _ = await crowd(roles, retrying("503", attempts=3, budget=0.2), *services)
    client = await roles.dial(node.proxy)
    for _ in range(100):
        assert (await client.ask()).status == 503
    retried = first.asked + second.asked - 100
    assert FEW <= retried <= FEW + 20
    figures = await counted(roles, node)
    assert figures["503"] == retried
    assert figures["retries"] > 0


async def test_who_says_what_is_no_http_is_not_passed_over(roles: Roles) -> None:
    node = await roles.node(retrying("502", "503"))
    agent = await register(roles, node)
    await roles.agent(node, await roles.service(says(OK_BODY)))
    client = await roles.dial(node.proxy)
    await client.say(GET)
    heard = await agent.hear_until(DATA, 0)
    await agent.say(DATA, 0, heard.stream, b"nonsense\r\n\r\n")
    assert (await client.answer()).status == 502
