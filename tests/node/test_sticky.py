"""Clients that come back to the agent which has served them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.node.sticky import rank
from tests.roles import Answer, Role, Roles, RunningNode, agent_config, says, server_config, settle

AGENTS = (b"one", b"two", b"three")


async def crowd(
    roles: Roles, how: str, carriers: Sequence[str] = ("websocket",)
) -> tuple[RunningNode, dict[bytes, Role]]:
    config = server_config()
    config.proxy.sticky = [("w*", how)]
    config.proxy.trusted_proxies = ["127.0.0.1"]
    node = await roles.node(config)
    agents = {}
    for name in AGENTS:
        agents[name] = await roles.agent_with(
            agent_config(node.upstream, await roles.service(says(name)), carriers=carriers)
        )
    return node, agents


async def ask(roles: Roles, node: RunningNode, *fields: bytes, host: bytes = b"web.test") -> Answer:
    client = await roles.dial(node.proxy)
    head = b"GET / HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (host, b"".join(field + b"\r\n" for field in fields))
    return await client.ask(head)


@pytest.mark.parametrize("carriers", [["websocket"], ["stream"]])
async def test_a_cookie_leads_back_and_is_given_once(roles: Roles, carriers: list[str]) -> None:
    node, agents = await crowd(roles, "cookie", carriers=carriers)
    firsts = [await ask(roles, node) for _ in AGENTS]
    assert {one.body for one in firsts} == set(AGENTS)  # who has none is served in turn
    for first in firsts:
        (given,) = first.values(b"set-cookie")
        cookie, _, attributes = given.partition(b"; ")
        assert attributes == b"Path=/; HttpOnly; SameSite=Lax"
        for _ in range(3):
            again = await ask(roles, node, b"Cookie: a=b; " + cookie + b"; trioduct=2")
            assert (again.body, again.values(b"set-cookie")) == (first.body, [])
    last = firsts[-1]
    await agents[last.body].kill()
    await settle()
    other = await ask(roles, node, b"Cookie: " + last.values(b"set-cookie")[0].partition(b";")[0])
    assert other.body != last.body
    assert other.values(b"set-cookie")


@pytest.mark.parametrize("cookie", [b"trioduct-agent=", b"trioduct-agent=0000000000000000", b"=;;=", b"\xff"])
async def test_a_cookie_of_nobody_is_replaced(roles: Roles, cookie: bytes) -> None:
    node, _ = await crowd(roles, "cookie")
    got = await ask(roles, node, b"Cookie: " + cookie)
    assert len(got.values(b"set-cookie")) == 1


async def test_a_cookie_is_for_tls_where_the_client_has_it(roles: Roles) -> None:
    config = server_config()
    config.proxy.sticky, config.proxy.public_url = [("web", "cookie")], "https://*.test"
    node = await roles.node(config)
    await roles.agent(node, await roles.service(says(b"one")))
    (given,) = (await ask(roles, node)).values(b"set-cookie")
    assert given.endswith(b"; Secure")


async def test_an_address_leads_back_and_who_is_not_concerned_stays(roles: Roles) -> None:
    node, agents = await crowd(roles, "client")
    clients = [b"X-Forwarded-For: 192.0.2.%d" % number for number in range(24)]
    before = {client: (await ask(roles, node, client)).body for client in clients}
    assert set(before.values()) == set(AGENTS)
    assert before == {client: (await ask(roles, node, client)).body for client in clients}
    await agents[b"two"].kill()
    await settle()
    for client, body in before.items():
        got = (await ask(roles, node, client)).body
        assert got != b"two"
        assert got == body or body == b"two"


async def test_other_endpoints_take_turns(roles: Roles) -> None:
    config = server_config()
    config.proxy.sticky = [("shop", "client")]
    node = await roles.node(config)
    for name in AGENTS:
        await roles.agent(node, await roles.service(says(name)))
    assert {(await ask(roles, node)).body for _ in AGENTS} == set(AGENTS)


@pytest.mark.parametrize("carriers", [["websocket"], ["poll"]])
async def test_agents_have_their_shares_and_a_standby_keeps_whom_it_has(roles: Roles, carriers: list[str]) -> None:
    config = server_config()
    config.proxy.sticky = [("web", "cookie")]
    node = await roles.node(config)
    agents = {}
    for name, weight in ((b"two", 2), (b"one", 1), (b"none", 0)):
        agent = agent_config(node.upstream, await roles.service(says(name)), carriers=carriers)
        agent.listeners[0].weight = weight
        agents[name] = await roles.agent_with(agent)
    bodies = [(await ask(roles, node)).body for _ in range(6)]
    assert (bodies.count(b"two"), bodies.count(b"one")) == (4, 2)
    for name in (b"one", b"two"):
        agents[name].tell_to_stop()
        await agents[name].ended.wait()
    standby = await ask(roles, node)
    assert standby.body == b"none"
    await roles.agent_with(agent_config(node.upstream, await roles.service(says(b"new")), carriers=carriers))
    assert (await ask(roles, node)).body == b"new"
    (cookie,) = standby.values(b"set-cookie")
    assert (await ask(roles, node, b"Cookie: " + cookie.partition(b";")[0])).body == b"none"


def test_ranks_give_shares_and_a_standby_none() -> None:
    weights = {b"a": 3, b"b": 1, b"c": 0}
    clients = [f"10.0.{number >> 8}.{number & 255}" for number in range(1000)]
    best = [max(weights, key=lambda agent: rank(client, agent, weights[agent])) for client in clients]
    assert (round(best.count(b"a"), -2), best.count(b"c")) in ((700, 0), (800, 0))
    heavier = [
        max(weights, key=lambda agent: rank(client, agent, weights[agent] + (agent == b"a"))) for client in clients
    ]
    assert all(then == b"a" for now, then in zip(best, heavier, strict=True) if now != then)


def test_ranks_are_spread() -> None:
    best = [max((b"a", b"b", b"c"), key=lambda agent: rank(f"10.0.0.{number}", agent)) for number in range(255)]
    assert all(60 < best.count(agent) < 110 for agent in (b"a", b"b", b"c"))
